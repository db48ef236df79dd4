"""The arguments that programs share: constants, scalars, norms, tiles of weights, rows of tables; and how a projection is cut into tiles."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.quantize import Int8, PartSpec
from .plan import F32, Argument, Arguments, Plan, TileGroup


def tiled_by_inputs(projection: str) -> bool:
    """The projections out of a sublayer are cut by rows, those into it by columns."""
    return projection in ("o_proj", "down_proj")


def constant(name: str, *shape: int, tensor: str | None = None) -> Argument:
    """The beginning of a tensor of the weights file; ``tensor`` if that has another name."""
    return Argument(name, shape, stored=Reference(tensor or name))


def scalar(name: str) -> Argument:
    """An input of the step."""
    return Argument(name, (1,))


def norm_weight(plan: Plan, tensor: str, layered: bool = True) -> Argument:
    """The weight [D] of a norm, of a layer's or of the last."""
    width = plan.architecture.D
    return Argument("norm.weight", (width,), stored=Reference(tensor, 0, {"layer": width} if layered else {}))


def weight_shape(plan: Plan, projection: str, group: TileGroup) -> tuple[int, int]:
    """[in, out] of one tile of a projection."""
    inputs, outputs = plan.architecture.shape(projection)
    width = plan.tile_range(projection, group).width
    return (width, outputs) if tiled_by_inputs(projection) else (inputs, width)


def weight_parts(plan: Plan, projection: str, group: TileGroup) -> Iterator[tuple[str, PartSpec]]:
    """The parts of one tile as stored, (part, shape and dtype); a bias is a part too.

    Where tiles are summed, the first tile of all carries the bias and the others zeros.
    """
    inputs, outputs = weight_shape(plan, projection, group)
    yield from plan.weights.parts(inputs, outputs).items()
    if projection in plan.architecture.biases:
        yield "bias", PartSpec((outputs,), F32)


def stored_name(projection: str, group: TileGroup, part: str) -> str:
    """The tensor of the weights file that holds a part of all layers and tiles, [layers, tiles, ...]."""
    return f"{projection}{group.suffix}.{part}"


def weight(plan: Plan, projection: str, group: TileGroup) -> Iterator[Argument]:
    """The parts of a tile of a frozen projection."""
    for part, spec in weight_parts(plan, projection, group):
        size = torch.Size(spec.shape).numel()
        stored = Reference(stored_name(projection, group, part), 0, {"layer": size * group.count, "tile": size})
        yield Argument(f"{projection}.{part}", spec.shape, spec.dtype, stored)


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
