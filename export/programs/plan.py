"""What programs depend on, the plan, and what they are: functions of named arguments.

A program's arguments say where they come from: a value of the schedule, or a slice of a stored tensor (``stored``), so that the schedule only
names values. Results that are adapter gradients say likewise where they go.

Programs are of two kinds. A *tile* program takes the whole sequence and a tile of a layer's width. A *row* program takes ``rows`` tokens and the
whole width: norms, embedding, both ends of the head. Its arguments that have a row for each token are ``by_rows``, and the schedule cuts
them. So its results are small, and it serves sequences of every length.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import FFN, Architecture
from ..model.quantize import Fp32, WeightFormat

F32 = torch.float32


@dataclass(frozen=True)
class Argument:
    """One input or output of a program; ``stored`` is None for a value that the schedule passes.

    Args:
        by_rows: of a row program: the part that belongs to its rows
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = F32
    stored: Reference | None = None
    by_rows: bool = False


class Arguments(dict[str, Tensor]):
    """The inputs of a program's body by name."""

    def weight(self, projection: str, fmt: WeightFormat) -> Tensor:
        """The projection's frozen weight, dequantized."""
        return fmt.dequantize({part: self[f"{projection}.{part}"] for part in fmt.part_names})


@dataclass(frozen=True)
class Program:
    """A traceable function of named tensors."""

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    body: Callable[[Arguments], tuple[Tensor, ...]]
    decompositions: Mapping[Any, Callable[..., Tensor]] = field(
        default_factory=dict
    )  # for tracing a body that differentiates

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eagerly, in the precision of the inputs."""
        results = self.body(Arguments(inputs))
        return {output.name: result for output, result in zip(self.outputs, results, strict=True)}


@dataclass(frozen=True)
class TileGroup:
    """``count`` tiles of ``width`` that start at ``first``. A range that the width does not divide has a second group of one narrower tile."""

    suffix: str
    first: int
    count: int
    width: int


def tile_groups(total: int, width: int) -> tuple[TileGroup, ...]:
    """Cuts 0 .. total into tiles of ``width`` and, if needed, a rest."""
    width = min(width, total)
    whole, rest = divmod(total, width)
    groups = [TileGroup("", 0, whole, width)]
    if rest:
        groups.append(TileGroup("_rest", whole * width, 1, rest))
    return tuple(groups)


@dataclass(frozen=True)
class Tiling:
    """Tile sizes: rows of a block of queries, width of a feed-forward tile, rows of a vocabulary tile, tokens of a row program."""

    query_rows: int = 64
    ffn: int = 256
    vocabulary: int = 384  # what an export has if nobody chooses: ``workspace.with_chosen_tiles``
    rows: int = 64


@dataclass(frozen=True)
class AdapterLayout:
    """Where the adapter's tensors lie in a layer's vector: for each target its A [in, R], then its B [out, R]."""

    architecture: Architecture
    targets: tuple[str, ...]
    rank: int
    layers: int  # the topmost, which have adapters

    @property
    def first_layer(self) -> int:
        """The lowest layer with an adapter."""
        return self.architecture.layers - self.layers

    def of_layer(self, tensor: str, offset: int = 0) -> Reference:
        """A place in the vector of the layer that a loop is at, in a tensor that has one for each layer with an adapter."""
        return Reference(tensor, offset - self.first_layer * self.size, {"layer": self.size})

    def tensors(self) -> Iterator[tuple[str, str, int, tuple[int, int]]]:
        """(projection, lora_a or lora_b, offset in elements, shape) in order."""
        offset = 0
        for projection in self.targets:
            for factor, rows in zip(("lora_a", "lora_b"), self.architecture.shape(projection), strict=True):
                yield projection, factor, offset, (rows, self.rank)
                offset += rows * self.rank

    @property
    def size(self) -> int:
        """Elements of a layer."""
        return sum(sum(self.architecture.shape(projection)) for projection in self.targets) * self.rank

    @property
    def parts(self) -> int:
        """Equal parts that a layer's vector is updated in: the results of an optimizer's program are as large as a part."""
        return next(parts for parts in range(16, 0, -1) if self.size % parts == 0)

    def place(self, projection: str, factor: str) -> Reference:
        """A whole factor's in ``gradient``."""
        return Reference("gradient", next(o for p, f, o, _ in self.tensors() if (p, f) == (projection, factor)))

    def slice_of(self, tensor: str, projection: str, factor: str, group: TileGroup | None = None) -> Argument:
        """The whole factor, or the rows of it that belong to a tile, in ``adapter`` (all layers) or ``gradient`` (one layer)."""
        offset, (rows, rank) = next((o, s) for p, f, o, s in self.tensors() if (p, f) == (projection, factor))
        strides = {}
        if group:
            rows, offset = group.width, offset + group.first * rank
            strides["tile"] = rows * rank
        prefix, stored = "grad.", Reference(tensor, offset, strides)
        if tensor == "adapter":
            prefix, stored = "", self.of_layer(tensor, offset)
            stored = replace(stored, strides={**stored.strides, **strides})
        return Argument(f"{prefix}{projection}.{factor}", (rows, rank), stored=stored)


