"""The programs of both ends of the model: the embedding, and the head with the loss."""

import torch
from torch import Tensor

from ..model.quantize import to_float
from . import ops
from .arguments import constant, gather, norm_weight, table, table_tile
from .plan import Plan
from .program import Argument, Arguments, Program


def head_table(plan: Plan) -> str:
    """The stored tensor that the head multiplies with."""
    return "embed_tokens" if plan.architecture.tied_head else "lm_head"


def embed(plan: Plan, rows: int) -> Program:
    """x = rows of the embedding, scaled in some families."""
    scale = plan.architecture.embedding_scale
    inputs = (Argument("input_ids", (rows,), torch.int64, by_rows=True), *table(plan, "embed_tokens"))
    outputs = (Argument("x", (rows, plan.architecture.D), by_rows=True),)

    def body(a: Arguments) -> tuple[Tensor, ...]:
        rows = gather(a, a["input_ids"])
        return (rows if scale == 1 else rows * scale,)

    return Program("embed", inputs, outputs, body)


def pick(plan: Plan, table_rows: int, rows: int) -> Program:
    """Rows of a table: of the stream those with targets, and back to where they came from. It is one gather, outside of the delegate."""
    width = plan.architecture.D
    inputs = (Argument("table", (table_rows, width)), Argument("positions", (rows,), torch.int64, by_rows=True))
    outputs = (Argument("picked", (rows, width), by_rows=True),)
    body = lambda a: (torch.nn.functional.embedding(a["positions"], a["table"]),)  # noqa: E731
    return Program(pick_name(table_rows), inputs, outputs, body)


def pick_name(table_rows: int) -> str:
    """What ``pick`` from a table of so many rows is called."""
    return f"pick.{table_rows}"


def head_start(plan: Plan, rows: int) -> Program:
    """The final norm, and the target's own logit. Where logits are scaled, what the head reads is."""
    arch = plan.architecture
    inputs = (
        Argument("x", (rows, arch.D), by_rows=True),
        Argument("targets", (rows,), torch.int64, by_rows=True),
        norm_weight(arch.norm),
        constant("ones", arch.D, 1),
        *table(plan, head_table(plan)),
    )
    outputs = (Argument("n", (rows, arch.D), by_rows=True), Argument("z_target", (rows, 1), by_rows=True))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        n, _ = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.norm.eps)
        n = _scaled(plan, n)
        return n, ops.cross_entropy_start(n, gather(a, a["targets"]), a["ones"])

    return Program("head_start", inputs, outputs, body)


def _scaled(plan: Plan, x: Tensor) -> Tensor:
    """By the scale of the logits, if they have one: the same forward and backward."""
    scale = plan.architecture.logit_scale
    return x if scale == 1 else x * scale


def _tile_rows(a: Arguments) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The rows of a tile of the vocabulary, their scale, and what takes rows of padding out of the softmax."""
    if "table.values" in a:
        return a["table.values"], None, a.get("table.padding")
    # The floor does nothing to whole numbers: without it XNNPACK's partitioner takes the pair for a quantized product.
    return torch.floor(to_float(a["table.quants"])), a["table.scale"], a.get("table.padding")


def head_tile(plan: Plan, rows: int) -> Program:
    """One tile of the vocabulary, on so many rows of the head: the running log-sum-exp and the gradient at n."""
    wide, thin = (rows, plan.architecture.D), (rows, 1)
    state = (Argument("lse", thin), Argument("dn", wide))
    inputs = (Argument("n", wide), *state, *table_tile(plan, head_table(plan)))
    body = lambda a: ops.cross_entropy_tile(a["n"], *_tile_rows(a), a["lse"], a["dn"])  # noqa: E731
    return Program("head_tile", inputs, state, body)


def head_loss_tile(plan: Plan, rows: int) -> Program:
    """The same without the gradient."""
    lse = Argument("lse", (rows, 1))
    inputs = (Argument("n", (rows, plan.architecture.D)), lse, *table_tile(plan, head_table(plan)))
    body = lambda a: (ops.cross_entropy_tile_loss(a["n"], *_tile_rows(a), a["lse"]),)  # noqa: E731
    return Program("head_loss_tile", inputs, (lse,), body)


def _loss_inputs(rows: int) -> tuple[Argument, ...]:
    thin = [Argument(name, (rows, 1), by_rows=True) for name in ("lse", "z_target", "token_weight")]
    return (Argument("loss", (1, 1)), *thin)


def head_end(plan: Plan, rows: int) -> Program:
    """Adds to the loss, and gives the gradient at the last block's output, through the final norm."""
    arch = plan.architecture
    inputs = (
        *_loss_inputs(rows),
        Argument("x", (rows, arch.D), by_rows=True),
        Argument("dn", (rows, arch.D), by_rows=True),
        Argument("targets", (rows,), torch.int64, by_rows=True),
        norm_weight(arch.norm),
        constant("ones", arch.D, 1),
        *table(plan, head_table(plan)),
    )
    outputs = (Argument("loss", (1, 1)), Argument("dx", (rows, arch.D), by_rows=True))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        loss = ops.cross_entropy_loss(a["lse"], a["z_target"], a["token_weight"])
        dn = ops.cross_entropy_backward(a["lse"], a["dn"], a["z_target"], gather(a, a["targets"]), a["token_weight"])
        _, rstd = ops.rmsnorm(a["x"], a["norm.weight"], a["ones"], arch.norm.eps)
        return a["loss"] + loss, ops.rmsnorm_backward(_scaled(plan, dn), a["x"], a["norm.weight"], rstd, a["ones"])

    return Program("head_end", inputs, outputs, body)


def head_loss(plan: Plan, rows: int) -> Program:
    """Adds to the loss."""
    body = lambda a: (a["loss"] + ops.cross_entropy_loss(a["lse"], a["z_target"], a["token_weight"]),)  # noqa: E731
    return Program("head_loss", _loss_inputs(rows), (Argument("loss", (1, 1)),), body)
