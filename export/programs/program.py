"""What a program is: a function of named tensors.

Its arguments say where they come from: a value of the schedule, or a part of a stored tensor (``stored``), so that the schedule only names
values. Results that are adapter gradients say likewise where they go.

Programs are of two kinds. A *tile* program takes the whole sequence and a tile of a layer's width. A *row* program takes some tokens and the
whole width: norms, embedding, both ends of the head. Its arguments that have a row for each token are ``by_rows``, and the schedule cuts
them. So its results are small, and it serves sequences of every length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..model.architecture import Sublayer
from ..model.quantize import WeightFormat

F32 = torch.float32


@dataclass(frozen=True)
class OfSublayer:
    """The tensor has ``size`` elements for each layer with this sublayer, one after the other."""

    sublayer: Sublayer
    size: int


@dataclass(frozen=True)
class OfAdapter:
    """The tensor is laid out as a layer's vector of the adapter, or as the vectors of all layers.

    Args:
        all_layers: as those of all layers
        projection, factor: the place counts from this one's A or B on; without them, from the vector's beginning
    """

    all_layers: bool
    projection: str = ""
    factor: str = ""


@dataclass(frozen=True)
class Argument:
    """One input or output of a program.

    Args:
        stored: the part of a stored tensor that it is; None for a value that the schedule passes
        owner: what ``stored`` counts from, where that is another place for each layer. The schedule works it out
        by_rows: of a row program: the part that belongs to its rows
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = F32
    stored: Reference | None = None
    owner: OfSublayer | OfAdapter | None = None
    by_rows: bool = False

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype as the manifest writes them."""
        return TensorSpec(self.shape, dtype_name(self.dtype))


def dtype_name(dtype: torch.dtype) -> str:
    """As the manifest writes it."""
    return str(dtype).removeprefix("torch.")


class Arguments(dict[str, Tensor]):
    """The inputs of a program's body by name."""

    def weight(self, projection: str, fmt: WeightFormat) -> Tensor:
        """The projection's frozen weight, dequantized."""
        return fmt.dequantize({part: self[f"{projection}.{part}"] for part in fmt.part_names})


Body = Callable[[Arguments], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Program:
    """A traceable function of named tensors.

    Args:
        decompositions: for tracing a body that differentiates
    """

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    body: Body
    decompositions: Mapping[Any, Callable[..., Tensor]] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eagerly, in the precision of the inputs."""
        results = self.body(Arguments(inputs))
        return {output.name: result for output, result in zip(self.outputs, results, strict=True)}


def sized_name(name: str, size: int) -> str:
    """What a program or a schedule of this size is called in a bundle.

    The size of a tile program and of a schedule is the tokens of a sequence, of the head's tile programs the rows that the head runs on,
    and of a row program the rows that it takes.
    """
    return f"{name}.{size}"
