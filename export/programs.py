"""The programs of a training step: each the work on one tile of one kind of layer, with everything it reads as an argument.

A block is two sublayers of one shape, attention and feed-forward, and each is computed in the same three parts:

    norm       n = rmsnorm(x), and h = scale * n A of the projections that read n, once a sublayer
    tiles      a tile of the sublayer's middle, from n to the residual stream: y <- y + tile(n)
    (backward) tiles: rebuild the tile, dn <- dn + ..., gradients of the tile's slices of the adapter
    (backward) norm: gradients of the A's that read n, and of x

An attention tile is one key-value head with its query heads; a feed-forward tile is a range of the intermediate axis. Both
split exactly: the projections into the tile are cut by outputs (columns), the projection out of it by inputs (rows).

A program's arguments say where they come from: a value of the schedule, or a slice of a stored tensor (``stored``), so that the schedule only
names values. Results that are adapter gradients say likewise where they go.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from mesp.runtime.schedule import Reference
from torch import Tensor

from . import ops
from .architecture import FFN, Architecture
from .quantize import Fp32, Int8, PartSpec, WeightFormat, to_float

F32 = torch.float32


@dataclass(frozen=True)
class Argument:
    """One input or output of a program; ``stored`` is None for a value that the schedule passes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = F32
    stored: Reference | None = None


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
    """Tile sizes: rows of a block of queries, width of a feed-forward tile, rows of a vocabulary tile."""

    query_rows: int = 128
    ffn: int = 256
    vocabulary: int = 1024


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
    """

    architecture: Architecture
    lengths: tuple[int, ...]
    rank: int
    targets: tuple[str, ...]
    weights: WeightFormat
    tiling: Tiling
    layers: int  # with an adapter, the topmost
    method: str = "mesp"  # of ``methods.METHODS``

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

    def vocabulary(self) -> tuple[TileGroup, ...]:
        return tile_groups(self.architecture.V, self.tiling.vocabulary)

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


def tiled_by_inputs(projection: str) -> bool:
    """The projections out of a sublayer are cut by rows, those into it by columns."""
    return projection in ("o_proj", "down_proj")


# --- Arguments --------------------------------------------------------------------------------------------------------


def _constant(name: str, *shape: int) -> Argument:
    return Argument(name, shape, stored=Reference(name))


def _scalar(name: str) -> Argument:
    return Argument(name, (1,))


def _norm_weight(plan: Plan, tensor: str, layered: bool = True) -> Argument:
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


def _weight(plan: Plan, projection: str, group: TileGroup) -> Iterator[Argument]:
    for part, spec in weight_parts(plan, projection, group):
        size = torch.Size(spec.shape).numel()
        stored = Reference(stored_name(projection, group, part), 0, {"layer": size * group.count, "tile": size})
        yield Argument(f"{projection}.{part}", spec.shape, spec.dtype, stored)


def _table_rows(plan: Plan, name: str, group: TileGroup | None = None) -> Iterator[Argument]:
    """The embedding's or the head's table, whole or the rows of a tile; the tile's scales lie along the logits, [1, v]."""
    rows, width = (plan.architecture.V if group is None else group.width), plan.architecture.D
    strides, first = ({"tile": rows}, group.first) if group else ({}, 0)

    def rows_of(part: str, columns: int) -> Reference:
        return Reference(f"{name}.{part}", first * columns, {v: n * columns for v, n in strides.items()})

    if not plan.quantized_tables:
        yield Argument("table.values", (rows, width), stored=rows_of("values", width))
        return
    yield Argument("table.quants", (rows, width), torch.int8, rows_of("quants", width))
    yield Argument("table.scale", (1, rows) if group else (rows, 1), stored=rows_of("scale", 1))


def _gather(a: Arguments, ids: Tensor) -> Tensor:
    """Rows of the table, [T, D]. The gathers stay outside the delegate."""
    if "table.values" in a:
        return torch.nn.functional.embedding(ids, a["table.values"])
    rows = torch.nn.functional.embedding(ids, a["table.quants"])
    return Int8().dequantize({"quants": rows, "scale": torch.nn.functional.embedding(ids, a["table.scale"])})


