"""Where the adapter's tensors lie in memory.

A layer's adapter is one vector: for each targeted projection its A [in, R], then its B [out, R], in the order of the data. The adapter is
the vectors of all layers that have one, from the lowest layer up. Gradients and optimizer states lie alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import Architecture, Columns, Layer, Projection, Segment
from .program import Argument, OfAdapter
from .tiles import TileGroup

FACTORS = ("lora_a", "lora_b")


@dataclass(frozen=True)
class Factor:
    """A or B of a projection's adapter: ``rows`` of R elements, from element ``offset`` of its layer's vector on."""

    projection: Projection
    name: str  # of FACTORS
    offset: int
    rows: int


@dataclass(frozen=True)
class AdapterLayout:
    """The adapter of a plan.

    Args:
        targets: names of the projections that have one
        rank: R
        first_layer: the lowest layer with an adapter; all above it have one too
    """

    architecture: Architecture
    targets: tuple[str, ...]
    rank: int
    first_layer: int

    def factors(self, layer: Layer) -> Iterator[Factor]:
        """The tensors of a layer's vector, in order."""
        offset = 0
        for projection in (projection for sublayer in layer for projection in sublayer.projections):
            if projection.name in self.targets:
                for name, rows in zip(FACTORS, (projection.inputs, projection.outputs), strict=True):
                    yield Factor(projection, name, offset, rows)
                    offset += rows * self.rank

    def size_of(self, layer: Layer) -> int:
        """Elements of a layer's vector."""
        return sum(factor.rows for factor in self.factors(layer)) * self.rank

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The element at which each layer's vector begins, of the layers with an adapter; and where the last one ends."""
        starts = [0]
        for layer in self.architecture.layers[self.first_layer :]:
            starts.append(starts[-1] + self.size_of(layer))
        return tuple(starts)

    @property
    def elements(self) -> int:
        """Of all layers."""
        return self.starts[-1]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of vector that there are, in the order in which they come first."""
        return tuple(dict.fromkeys(self.size_of(layer) for layer in self.architecture.layers[self.first_layer :]))

    @property
    def longest(self) -> int:
        """The longest vector of a layer."""
        return max(self.sizes)

    def start(self, layer: int) -> int:
        """The element of the adapter at which the layer's vector begins."""
        return self.starts[layer - self.first_layer]

    def vector_program(self, name: str, size: int) -> str:
        """What a program on a layer's vector of this length is called."""
        return name if len(self.sizes) == 1 else f"{name}_{size}"

    @staticmethod
    def parts(size: int) -> int:
        """Equal parts that a vector is updated in: the results of an optimizer's program are as large as a part."""
        return next(parts for parts in range(16, 0, -1) if size % parts == 0)

    def factor(self, layer: Layer, projection: str, name: str) -> Factor:
        """The one of this name."""
        return next(f for f in self.factors(layer) if (f.projection.name, f.name) == (projection, name))

    def columns_of(self, tensor: str, columns: Columns, group: TileGroup) -> Argument:
        """The rows of B that belong to a tile's columns of a projection into a sublayer, in ``adapter`` or ``gradient``."""
        rows = self.slice_of(tensor, columns.projection, "lora_b", group.scaled(columns.unit, columns.first))
        return replace(rows, name=f"{_prefix(tensor)}{columns.name}.lora_b")

    def slice_of(self, tensor: str, projection: Projection, name: str, group: TileGroup | None = None) -> Argument:
        """The whole factor, or the rows of it that belong to a tile, in ``adapter`` (all layers) or ``gradient`` (one layer)."""
        rows = projection.inputs if name == "lora_a" else projection.outputs
        stored = Reference(tensor)
        if group:
            rows = group.width
            stored = Reference(tensor, group.first * self.rank, {"tile": rows * self.rank})
        owner = OfAdapter(tensor == "adapter", projection.name, name)
        return Argument(f"{_prefix(tensor)}{projection.name}.{name}", (rows, self.rank), stored=stored, owner=owner)

    def place(self, tensor: str, owner: OfAdapter, segment: Segment) -> Reference:
        """From where a place in a tensor counts in a loop over the layers of a segment."""
        layer = segment.layer
        first = self.factor(layer, owner.projection, owner.factor).offset if owner.projection else 0
        if not owner.all_layers:
            return Reference(tensor, first)
        size = self.size_of(layer)
        return Reference(tensor, self.start(segment.first) - segment.first * size + first, {"layer": size})


def _prefix(tensor: str) -> str:
    """Of the names of arguments in it."""
    return "" if tensor == "adapter" else "grad."
