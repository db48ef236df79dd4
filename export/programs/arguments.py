"""The arguments that programs share: constants, scalars, norms, tiles of weights, rows of tables."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import Columns, Norm, Sublayer
from ..model.quantize import Int8, PartSpec
from .plan import Plan
from .program import F32, Argument, Arguments, OfSublayer
from .tiles import TileGroup


def constant(name: str, *shape: int, tensor: str | None = None) -> Argument:
    """The beginning of a tensor of the weights file; ``tensor`` if that has another name."""
    return Argument(name, shape, stored=Reference(tensor or name))


def scalar(name: str) -> Argument:
    """An input of the step."""
    return Argument(name, (1,))


def norm_tensor(norm: Norm, sublayer: Sublayer | None = None) -> str:
    """The tensor of the weights file that holds a norm's weight: [width], or of a sublayer's norm [layers, width]."""
    return f"{sublayer.prefix if sublayer else ''}{norm.tensor}.weight"


def norm_weight(norm: Norm, sublayer: Sublayer | None = None, name: str = "norm.weight") -> Argument:
    """A norm's weight [width], of a sublayer's or of the last."""
    owner = OfSublayer(sublayer, norm.width) if sublayer else None
    return Argument(name, (norm.width,), stored=Reference(norm_tensor(norm, sublayer)), owner=owner)


def weight_shape(sublayer: Sublayer, columns: Columns, group: TileGroup) -> tuple[int, int]:
    """[in, out] of one tile of a projection. Those into a sublayer are cut by columns, the one out of it by rows."""
    width, projection = group.width * columns.unit, columns.projection
    return (width, projection.outputs) if projection == sublayer.out else (projection.inputs, width)


def weight_parts(plan: Plan, sublayer: Sublayer, columns: Columns, group: TileGroup) -> Iterator[tuple[str, PartSpec]]:
    """The parts of one tile as stored, (part, shape and dtype); a bias is a part too.

    Where tiles are summed, the first tile of all carries the bias and the others zeros.
    """
    inputs, outputs = weight_shape(sublayer, columns, group)
    yield from plan.weights.parts(inputs, outputs).items()
    if columns.projection.bias:
        yield "bias", PartSpec((outputs,), F32)


def stored_name(sublayer: Sublayer, columns: Columns, group: TileGroup, part: str) -> str:
    """The tensor of the weights file that holds a part of all tiles in all layers with the sublayer, [layers, tiles, ...]."""
    return f"{sublayer.prefix}{columns.name}{group.suffix}.{part}"


def weight(plan: Plan, sublayer: Sublayer, columns: Columns, group: TileGroup) -> Iterator[Argument]:
    """The parts of a tile of a frozen projection."""
    for part, spec in weight_parts(plan, sublayer, columns, group):
        size = torch.Size(spec.shape).numel()
        stored = Reference(stored_name(sublayer, columns, group, part), 0, {"tile": size})
        owner = OfSublayer(sublayer, size * group.count)
        yield Argument(f"{columns.name}.{part}", spec.shape, spec.dtype, stored, owner)


def table(plan: Plan, name: str) -> Iterator[Argument]:
    """The embedding's or the head's table as a whole, to gather rows from."""
    rows, width = plan.architecture.V, plan.architecture.D
    if not plan.quantized_tables:
        yield constant("table.values", rows, width, tensor=f"{name}.values")
        return
    yield Argument("table.quants", (rows, width), torch.int8, Reference(f"{name}.quants"))
    yield constant("table.scale", rows, 1, tensor=f"{name}.scale")


def table_tile(plan: Plan, name: str) -> Iterator[Argument]:
    """The rows of a tile of the vocabulary; what goes with the rows lies along the logits, [1, v]."""
    rows, width = plan.vocabulary().width, plan.architecture.D

    def tile(part: str, shape: tuple[int, int], dtype: torch.dtype = F32) -> Argument:
        return Argument(f"table.{part}", shape, dtype, Reference(f"{name}.{part}", 0, {"tile": shape[0] * shape[1]}))

    if plan.quantized_tables:
        yield tile("quants", (rows, width), torch.int8)
        yield tile("scale", (1, rows))
    else:
        yield tile("values", (rows, width))
    if plan.padded_vocabulary > plan.architecture.V:
        yield tile("padding", (1, rows))


def gather(a: Arguments, ids: Tensor) -> Tensor:
    """Rows of the table, [ids, D]. The gathers stay outside the delegate."""
    if "table.values" in a:
        return torch.nn.functional.embedding(ids, a["table.values"])
    rows = torch.nn.functional.embedding(ids, a["table.quants"])
    return Int8().dequantize({"quants": rows, "scale": torch.nn.functional.embedding(ids, a["table.scale"])})
