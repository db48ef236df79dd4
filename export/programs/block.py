"""The programs of a block.

A block is two sublayers of one shape, attention and feed-forward, and each is computed in the same parts:

    norm       rows: n = rmsnorm(x), and h = scale * n A of the projections that read n
    tiles      a tile of the sublayer's middle, from n to the residual stream: y <- y + tile(n)
    (backward) tiles: rebuild the tile, dn <- dn + ..., gradients of the tile's slices of the adapter
    (backward) norm: rows: the gradient of x, and the gradients of the A's that read n

An attention tile is one key-value head with its query heads; a feed-forward tile is a range of the intermediate axis. Both
split exactly: the projections into the tile are cut by outputs (columns), the projection out of it by inputs (rows).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import FFN
from ..model.quantize import WeightFormat
from . import ops
from .arguments import constant, norm_weight, scalar, weight
from .plan import Argument, Arguments, Plan, Program, TileGroup

QKV = ("q_proj", "k_proj", "v_proj")


def norms() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(sublayer, its norm's weight, the projections that read the norm)."""
    yield from (("attention", "input_layernorm.weight", QKV), ("ffn", "post_attention_layernorm.weight", FFN[:2]))


# --- A sublayer's norm, by rows ---------------------------------------------------------------------------------------


def norm_forward(plan: Plan, rows: int, name: str, tensor: str, readers: tuple[str, ...]) -> Program:
    """n = rmsnorm(x), h = scale * n A for each targeted projection that reads n."""
    arch, targets = plan.architecture, plan.targeted(*readers)
    inputs = [
        Argument("x", (rows, arch.D), by_rows=True),
        norm_weight(plan, tensor),
        constant("ones", arch.D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("n", (rows, arch.D), by_rows=True), *_hs(plan, rows, targets)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        return n, *[ops.lora_down(n, a[f"{p}.lora_a"], a["lora_scale"]) for p in targets]

    return Program(name, tuple(inputs), tuple(outputs), body)


def norm_backward(plan: Plan, rows: int, name: str, tensor: str, readers: tuple[str, ...]) -> Program:
    """dx = dy + rmsnorm_backward(dn + scale * dh A^T), dA <- dA + scale * n^T dh; dy is the residual stream's own gradient."""
    arch, targets = plan.architecture, plan.targeted(*readers)
    accumulators = [Argument(f"grad.{p}.lora_a", (arch.D, plan.rank)) for p in targets]
    inputs = [
        *[Argument(name, (rows, arch.D), by_rows=True) for name in ("x", "dy", "dn")],
        *_hs(plan, rows, targets, "d"),
        *accumulators,
        norm_weight(plan, tensor),
        constant("ones", arch.D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("dx", (rows, arch.D), by_rows=True), *accumulators]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, rstd = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        dn, gradients = a["dn"], []
        for p in targets:
            dn_p, dlora_a = ops.lora_down_backward(a[f"dh.{p}"], n, a[f"{p}.lora_a"], a["lora_scale"])
            dn = dn + dn_p
            gradients.append(a[f"grad.{p}.lora_a"] + dlora_a)
        return a["dy"] + ops.rmsnorm_backward(dn, a["x"], a["norm.weight"], rstd, a["ones"]), *gradients

    return Program(name, tuple(inputs), tuple(outputs), body)


def _hs(plan: Plan, rows: int, targets: tuple[str, ...], prefix: str = "") -> list[Argument]:
    return [Argument(f"{prefix}h.{p}", (rows, plan.rank), by_rows=True) for p in targets]


# --- The tiles of a sublayer ------------------------------------------------------------------------------------------


def _tile_inputs(plan: Plan, group: TileGroup, into: tuple[str, ...], out: str) -> list[Argument]:
    """What forward and backward of a tile share: n, h, the weights and the adapter's slices."""
    arguments = [Argument("n", (plan.tokens, plan.architecture.D)), *_hs(plan, plan.tokens, plan.targeted(*into))]
    for projection in (*into, out):
        arguments += weight(plan, projection, group)
    for projection in plan.targeted(*into):
        arguments.append(plan.adapter.slice_of("adapter", projection, "lora_b", plan.tile_range(projection, group)))
    if out in plan.targets:
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_a", plan.tile_range(out, group)))
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_b"))
        arguments.append(scalar("lora_scale"))
    return arguments


def _forward_accumulators(plan: Plan, out: str, keeps_h: bool) -> tuple[Argument, ...]:
    """The stream, and if it is kept the h of the projection out."""
    y, h = Argument("y", (plan.tokens, plan.architecture.D)), _hs(plan, plan.tokens, plan.targeted(out))
    return (y, *h) if keeps_h else (y,)


def _tile_backward_arguments(
    plan: Plan, group: TileGroup, into: tuple[str, ...], out: str, keeps_h: bool
) -> tuple[list[Argument], list[Argument]]:
    """The accumulators that a tile's backward takes and gives back, and the gradients that are its alone. With the h of
    the projection out at hand, the gradient of its B is one product, and none of the tiles' work."""
    targets = plan.targeted(*into)
    accumulators = [Argument("dn", (plan.tokens, plan.architecture.D)), *_hs(plan, plan.tokens, targets, "d")]
    if out in plan.targets and not keeps_h:
        accumulators.append(Argument(f"grad.{out}.lora_b", (plan.architecture.D, plan.rank)))
    gradients = [plan.adapter.slice_of("gradient", p, "lora_b", plan.tile_range(p, group)) for p in targets]
    if out in plan.targets:
        gradients.append(plan.adapter.slice_of("gradient", out, "lora_a", plan.tile_range(out, group)))
    return accumulators, gradients


def _into(a: Arguments, projection: str, fmt: WeightFormat) -> Tensor:
    """A tile's columns of a projection into the sublayer."""
    return ops.lora_up(
        a["n"],
        a.weight(projection, fmt),
        a.get(f"h.{projection}"),
        a.get(f"{projection}.lora_b"),
        a.get(f"{projection}.bias"),
    )


def _out_of(a: Arguments, projection: str, x: Tensor, fmt: WeightFormat) -> tuple[Tensor, ...]:
    """y <- y + a tile's rows of the projection out of the sublayer; and h, if that is kept."""
    lora_a = a.get(f"{projection}.lora_a")
    h = None if lora_a is None else ops.lora_down(x, lora_a, a["lora_scale"])
    bias = a.get(f"{projection}.bias")
    y = a["y"] + ops.lora_up(x, a.weight(projection, fmt), h, a.get(f"{projection}.lora_b"), bias)
    return (y, a[f"h.{projection}"] + h) if h is not None and f"h.{projection}" in a else (y,)


def _out_of_backward(a: Arguments, projection: str, fmt: WeightFormat) -> tuple[Tensor, Tensor | None]:
    """The gradient at a tile's rows of the input of the projection out, from the frozen weight and the adapter; and dh."""
    dx = ops.linear_backward(a["dy"], a.weight(projection, fmt))
    if f"{projection}.lora_a" not in a:
        return dx, None
    dh = torch.mm(a["dy"], a[f"{projection}.lora_b"])
    return dx + torch.mm(dh * a["lora_scale"], a[f"{projection}.lora_a"].t()), dh


def _out_of_gradients(a: Arguments, projection: str, x: Tensor, dh: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """With the tile's x rebuilt: the accumulated gradient of B, and the gradient of the tile's rows of A."""
    if dh is None:
        return [], []
    lora_a, scale = a[f"{projection}.lora_a"], a["lora_scale"]
    _, dlora_a = ops.lora_down_backward(dh, x, lora_a, scale)
    summed = a.get(f"grad.{projection}.lora_b")
    if summed is None:
        return [], [dlora_a]
    _, dlora_b = ops.lora_up_backward(a["dy"], ops.lora_down(x, lora_a, scale), a[f"{projection}.lora_b"])
    return [summed + dlora_b], [dlora_a]


def _into_backward(
    a: Arguments, upstream: dict[str, Tensor], fmt: WeightFormat
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """From the gradients at a tile's columns: the accumulated dn and dh, and the gradients of the tile's rows of B.

    The weights are dequantized once more: kept since the rebuild, they would be the largest part of the workspace.
    """
    dn, dhs, dlora_bs = a["dn"], [], []
    for projection, dy in upstream.items():
        dn = dn + ops.linear_backward(dy, a.weight(projection, fmt))
        if f"h.{projection}" in a:
            dh, dlora_b = ops.lora_up_backward(dy, a[f"h.{projection}"], a[f"{projection}.lora_b"])
            dhs.append(a[f"dh.{projection}"] + dh)
            dlora_bs.append(dlora_b)
    return dn, dhs, dlora_bs


# --- Attention --------------------------------------------------------------------------------------------------------


def mask_name(tokens: int) -> str:
    """The causal mask's tensor for sequences of this length: the one constant that is no prefix of a longer sequence's."""
    return f"causal_mask.{tokens}"


def _attention_constants(plan: Plan) -> list[Argument]:
    arch = plan.architecture
    half = (plan.tokens, arch.C // 2)
    return [
        constant("rope.cos", *half),
        constant("rope.sin", *half),
        Argument("causal_mask", (plan.query_rows, plan.tokens), stored=Reference(mask_name(plan.tokens))),
    ]


def _heads(a: Arguments, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """q [G, T, C] and k [T, C], both rotated, and v [T, C]."""
    arch = plan.architecture
    q, k, v = (_into(a, projection, plan.weights) for projection in QKV)
    q = q.view(plan.tokens, arch.G, arch.C).transpose(0, 1)
    cos, sin = a["rope.cos"], a["rope.sin"]
    return ops.rope(q, cos, sin), ops.rope(k, cos, sin), v


def attention_forward(plan: Plan, group: TileGroup, keeps_h: bool = False) -> Program:
    """y <- y + the attention of one key-value head with its query heads, through its rows of the output projection."""
    arch = plan.architecture
    accumulators = _forward_accumulators(plan, "o_proj", keeps_h)
    inputs = [*accumulators, *_tile_inputs(plan, group, QKV, "o_proj"), *_attention_constants(plan)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        q, k, v = _heads(a, plan)
        o = ops.attention(q, k, v, a["causal_mask"]).transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        return _out_of(a, "o_proj", o, plan.weights)

    return Program("attention_forward", tuple(inputs), accumulators, body)


def attention_backward(plan: Plan, group: TileGroup, keeps_h: bool = False) -> Program:
    """Rebuilds the tile's q, k, v and probabilities; dn <- dn + ..., dh <- dh + ..., and the tile's adapter gradients."""
    arch = plan.architecture
    accumulators, gradients = _tile_backward_arguments(plan, group, QKV, "o_proj", keeps_h)
    inputs = [
        Argument("dy", (plan.tokens, arch.D)),
        *accumulators,
        *_tile_inputs(plan, group, QKV, "o_proj"),
        *_attention_constants(plan),
        Argument("ones", (arch.C, 1), stored=Reference("ones")),
    ]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        q, k, v = _heads(a, plan)
        do, dh = _out_of_backward(a, "o_proj", plan.weights)
        do = do.view(plan.tokens, arch.G, arch.C).transpose(0, 1)
        dq, dk, dv, o = ops.attention_backward(do, q, k, v, a["causal_mask"], a["ones"])
        o = o.transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        summed, own = _out_of_gradients(a, "o_proj", o, dh)
        dq = ops.rope_backward(dq, a["rope.cos"], a["rope.sin"]).transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        dk = ops.rope_backward(dk, a["rope.cos"], a["rope.sin"])
        dn, dhs, dlora_bs = _into_backward(a, {"q_proj": dq, "k_proj": dk, "v_proj": dv}, plan.weights)
        return dn, *dhs, *summed, *dlora_bs, *own

    return Program("attention_backward", tuple(inputs), (*accumulators, *gradients), body)


# --- Feed-forward -----------------------------------------------------------------------------------------------------


def ffn_forward(plan: Plan, group: TileGroup, keeps_h: bool = False) -> Program:
    """y <- y + one tile of the feed-forward layer."""
    accumulators = _forward_accumulators(plan, "down_proj", keeps_h)
    inputs = [*accumulators, *_tile_inputs(plan, group, FFN[:2], "down_proj")]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        gate, up = (_into(a, projection, plan.weights) for projection in FFN[:2])
        return _out_of(a, "down_proj", ops.swiglu(gate, up), plan.weights)

    return Program("ffn_forward" + group.suffix, tuple(inputs), accumulators, body)


def ffn_backward(plan: Plan, group: TileGroup, keeps_h: bool = False) -> Program:
    """Rebuilds the tile's gate and up; dn <- dn + ..., dh <- dh + ..., and the tile's adapter gradients."""
    accumulators, gradients = _tile_backward_arguments(plan, group, FFN[:2], "down_proj", keeps_h)
    inputs = [
        Argument("dy", (plan.tokens, plan.architecture.D)),
        *accumulators,
        *_tile_inputs(plan, group, FFN[:2], "down_proj"),
    ]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        gate, up = (_into(a, projection, plan.weights) for projection in FFN[:2])
        dz, dh = _out_of_backward(a, "down_proj", plan.weights)
        dgate, dup, z = ops.swiglu_backward(dz, gate, up)
        summed, own = _out_of_gradients(a, "down_proj", z, dh)
        dn, dhs, dlora_bs = _into_backward(a, {"gate_proj": dgate, "up_proj": dup}, plan.weights)
        return dn, *dhs, *summed, *dlora_bs, *own

    return Program("ffn_backward" + group.suffix, tuple(inputs), (*accumulators, *gradients), body)


def output_gradient(plan: Plan) -> Program:
    """From the h that was kept of a projection out of a sublayer: the gradient of its B, dy^T h."""
    thin = (plan.tokens, plan.rank)
    inputs = (Argument("dy", (plan.tokens, plan.architecture.D)), Argument("h", thin))
    outputs = (Argument("grad.lora_b", (plan.architecture.D, plan.rank)),)
    return Program("output_gradient", inputs, outputs, lambda a: (torch.mm(a["dy"].t(), a["h"]),))
