"""Every tensor that a checkpoint stores, accounted for against its configuration."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mesp.runtime.account import Account
from mesp.runtime.errors import UsageError

from .architecture import Architecture

_ADVICE = "A model with more parts than its configuration tells of would be computed wrongly: use one without them."


@dataclass(frozen=True)
class Stored:
    """A tensor as a file tells of it before it is read."""

    shape: tuple[int, ...]
    dtype: str  # as the format names it


def check_tensors(
    origin: str,
    architecture: Architecture,
    stored: Mapping[str, Stored],
    dtypes: Collection[str],
    names: Mapping[str, str] | None = None,
    without_effect: Collection[str] = (),
) -> None:
    """That the architecture's tensors are there in their shapes and in types that are read, and no others.

    Args:
        origin: of the checkpoint, for messages
        stored: all tensors of its files, by their names there
        dtypes: the types that are read
        names: the architecture's names to those of the files, where they differ
        without_effect: patterns of names that do not matter

    Raises:
        UsageError: names the tensor.
    """
    account = Account(origin, stored)
    missing = []
    for name, shape in architecture.tensors():
        found = account.take(names[name] if names else name)
        if found is None:
            missing.append(name)
        elif found.dtype not in dtypes:
            raise UsageError(
                f"{origin}: tensor {name} is stored as {found.dtype}, which is not read: these are a quantized model's codes, or numbers of "
                f"another precision. Expected {', '.join(sorted(dtypes))}: use the model before it was quantized, or a GGUF file of it."
            )
        elif found.shape != shape:
            raise UsageError(
                f"{origin}: tensor {name} is {list(found.shape)}, but its configuration asks for {list(shape)}."
            )
    account.ignore(*without_effect)
    if missing:
        left = account.left()
        instead = f" It has tensors that no configuration of it tells of, such as {left[0]}." if left else ""
        raise UsageError(f"{origin} has no tensor {missing[0]}, which its configuration asks for.{instead}")
    account.finish("tensors that mesp does not know", _ADVICE)
