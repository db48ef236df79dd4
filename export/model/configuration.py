"""Reads a transformers configuration so that nothing in it is overlooked."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mesp.runtime.account import check_integer, check_number, shown
from mesp.runtime.errors import UsageError

_LARGEST = 1 << 24  # no width, vocabulary or length is near it; a damaged one would take all memory

# Fields of every configuration that change neither the model nor its gradients: names and versions, what a call returns, how weights are
# initialized, and token ids, which are the tokenizer's and the generation's.
WITHOUT_EFFECT = frozenset(
    (
        "transformers_version",
        "architectures",
        "output_hidden_states",
        "return_dict",
        "dtype",
        "id2label",
        "label2id",
        "problem_type",
        "initializer_range",
        "use_cache",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
    )
)


class Configuration:
    """A transformers configuration that is being read.

    A family takes the fields that it uses, names those that do not matter for it, and ends with ``finish``, which refuses every other
    field that is not at its default. Keys of a config.json that are no fields of the configuration's class have no effect in transformers,
    but for ``quantization_config``, which ``read_config`` refuses.
    """

    def __init__(self, config: Any):
        self.whole = config  # for transformers' own functions
        self.used: set[str] = set()
        self.ignored = set(WITHOUT_EFFECT)

    def __getitem__(self, name: str) -> Any:
        """A field's value; it counts as used."""
        self.used.add(name)
        return getattr(self.whole, name)

    def get(self, name: str) -> Any:
        """The same for what not every configuration has: None if it is not there."""
        self.used.add(name)
        return getattr(self.whole, name, None)

    def size(self, name: str, most: int = _LARGEST) -> int:
        """A field that is a whole number above 0.

        Raises:
            UsageError: it is something else.
        """
        return check_integer(name, self[name], 1, most)

    def number(self, name: str) -> float:
        """A field that is a finite number above 0.

        Raises:
            UsageError: it is something else.
        """
        return check_number(name, self[name])

    def ignore(self, *names: str) -> None:
        """These fields do not matter, whatever they are."""
        self.ignored.update(names)

    def expect(self, name: str, expected: Any, why: str) -> None:
        """A field that there are programs for with one value alone.

        Raises:
            UsageError: it has another value.
        """
        if (value := self[name]) != expected:
            raise UsageError(f"{name} {shown(value)} is not supported: {why}. Supported: {expected}.")

    def finish(self) -> None:
        """To be called when everything is read.

        Raises:
            UsageError: fields that nobody accounted for and that are not at their defaults.
        """
        default = type(self.whole)()
        left = {field.name for field in fields(self.whole)} - self.used - self.ignored
        refuse_unknown(
            self.whole.model_type,
            {name: getattr(self.whole, name) for name in sorted(left) if _differs(self.whole, default, name)},
        )


def refuse_unknown(what: str, found: Mapping[str, Any]) -> None:
    """Raises UsageError that names what is not understood, if anything is not."""
    if found:
        named = ", ".join(f"{name} = {shown(value)}" for name, value in found.items())
        raise UsageError(
            f"The configuration of this {what} has settings that there are no programs for: {named}. "
            "Use a model without them; a model that is computed otherwise would be trained wrongly."
        )


def _differs(config: Any, default: Any, name: str) -> bool:
    return bool(getattr(config, name) != getattr(default, name, None))
