"""The programs of a sublayer. Each sublayer is computed in the same parts:

    norm       rows: n = rmsnorm(x), and h = scale * n A of the projections that read n
    tiles      a tile of the sublayer's middle, from n to the residual stream: y <- y + tile(n)
    (backward) tiles: rebuild the tile, dn <- dn + ..., gradients of the tile's slices of the adapter
    (backward) norm: rows: the gradient of x, and the gradients of the A's that read n

Where a norm comes after the sublayer, tiles add up to its output o, which starts at zero, and two more programs work by rows:

    norm after            y = x + rmsnorm(o)
    (backward) norm after do from dy, which the tiles then take for dy

Tiles split exactly: the projections into a tile are cut by outputs (columns), the projection out of it by inputs (rows).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..model.architecture import Columns, Norm, Projection, Sublayer
from ..model.quantize import WeightFormat
from . import ops
from .arguments import constant, norm_weight, scalar, weight
from .middle import middle_of
from .plan import Plan
from .program import Argument, Arguments, Program
from .tiles import TileGroup

# --- A sublayer's norm, by rows ---------------------------------------------------------------------------------------


def norm_forward(plan: Plan, sublayer: Sublayer, rows: int) -> Program:
    """n = rmsnorm(x), h = scale * n A for each targeted projection that reads n."""
    D, eps, targets = plan.architecture.D, sublayer.norm.eps, plan.targeted(*sublayer.into)
    inputs = [
        Argument("x", (rows, D), by_rows=True),
        norm_weight(sublayer.norm, sublayer),
        constant("ones", D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("n", (rows, D), by_rows=True), *_hs(plan, rows, targets)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], eps)
        return n, *[ops.lora_down(n, a[f"{p.name}.lora_a"], a["lora_scale"]) for p in targets]

    return Program(f"{sublayer.name}_norm_forward", tuple(inputs), tuple(outputs), body)


def norm_backward(plan: Plan, sublayer: Sublayer, rows: int) -> Program:
    """dx = dy + rmsnorm_backward(dn + scale * dh A^T), dA <- dA + scale * n^T dh; dy is the residual stream's own gradient."""
    D, eps, targets = plan.architecture.D, sublayer.norm.eps, plan.targeted(*sublayer.into)
    accumulators = [Argument(f"grad.{p.name}.lora_a", (D, plan.rank)) for p in targets]
    inputs = [
        *[Argument(name, (rows, D), by_rows=True) for name in ("x", "dy", "dn")],
        *_hs(plan, rows, targets, "d"),
        *accumulators,
        norm_weight(sublayer.norm, sublayer),
        constant("ones", D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("dx", (rows, D), by_rows=True), *accumulators]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, rstd = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], eps)
        dn, gradients = a["dn"], []
        for p in (p.name for p in targets):
            dn_p, dlora_a = ops.lora_down_backward(a[f"dh.{p}"], n, a[f"{p}.lora_a"], a["lora_scale"])
            dn = dn + dn_p
            gradients.append(a[f"grad.{p}.lora_a"] + dlora_a)
        return a["dy"] + ops.rmsnorm_backward(dn, a["x"], a["norm.weight"], rstd, a["ones"]), *gradients

    return Program(f"{sublayer.name}_norm_backward", tuple(inputs), tuple(outputs), body)


def norm_after(plan: Plan, sublayer: Sublayer, norm: Norm, rows: int) -> Program:
    """y = x + rmsnorm(o)"""
    x, o, y = (Argument(name, (rows, plan.architecture.D), by_rows=True) for name in ("x", "o", "y"))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["o"], a["norm.weight"], a["ones"], norm.eps)
        return (a["x"] + n,)

    return Program(f"{sublayer.name}_norm_after", (x, o, *_of_norm(plan, sublayer, norm)), (y,), body)


def norm_after_backward(plan: Plan, sublayer: Sublayer, norm: Norm, rows: int) -> Program:
    """do = rmsnorm_backward(dy)"""
    o, dy, do = (Argument(name, (rows, plan.architecture.D), by_rows=True) for name in ("o", "dy", "do"))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        _, rstd = ops.rmsnorm(a["o"], a["norm.weight"], a["ones"], norm.eps)
        return (ops.rmsnorm_backward(a["dy"], a["o"], a["norm.weight"], rstd, a["ones"]),)

    return Program(f"{sublayer.name}_norm_after_backward", (o, dy, *_of_norm(plan, sublayer, norm)), (do,), body)