@dataclass(frozen=True)
class Plan:
    """Everything the programs depend on.

    Args:
        lengths: the sequence lengths that there are programs for, ascending
        offload: block inputs are kept in a file
        head_rows: numbers of targets that there are programs of the head for, beside the lengths
        block_inputs: the dtype in which block inputs are kept
    """

    architecture: Architecture
    lengths: tuple[int, ...]
    rank: int
    targets: tuple[str, ...]
    weights: WeightFormat
    tiling: Tiling
    layers: int  # with an adapter, the topmost
    method: str = "mesp"  # of ``methods.METHODS``
    offload: bool = False
    head_rows: tuple[int, ...] = ()
    block_inputs: torch.dtype = F32

    @property
    def packs_block_inputs(self) -> bool:
        """They are kept in another dtype than programs compute in."""
        return self.block_inputs != F32

    @property
    def tokens(self) -> int:
        """The longest sequence."""
        return self.lengths[-1]

    def at(self, tokens: int) -> "Plan":
        """The plan of one length."""
        return replace(self, lengths=(tokens,))

    @property
    def adapter(self) -> AdapterLayout:
        return AdapterLayout(self.architecture, self.targets, self.rank, self.layers)

    @property
    def quantized_tables(self) -> bool:
        """The embedding and the head are int8 with a scale a row unless the weights are fp32."""
        return not isinstance(self.weights, Fp32)

    @property
    def query_rows(self) -> int:
        return min(self.tiling.query_rows, self.tokens)

    def heads(self) -> tuple[TileGroup, ...]:
        """Key-value heads: tiles of one head each."""
        return (TileGroup("", 0, self.architecture.K, 1),)

    def ffn(self) -> tuple[TileGroup, ...]:
        return tile_groups(self.architecture.F, self.tiling.ffn)

    def vocabulary(self) -> TileGroup:
        """Tiles of one width: what the last one has too much is filled with rows of zeros, which ``table.padding`` takes out of the softmax."""
        width = min(self.tiling.vocabulary, self.architecture.V)
        return TileGroup("", 0, -(-self.architecture.V // width), width)

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the stored tables."""
        return self.vocabulary().count * self.vocabulary().width

    def rows(self) -> tuple[TileGroup, ...]:
        """Tokens: the tiles of the row programs."""
        return tile_groups(self.tokens, self.tiling.rows)

    def groups(self, projection: str) -> tuple[TileGroup, ...]:
        """The tiles that a projection is cut into."""
        return self.ffn() if projection in FFN else self.heads()

    def targeted(self, *projections: str) -> tuple[str, ...]:
        return tuple(projection for projection in projections if projection in self.targets)

    def tile_range(self, projection: str, group: TileGroup) -> TileGroup:
        """The group in the elements of the projection's tiled axis: a tile of heads is C or G C of them wide."""
        unit = {
            "q_proj": self.architecture.G * self.architecture.C,
            "o_proj": self.architecture.G * self.architecture.C,
        }
        unit |= {"k_proj": self.architecture.C, "v_proj": self.architecture.C}
        factor = unit.get(projection, 1)
        return TileGroup(group.suffix, group.first * factor, group.count, group.width * factor)


def length_name(name: str, tokens: int) -> str:
    """What a program, or a schedule, for so many tokens is called in a bundle."""
    return f"{name}.{tokens}"
