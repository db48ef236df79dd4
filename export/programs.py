"""All programs of a plan."""

from dataclasses import replace

from . import block, head, update
from .plan import Plan, Program


def forward_programs(plan: Plan) -> list[Program]:
    """Blocks forward and head by tiles, for sequences of ``plan.tokens``."""
    programs = [head.head_tile(plan), head.head_loss_tile(plan)]
    programs += [block.attention_forward(plan, group) for group in plan.heads()]
    return programs + [block.ffn_forward(plan, group) for group in plan.ffn()]


def forward_rows(plan: Plan, rows: int) -> list[Program]:
    """Embedding, norms forward, and both ends of the head, for so many tokens."""
    programs = [make(plan, rows) for make in (head.embed, head.head_start, head.head_end, head.head_loss)]
    return programs + [
        block.norm_forward(plan, rows, f"{sublayer}_norm_forward", weight, readers)
        for sublayer, weight, readers in block.norms()
    ]


def backward_programs(plan: Plan) -> list[Program]:
    """The hand-derived backward pass of a block by tiles, for sequences of ``plan.tokens``."""
    programs = [block.attention_backward(plan, group) for group in plan.heads()]
    return programs + [block.ffn_backward(plan, group) for group in plan.ffn()]


def backward_rows(plan: Plan, rows: int) -> list[Program]:
    """Norms backward, for so many tokens."""
    return [
        block.norm_backward(plan, rows, f"{sublayer}_norm_backward", weight, readers)
        for sublayer, weight, readers in block.norms()
    ]


def without_adapters(plan: Plan, programs: list[Program]) -> list[Program]:
    """Those of a block, under names of their own: for blocks below the first with an adapter."""
    of_block = [program for program in programs if program.name.startswith(("attention", "ffn"))]
    return [replace(program, name=f"frozen_{program.name}") for program in of_block] if plan.adapter.first_layer else []


def adapter_programs(plan: Plan) -> list[Program]:
    """The programs on a layer's gradient, adapter and optimizer state, which are the same for every length."""
    gradients = (update.square_sum, update.accumulate, update.take_gradient)
    return [make(plan) for make in (*gradients, update.sgd, update.momentum, update.adamw)]
