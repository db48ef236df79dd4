"""What a person chooses of a bundle: one definition, from which the command line, the Python API and the manifest follow.

A field's name is the option's, with underscores, and the manifest's ``plan`` holds all of them as they are. What each does is in its
metadata, for ``--help``.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mesp.runtime.account import check_names
from mesp.runtime.errors import UsageError

ALL = ("all",)
METHODS = ("mesp", "mebp", "store-h", "mezo")
WEIGHTS = ("int4", "int8", "fp32")
GROUP_SIZES = (32, 64)
# In which block inputs can be kept. ExecuTorch's programs take and give bfloat16 too, but its Java API has no tensor of it.
BLOCK_INPUTS = ("float32", "float16")
OFFLOAD = ("inputs",)


@dataclass(frozen=True)
class Tiling:
    """Tile sizes: rows of a block of queries, width of a feed-forward tile, rows of a vocabulary tile, tokens of a row program. An export
    chooses the last two if nobody does: ``workspace.with_chosen_tiles``."""

    query_rows: int = 64
    ffn: int = 256
    vocabulary: int = 384
    rows: int = 64


def _choice(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class ExportSettings:
    """The choices of an export.

    Raises:
        UsageError: a choice that no model can have; names the option, what it is and what it must be.
    """

    seq_len: tuple[int, ...] = _choice(
        (256,),
        "tokens of a sequence; several lengths share the weights, and a row runs in the smallest that holds it",
        metavar="N[,N…]",
    )
    head_rows: tuple[int, ...] = _choice(
        (),
        "also let the head run on so few rows alone, where a sequence has no more targets, as in chats; "
        "with several lengths it does on each shorter one's; on all rows if not given",
        metavar="N[,N…]",
        rare=True,
    )
    rank: int = _choice(8, "rank of the adapters")
    alpha: float = _choice(16.0, "adapters are scaled by alpha / rank")
    targets: tuple[str, ...] = _choice(
        ALL,
        "projections that get an adapter: all, or some of the model's, such as q_proj,v_proj",
        metavar="NAME[,NAME…]",
    )
    layers: int | None = _choice(
        None, "adapters in the N topmost blocks alone, all if not given; backward stops there", metavar="N"
    )
    method: str = _choice("mesp", "how gradients are computed; the others to compare with", choices=METHODS, rare=True)
    offload: str | None = _choice(
        None,
        "keep the blocks' inputs in a file: written once and read once a step; in memory if not given",
        choices=OFFLOAD,
    )
    block_inputs: str = _choice(
        "float32",
        "dtype of the blocks' inputs that are kept: float16 halves them, and gradients are no longer exact",
        choices=BLOCK_INPUTS,
        rare=True,
    )
    weights: str = _choice("int4", "format of the frozen projections", choices=WEIGHTS)
    group_size: int = _choice(32, "inputs that share an int4 scale", choices=GROUP_SIZES, rare=True)
    seed: int = _choice(0, "of the adapter's initial values, and of random weights", rare=True)
    tiling: Tiling | None = field(default=None, metadata={})  # chosen from the shapes; no option of the command line

    def __post_init__(self) -> None:
        """Checks what can be checked without a model. A number or a name may stand for one of several, and a list for a tuple."""
        for setting in fields(self):
            object.__setattr__(self, setting.name, _value(setting, getattr(self, setting.name)))
        for name in ("method", "weights", "group_size", "block_inputs", "offload"):
            choices, value = self.__dataclass_fields__[name].metadata["choices"], getattr(self, name)
            if value is not None and value not in choices:
                expected = ", ".join(map(str, choices))
                raise UsageError(f"{option(name)} {value} is not one of {expected}.")
        if self.rank < 1:
            raise UsageError(f"--rank {self.rank} is no rank: it must be at least 1.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(f"--alpha {self.alpha} is no scale: it must be a positive number.")
        if not self.seq_len:
            raise UsageError("No --seq-len: at least one length is needed, such as 256.")
        if not self.targets:
            raise UsageError("No --targets: at least one projection needs an adapter, such as q_proj.")
        for rows in self.head_rows:
            if not 1 <= rows < max(self.seq_len):
                raise UsageError(
                    f"--head-rows {rows} is not between 1 and {max(self.seq_len) - 1}: the longest sequence has all of its own."
                )
        if self.method == "mezo" and self.offload:
            raise UsageError("mezo keeps no block inputs, so there is nothing to offload. Leave --offload out.")
        if self.method == "mezo" and self.block_inputs != "float32":
            raise UsageError("mezo keeps no block inputs, in whatever dtype. Leave --block-inputs out.")

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(json: Mapping[str, Any]) -> "ExportSettings":
        """From a manifest's ``plan``."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in json.items()
        }
        tiling = values.pop("tiling")
        return ExportSettings(**values, tiling=Tiling(**tiling) if tiling else None)


def settings_of(values: Mapping[str, Any], where: str) -> ExportSettings:
    """Settings from values by name.

    Args:
        where: who was given them, for messages

    Raises:
        UsageError: a name that is no setting, with the one that comes nearest, or a value that it cannot have.
    """
    check_names(values, [field.name for field in fields(ExportSettings)], where)
    return ExportSettings(**values)


def _value(setting: Any, value: Any) -> Any:
    """A value as the setting's type has it."""
    several = setting.type in (tuple[int, ...], tuple[str, ...])
    kind = {tuple[int, ...]: int, tuple[str, ...]: str, int | None: int, str | None: str}.get(
        setting.type, setting.type
    )
    if value is None and setting.default is None:
        return None
    items = value if several and isinstance(value, list | tuple) else (value,)
    right = int | float if kind is float else kind
    if not all(isinstance(item, right) and not isinstance(item, bool) for item in items):
        words = {int: "whole number", float: "number", str: "text"}.get(kind, "Tiling")
        raise UsageError(f"{setting.name} {value!r} must be a {words}{', or a list of them' if several else ''}.")
    return tuple(items) if several else value


def option(name: str) -> str:
    """The command line's name of a setting."""
    return "--" + name.replace("_", "-")