# --- A sublayer's norm ------------------------------------------------------------------------------------------------


def norm_forward(plan: Plan, name: str, tensor: str, readers: tuple[str, ...]) -> Program:
    """n = rmsnorm(x), h = scale * n A for each targeted projection that reads n."""
    arch, targets = plan.architecture, plan.targeted(*readers)
    inputs = [
        Argument("x", (plan.tokens, arch.D)),
        _norm_weight(plan, tensor),
        _constant("ones", arch.D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([_scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("n", (plan.tokens, arch.D)), *_hs(plan, targets)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        return n, *[ops.lora_down(n, a[f"{p}.lora_a"], a["lora_scale"]) for p in targets]

    return Program(name, tuple(inputs), tuple(outputs), body)


def norm_backward(plan: Plan, name: str, tensor: str, readers: tuple[str, ...]) -> Program:
    """dx = dy + rmsnorm_backward(dn + scale * dh A^T), dA = scale * n^T dh; dy is the residual stream's own gradient."""
    arch, targets = plan.architecture, plan.targeted(*readers)
    wide = (plan.tokens, arch.D)
    inputs = [
        Argument("x", wide),
        Argument("dy", wide),
        Argument("dn", wide),
        *_hs(plan, targets, "d"),
        _norm_weight(plan, tensor),
        _constant("ones", arch.D, 1),
        *[plan.adapter.slice_of("adapter", p, "lora_a") for p in targets],
        *([_scalar("lora_scale")] if targets else []),
    ]
    outputs = [Argument("dx", wide), *[plan.adapter.slice_of("gradient", p, "lora_a") for p in targets]]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, rstd = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        dn, gradients = a["dn"], []
        for p in targets:
            dn_p, dlora_a = ops.lora_down_backward(a[f"dh.{p}"], n, a[f"{p}.lora_a"], a["lora_scale"])
            dn = dn + dn_p
            gradients.append(dlora_a)
        return a["dy"] + ops.rmsnorm_backward(dn, a["x"], a["norm.weight"], rstd, a["ones"]), *gradients

    return Program(name, tuple(inputs), tuple(outputs), body)


def _hs(plan: Plan, targets: tuple[str, ...], prefix: str = "") -> list[Argument]:
    return [Argument(f"{prefix}h.{p}", (plan.tokens, plan.rank)) for p in targets]


# --- The tiles of a sublayer ------------------------------------------------------------------------------------------


def _tile_inputs(plan: Plan, group: TileGroup, into: tuple[str, ...], out: str) -> list[Argument]:
    """What forward and backward of a tile share: n, h, the weights and the adapter's slices."""
    arguments = [Argument("n", (plan.tokens, plan.architecture.D)), *_hs(plan, plan.targeted(*into))]
    for projection in (*into, out):
        arguments += _weight(plan, projection, group)
    for projection in plan.targeted(*into):
        arguments.append(plan.adapter.slice_of("adapter", projection, "lora_b", plan.tile_range(projection, group)))
    if out in plan.targets:
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_a", plan.tile_range(out, group)))
        arguments.append(plan.adapter.slice_of("adapter", out, "lora_b"))
        arguments.append(_scalar("lora_scale"))
    return arguments


def _tile_backward_arguments(
    plan: Plan, group: TileGroup, into: tuple[str, ...], out: str
) -> tuple[list[Argument], list[Argument]]:
    """The accumulators that a tile's backward takes and gives back, and the gradients that are its alone."""
    targets = plan.targeted(*into)
    accumulators = [Argument("dn", (plan.tokens, plan.architecture.D)), *_hs(plan, targets, "d")]
    if out in plan.targets:
        accumulators.append(Argument(f"grad.{out}.lora_b", (plan.architecture.D, plan.rank)))
    gradients = [plan.adapter.slice_of("gradient", p, "lora_b", plan.tile_range(p, group)) for p in targets]
    if out in plan.targets:
        gradients.append(plan.adapter.slice_of("gradient", out, "lora_a", plan.tile_range(out, group)))
    return accumulators, gradients


def _into(a: Arguments, projection: str, weight: Tensor) -> Tensor:
    """A tile's columns of a projection into the sublayer."""
    return ops.lora_up(
        a["n"], weight, a.get(f"h.{projection}"), a.get(f"{projection}.lora_b"), a.get(f"{projection}.bias")
    )


def _out_of(a: Arguments, projection: str, x: Tensor, fmt: WeightFormat) -> Tensor:
    """A tile's rows of the projection out of the sublayer."""
    lora_a = a.get(f"{projection}.lora_a")
    h = None if lora_a is None else ops.lora_down(x, lora_a, a["lora_scale"])
    return ops.lora_up(x, a.weight(projection, fmt), h, a.get(f"{projection}.lora_b"), a.get(f"{projection}.bias"))


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
    _, dlora_b = ops.lora_up_backward(a["dy"], ops.lora_down(x, lora_a, scale), a[f"{projection}.lora_b"])
    return [a[f"grad.{projection}.lora_b"] + dlora_b], [dlora_a]


def _into_backward(
    a: Arguments, upstream: dict[str, Tensor], weights: dict[str, Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """From the gradients at a tile's columns: the accumulated dn and dh, and the gradients of the tile's rows of B."""
    dn, dhs, dlora_bs = a["dn"], [], []
    for projection, dy in upstream.items():
        dn = dn + ops.linear_backward(dy, weights[projection])
        if f"h.{projection}" in a:
            dh, dlora_b = ops.lora_up_backward(dy, a[f"h.{projection}"], a[f"{projection}.lora_b"])
            dhs.append(a[f"dh.{projection}"] + dh)
            dlora_bs.append(dlora_b)
    return dn, dhs, dlora_bs


# --- Attention --------------------------------------------------------------------------------------------------------

_QKV = ("q_proj", "k_proj", "v_proj")


def mask_name(tokens: int) -> str:
    """The causal mask's tensor for sequences of this length: the one constant that is no prefix of a longer sequence's."""
    return f"causal_mask.{tokens}"


def _attention_constants(plan: Plan) -> list[Argument]:
    arch = plan.architecture
    half = (plan.tokens, arch.C // 2)
    return [
        _constant("rope.cos", *half),
        _constant("rope.sin", *half),
        Argument("causal_mask", (plan.query_rows, plan.tokens), stored=Reference(mask_name(plan.tokens))),
    ]


def _heads(a: Arguments, plan: Plan) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """q [G, T, C] and k [T, C], both rotated, v [T, C], and the three weights."""
    arch = plan.architecture
    weights = {p: a.weight(p, plan.weights) for p in _QKV}
    q = _into(a, "q_proj", weights["q_proj"]).view(plan.tokens, arch.G, arch.C).transpose(0, 1)
    k = _into(a, "k_proj", weights["k_proj"])
    v = _into(a, "v_proj", weights["v_proj"])
    cos, sin = a["rope.cos"], a["rope.sin"]
    return ops.rope(q, cos, sin), ops.rope(k, cos, sin), v, weights


def attention_forward(plan: Plan, group: TileGroup) -> Program:
    """y <- y + the attention of one key-value head with its query heads, through its rows of the output projection."""
    arch = plan.architecture
    y = Argument("y", (plan.tokens, arch.D))
    inputs = [y, *_tile_inputs(plan, group, _QKV, "o_proj"), *_attention_constants(plan)]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        q, k, v, _ = _heads(a, plan)
        o = ops.attention(q, k, v, a["causal_mask"]).transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        return (a["y"] + _out_of(a, "o_proj", o, plan.weights),)

    return Program("attention_forward", tuple(inputs), (y,), body)


def attention_backward(plan: Plan, group: TileGroup) -> Program:
    """Rebuilds the tile's q, k, v and probabilities; dn <- dn + ..., dh <- dh + ..., and the tile's adapter gradients."""
    arch = plan.architecture
    accumulators, gradients = _tile_backward_arguments(plan, group, _QKV, "o_proj")
    inputs = [
        Argument("dy", (plan.tokens, arch.D)),
        *accumulators,
        *_tile_inputs(plan, group, _QKV, "o_proj"),
        *_attention_constants(plan),
        Argument("ones", (arch.C, 1), stored=Reference("ones")),
    ]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        q, k, v, weights = _heads(a, plan)
        do, dh = _out_of_backward(a, "o_proj", plan.weights)
        do = do.view(plan.tokens, arch.G, arch.C).transpose(0, 1)
        dq, dk, dv, o = ops.attention_backward(do, q, k, v, a["causal_mask"], a["ones"])
        o = o.transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        summed, own = _out_of_gradients(a, "o_proj", o, dh)
        dq = ops.rope_backward(dq, a["rope.cos"], a["rope.sin"]).transpose(0, 1).reshape(plan.tokens, arch.G * arch.C)
        dk = ops.rope_backward(dk, a["rope.cos"], a["rope.sin"])
        dn, dhs, dlora_bs = _into_backward(a, {"q_proj": dq, "k_proj": dk, "v_proj": dv}, weights)
        return dn, *dhs, *summed, *dlora_bs, *own

    return Program("attention_backward", tuple(inputs), (*accumulators, *gradients), body)


# --- Feed-forward -----------------------------------------------------------------------------------------------------


def ffn_forward(plan: Plan, group: TileGroup) -> Program:
    """y <- y + one tile of the feed-forward layer."""
    y = Argument("y", (plan.tokens, plan.architecture.D))
    inputs = [y, *_tile_inputs(plan, group, FFN[:2], "down_proj")]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        gate = _into(a, "gate_proj", a.weight("gate_proj", plan.weights))
        up = _into(a, "up_proj", a.weight("up_proj", plan.weights))
        return (a["y"] + _out_of(a, "down_proj", ops.swiglu(gate, up), plan.weights),)

    return Program("ffn_forward" + group.suffix, tuple(inputs), (y,), body)


def ffn_backward(plan: Plan, group: TileGroup) -> Program:
    """Rebuilds the tile's gate and up; dn <- dn + ..., dh <- dh + ..., and the tile's adapter gradients."""
    accumulators, gradients = _tile_backward_arguments(plan, group, FFN[:2], "down_proj")
    inputs = [
        Argument("dy", (plan.tokens, plan.architecture.D)),
        *accumulators,
        *_tile_inputs(plan, group, FFN[:2], "down_proj"),
    ]

    def body(a: Arguments) -> tuple[Tensor, ...]:
        weights = {p: a.weight(p, plan.weights) for p in FFN[:2]}
        gate, up = _into(a, "gate_proj", weights["gate_proj"]), _into(a, "up_proj", weights["up_proj"])
        dz, dh = _out_of_backward(a, "down_proj", plan.weights)
        dgate, dup, z = ops.swiglu_backward(dz, gate, up)
        summed, own = _out_of_gradients(a, "down_proj", z, dh)
        dn, dhs, dlora_bs = _into_backward(a, {"gate_proj": dgate, "up_proj": dup}, weights)
        return dn, *dhs, *summed, *dlora_bs, *own

    return Program("ffn_backward" + group.suffix, tuple(inputs), (*accumulators, *gradients), body)


# --- Embedding, head and loss -----------------------------------------------------------------------------------------


def _table(plan: Plan) -> str:
    return "embed_tokens" if plan.architecture.tied_head else "lm_head"


def embed(plan: Plan) -> Program:
    """x = rows of the embedding."""
    inputs = (Argument("input_ids", (plan.tokens,), torch.int64), *_table_rows(plan, "embed_tokens"))
    outputs = (Argument("x", (plan.tokens, plan.architecture.D)),)
    return Program("embed", inputs, outputs, lambda a: (_gather(a, a["input_ids"]),))


def head_start(plan: Plan) -> Program:
    """The final norm, and the target's own logit."""
    arch = plan.architecture
    inputs = (
        Argument("x", (plan.tokens, arch.D)),
        Argument("targets", (plan.tokens,), torch.int64),
        _norm_weight(plan, "norm.weight", layered=False),
        _constant("ones", arch.D, 1),
        *_table_rows(plan, _table(plan)),
    )
    outputs = (Argument("n", (plan.tokens, arch.D)), Argument("z_target", (plan.tokens, 1)))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        return n, ops.cross_entropy_start(n, _gather(a, a["targets"]), a["ones"])

    return Program("head_start", inputs, outputs, body)


def head_tile(plan: Plan, group: TileGroup) -> Program:
    """One tile of the vocabulary: the running log-sum-exp and the gradient at n."""
    wide, thin = (plan.tokens, plan.architecture.D), (plan.tokens, 1)
    state = (Argument("lse", thin), Argument("dn", wide))
    inputs = (Argument("n", wide), *state, *_table_rows(plan, _table(plan), group))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        if "table.values" in a:
            return ops.cross_entropy_tile(a["n"], a["table.values"], None, a["lse"], a["dn"])
        # The floor does nothing to whole numbers: without it XNNPACK's partitioner takes the pair for a quantized product.
        rows = torch.floor(to_float(a["table.quants"]))
        return ops.cross_entropy_tile(a["n"], rows, a["table.scale"], a["lse"], a["dn"])

    return Program("head_tile" + group.suffix, inputs, state, body)


def head_end(plan: Plan) -> Program:
    """The loss, and the gradient at the last block's output, through the final norm."""
    arch = plan.architecture
    wide, thin = (plan.tokens, arch.D), (plan.tokens, 1)
    inputs = (
        Argument("x", wide),
        Argument("lse", thin),
        Argument("dn", wide),
        Argument("z_target", thin),
        Argument("targets", (plan.tokens,), torch.int64),
        Argument("token_weight", thin),
        _norm_weight(plan, "norm.weight", layered=False),
        _constant("ones", arch.D, 1),
        *_table_rows(plan, _table(plan)),
    )

    def body(a: Arguments) -> tuple[Tensor, ...]:
        target_rows = _gather(a, a["targets"])
        loss, dn = ops.cross_entropy_end(a["lse"], a["dn"], a["z_target"], target_rows, a["token_weight"])
        _, rstd = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.eps)
        return loss, ops.rmsnorm_backward(dn, a["x"], a["norm.weight"], rstd, a["ones"])

    return Program("head_end", inputs, (Argument("loss", (1, 1)), Argument("dx", wide)), body)


# --- Gradients and optimizers, on a layer's vector --------------------------------------------------------------------


def _of_layer(plan: Plan, name: str, tensor: str) -> Argument:
    stored = Reference(tensor) if tensor == "gradient" else plan.adapter.of_layer(tensor)
    return Argument(name, (plan.adapter.size,), stored=stored)


def _square_columns(elements: int) -> int:
    """The largest divisor that is not above the square root: it makes both products of ``ops.square_sum`` short."""
    return next(columns for columns in range(math.isqrt(elements), 0, -1) if elements % columns == 0)


def ones_needed(plan: Plan) -> int:
    """Length of the column of ones that all programs share."""
    return max(plan.architecture.D, plan.architecture.C, plan.adapter.size // _square_columns(plan.adapter.size))


def square_sum(plan: Plan) -> Program:
    """Adds a layer's squared gradient to the sum of the layers before: the square of the gradient's norm at the end."""
    columns = _square_columns(plan.adapter.size)
    total = Argument("square_sum", (1, 1))
    inputs = (_of_layer(plan, "gradient", "gradient"), total, _constant("ones", plan.adapter.size // columns, 1))
    body = lambda a: (ops.square_sum(a["gradient"], a["square_sum"], a["ones"], columns),)  # noqa: E731
    return Program("square_sum", inputs, (total,), body)


def accumulate(plan: Plan) -> Program:
    """Adds a layer's gradient to what other sequences of the same optimizer step gave."""
    total = _of_layer(plan, "total", "gradients")
    inputs = (total, _of_layer(plan, "gradient", "gradient"))
    return Program("accumulate", inputs, (total,), lambda a: (a["total"] + a["gradient"],))


def take_gradient(plan: Plan) -> Program:
    """A layer's accumulated gradient, scaled as clipping asks for."""
    inputs = (_of_layer(plan, "total", "gradients"), _scalar("gradient_scale"))
    outputs = (_of_layer(plan, "gradient", "gradient"),)
    return Program("take_gradient", inputs, outputs, lambda a: (a["total"] * a["gradient_scale"],))


def sgd(plan: Plan) -> Program:
    """A step of stochastic gradient descent on a layer's adapter."""
    parameter = _of_layer(plan, "parameter", "adapter")
    inputs = (parameter, _of_layer(plan, "gradient", "gradient"), _scalar("lr"), _scalar("weight_decay"))
    return Program(
        "sgd", inputs, (parameter,), lambda a: (ops.sgd(a["parameter"], a["gradient"], a["lr"], a["weight_decay"]),)
    )


def momentum(plan: Plan) -> Program:
    """A step of stochastic gradient descent with momentum."""
    state = (_of_layer(plan, "parameter", "adapter"), _of_layer(plan, "velocity", "momentum.velocity"))
    scalars = ("lr", "weight_decay", "momentum")
    inputs = (*state, _of_layer(plan, "gradient", "gradient"), *[_scalar(name) for name in scalars])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.momentum(a["parameter"], a["gradient"], a["velocity"], *[a[name] for name in scalars])

    return Program("momentum", inputs, state, body)


ADAMW_SCALARS = ("lr_weight_decay", "one_minus_beta1", "one_minus_beta2", "step_size", "rsqrt_correction2", "eps")


def adamw(plan: Plan) -> Program:
    """A step of AdamW on a layer's adapter and its two moments."""
    state = (_of_layer(plan, "parameter", "adapter"), _of_layer(plan, "m", "adamw.m"), _of_layer(plan, "v", "adamw.v"))
    inputs = (*state, _of_layer(plan, "gradient", "gradient"), *[_scalar(name) for name in ADAMW_SCALARS])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.adamw(a["parameter"], a["gradient"], a["m"], a["v"], *[a[name] for name in ADAMW_SCALARS])

    return Program("adamw", inputs, state, body)


# --- All of them ------------------------------------------------------------------------------------------------------


def norms() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(sublayer, its norm's weight, the projections that read the norm)."""
    yield from (("attention", "input_layernorm.weight", _QKV), ("ffn", "post_attention_layernorm.weight", FFN[:2]))


def forward_programs(plan: Plan) -> list[Program]:
    """Embedding, blocks forward, head and loss, for sequences of ``plan.tokens``."""
    programs = [embed(plan), head_start(plan), head_end(plan)]
    programs += [head_tile(plan, group) for group in plan.vocabulary()]
    programs += [
        norm_forward(plan, f"{sublayer}_norm_forward", weight, readers) for sublayer, weight, readers in norms()
    ]
    programs += [attention_forward(plan, group) for group in plan.heads()]
    return programs + [ffn_forward(plan, group) for group in plan.ffn()]


def backward_programs(plan: Plan) -> list[Program]:
    """The hand-derived backward pass of a block, tile by tile."""
    programs = [
        norm_backward(plan, f"{sublayer}_norm_backward", weight, readers) for sublayer, weight, readers in norms()
    ]
    programs += [attention_backward(plan, group) for group in plan.heads()]
    return programs + [ffn_backward(plan, group) for group in plan.ffn()]


def frozen_programs(plan: Plan) -> list[Program]:
    """The forward programs of the blocks below the first with an adapter, if there are any."""
    if not plan.adapter.first_layer:
        return []
    names = ("attention_norm_forward", "ffn_norm_forward", "attention_forward", "ffn_forward", "ffn_forward_rest")
    frozen = forward_programs(replace(plan, targets=()))
    return [replace(program, name=f"frozen_{program.name}") for program in frozen if program.name in names]


def adapter_programs(plan: Plan) -> list[Program]:
    """The programs on a layer's gradient, adapter and optimizer state, which are the same for every length."""
    return [make(plan) for make in (square_sum, accumulate, take_gradient, sgd, momentum, adamw)]


def length_name(name: str, tokens: int) -> str:
    """What a program, or a schedule, for sequences of a length is called in a bundle."""
    return f"{name}.{tokens}"