def _of_norm(plan: Plan, sublayer: Sublayer, norm: Norm) -> tuple[Argument, Argument]:
    """What a norm takes beside its rows."""
    return norm_weight(norm, sublayer), constant("ones", plan.architecture.D, 1)


def _hs(plan: Plan, rows: int, targets: tuple[Projection, ...], prefix: str = "") -> list[Argument]:
    return [Argument(f"{prefix}h.{p.name}", (rows, plan.rank), by_rows=True) for p in targets]


# --- The tiles of a sublayer ------------------------------------------------------------------------------------------


def tile_forward(plan: Plan, sublayer: Sublayer, group: TileGroup, keeps_h: bool = False) -> Program:
    """y <- y + one tile of the sublayer, through its rows of the projection out; and h <- h + the tile's, if that is kept."""
    middle = middle_of(plan, sublayer, group)
    accumulators: tuple[Argument, ...] = (Argument("y", (plan.tokens, plan.architecture.D)),)
    if keeps_h:
        accumulators += tuple(_hs(plan, plan.tokens, plan.targeted(sublayer.out)))
    inputs = [*accumulators, *_tile_inputs(plan, sublayer, group), *middle.arguments(backward=False)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        entered = middle.enter(a, _projected(a, sublayer, plan.weights))
        return _out_of(a, sublayer.out.name, middle.forward(a, entered), plan)

    return Program(f"{sublayer.name}_forward{group.suffix}", tuple(inputs), accumulators, body)


def tile_backward(plan: Plan, sublayer: Sublayer, group: TileGroup, keeps_h: bool = False) -> Program:
    """Rebuilds the tile; dn <- dn + ..., dh <- dh + ..., and the tile's adapter gradients.

    With the h of the projection out at hand, the gradient of its B is one product, and none of the tiles' work.
    """
    middle, out, scale = middle_of(plan, sublayer, group), sublayer.out.name, plan.architecture.out_scale
    accumulators = _accumulators(plan, sublayer, keeps_h)
    inputs = [
        Argument("dy", (plan.tokens, plan.architecture.D)),
        *accumulators,
        *_tile_inputs(plan, sublayer, group),
        *middle.arguments(backward=True),
    ]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        projected = _projected(a, sublayer, plan.weights)
        entered = middle.enter(a, projected)
        dy = a["dy"] if scale == 1 else a["dy"] * scale
        dx, dh = _out_of_backward(a, out, dy, plan.weights)
        gradients, x = middle.backward(a, dx, entered)
        summed, own = _out_of_gradients(a, out, dy, x, dh)
        dn, dhs, dlora_bs = _into_backward(a, sublayer, middle.enter_backward(a, gradients, projected), plan.weights)
        return dn, *dhs, *summed, *dlora_bs, *own

    outputs = (*accumulators, *_own_gradients(plan, sublayer, group))
    return Program(f"{sublayer.name}_backward{group.suffix}", tuple(inputs), outputs, body)


def _tile_inputs(plan: Plan, sublayer: Sublayer, group: TileGroup) -> list[Argument]:
    """What forward and backward of a tile share: n, h, the weights and the adapter's slices."""
    out, targets = sublayer.out, plan.targeted(*sublayer.into)
    arguments = [Argument("n", (plan.tokens, plan.architecture.D)), *_hs(plan, plan.tokens, targets)]
    for columns in (*sublayer.columns, *out.columns):
        arguments += weight(plan, sublayer, columns, group)
    for columns in _targeted(plan, sublayer):
        arguments.append(plan.adapter.columns_of("adapter", columns, group))
    if plan.targeted(out):
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_a", group.scaled(out.unit)))
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_b"))
        arguments.append(scalar("lora_scale"))
    return arguments


def _accumulators(plan: Plan, sublayer: Sublayer, keeps_h: bool) -> list[Argument]:
    """What a tile's backward takes and gives back."""
    D, targets = plan.architecture.D, plan.targeted(*sublayer.into)
    accumulators = [Argument("dn", (plan.tokens, D)), *_hs(plan, plan.tokens, targets, "d")]
    if plan.targeted(sublayer.out) and not keeps_h:
        accumulators.append(Argument(f"grad.{sublayer.out.name}.lora_b", (D, plan.rank)))
    return accumulators


def _own_gradients(plan: Plan, sublayer: Sublayer, group: TileGroup) -> list[Argument]:
    """The gradients that are a tile's alone."""
    gradients = [plan.adapter.columns_of("gradient", columns, group) for columns in _targeted(plan, sublayer)]
    for out in plan.targeted(sublayer.out):
        gradients.append(plan.adapter.slice_of("gradient", out, "lora_a", group.scaled(out.unit)))
    return gradients


def _targeted(plan: Plan, sublayer: Sublayer) -> list[Columns]:
    """The columns of the projections into the sublayer that have an adapter."""
    return [columns for projection in plan.targeted(*sublayer.into) for columns in projection.columns]


def _projected(a: Arguments, sublayer: Sublayer, fmt: WeightFormat) -> dict[str, Tensor]:
    """A tile's columns of each projection into the sublayer."""
    return {columns.name: _into(a, columns, fmt) for columns in sublayer.columns}


def _into(a: Arguments, columns: Columns, fmt: WeightFormat) -> Tensor:
    return ops.lora_up(
        a["n"],
        a.weight(columns.name, fmt),
        a.get(f"h.{columns.projection.name}"),
        a.get(f"{columns.name}.lora_b"),
        a.get(f"{columns.name}.bias"),
    )


def _out_of(a: Arguments, projection: str, x: Tensor, plan: Plan) -> tuple[Tensor, ...]:
    """y <- y + a tile's rows of the projection out of the sublayer; and h, if that is kept."""
    lora_a = a.get(f"{projection}.lora_a")
    h = None if lora_a is None else ops.lora_down(x, lora_a, a["lora_scale"])
    bias, weight, scale = a.get(f"{projection}.bias"), a.weight(projection, plan.weights), plan.architecture.out_scale
    out = ops.lora_up(x, weight, h, a.get(f"{projection}.lora_b"), bias)
    y = a["y"] + (out if scale == 1 else out * scale)
    return (y, a[f"h.{projection}"] + h) if h is not None and f"h.{projection}" in a else (y,)


def _out_of_backward(a: Arguments, projection: str, dy: Tensor, fmt: WeightFormat) -> tuple[Tensor, Tensor | None]:
    """The gradient at a tile's rows of the input of the projection out, from the frozen weight and the adapter; and dh."""
    dx = ops.linear_backward(dy, a.weight(projection, fmt))
    if f"{projection}.lora_a" not in a:
        return dx, None
    dh = torch.mm(dy, a[f"{projection}.lora_b"])
    return dx + torch.mm(dh * a["lora_scale"], a[f"{projection}.lora_a"].t()), dh


def _out_of_gradients(
    a: Arguments, projection: str, dy: Tensor, x: Tensor, dh: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """With the tile's x rebuilt: the accumulated gradient of B, and the gradient of the tile's rows of A."""
    if dh is None:
        return [], []
    lora_a, scale = a[f"{projection}.lora_a"], a["lora_scale"]
    _, dlora_a = ops.lora_down_backward(dh, x, lora_a, scale)
    summed = a.get(f"grad.{projection}.lora_b")
    if summed is None:
        return [], [dlora_a]
    _, dlora_b = ops.lora_up_backward(dy, ops.lora_down(x, lora_a, scale), a[f"{projection}.lora_b"])
    return [summed + dlora_b], [dlora_a]


def _into_backward(
    a: Arguments, sublayer: Sublayer, upstream: Mapping[str, Tensor], fmt: WeightFormat
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """From the gradients at a tile's columns: the accumulated dn and dh, and the gradients of the tile's rows of B.

    The weights are dequantized once more: kept since the rebuild, they would be the largest part of the workspace.
    """
    dn, dlora_bs = a["dn"], []
    dhs: dict[str, Tensor] = {}
    for columns in sublayer.columns:
        dy, projection = upstream[columns.name], columns.projection.name
        dn = dn + ops.linear_backward(dy, a.weight(columns.name, fmt))
        if f"h.{projection}" in a:
            dh, dlora_b = ops.lora_up_backward(dy, a[f"h.{projection}"], a[f"{columns.name}.lora_b"])
            dhs[projection] = dhs.get(projection, a[f"dh.{projection}"]) + dh
            dlora_bs.append(dlora_b)
    return dn, list(dhs.values()), dlora_bs


def output_gradient(plan: Plan) -> Program:
    """From the h that was kept of a projection out of a sublayer: the gradient of its B, dy^T h."""
    D, scale = plan.architecture.D, plan.architecture.out_scale
    inputs = (Argument("dy", (plan.tokens, D)), Argument("h", (plan.tokens, plan.rank)))
    outputs = (Argument("grad.lora_b", (D, plan.rank)),)

    def body(a: Arguments) -> tuple[Tensor, ...]:
        gradient = torch.mm(a["dy"].t(), a["h"])
        return (gradient if scale == 1 else gradient * scale,)

    return Program("output_gradient", inputs, outputs, body)
