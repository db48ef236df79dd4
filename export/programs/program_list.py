"""All programs of a plan."""

from dataclasses import replace

from . import block, head, update
from .plan import Plan, Program


def forward_programs(plan: Plan) -> list[Program]:
    """Blocks forward and head by tiles, for sequences of ``plan.tokens``."""
    return head_programs(plan) + block_programs(plan)


def head_programs(plan: Plan) -> list[Program]:
    """The head by tiles, on ``plan.tokens`` rows."""
    return [head.head_tile(plan), head.head_loss_tile(plan)]


def block_programs(plan: Plan, keeps_h: bool = False) -> list[Program]:
    """Blocks forward by tiles; ``keeps_h`` if the h of the projections out of a sublayer is a result too."""
    programs = [block.attention_forward(plan, group, keeps_h) for group in plan.heads()]
    return programs + [block.ffn_forward(plan, group, keeps_h) for group in plan.ffn()]


def forward_rows(plan: Plan, rows: int) -> list[Program]:
    """Embedding, norms forward, and both ends of the head, for so many tokens."""
    makers = (head.embed, head.head_start, head.head_end, head.head_loss)
    return [*[make(plan, rows) for make in makers], *norm_programs(plan, rows)]


def norm_programs(plan: Plan, rows: int) -> list[Program]:
    """Norms forward, for so many tokens."""
    return [
        block.norm_forward(plan, rows, f"{sublayer}_norm_forward", weight, readers)
        for sublayer, weight, readers in block.norms()
    ]


def backward_programs(plan: Plan, keeps_h: bool = False) -> list[Program]:
    """The hand-derived backward pass of a block by tiles, for sequences of ``plan.tokens``."""
    programs = [block.attention_backward(plan, group, keeps_h) for group in plan.heads()]
    programs += [block.ffn_backward(plan, group, keeps_h) for group in plan.ffn()]
    return [*programs, block.output_gradient(plan)] if keeps_h else programs


def backward_rows(plan: Plan, rows: int) -> list[Program]:
    """Norms backward, for so many tokens."""
    return [
        block.norm_backward(plan, rows, f"{sublayer}_norm_backward", weight, readers)
        for sublayer, weight, readers in block.norms()
    ]


def prefixed(prefix: str, programs: list[Program]) -> list[Program]:
    """The same programs under names of their own."""
    return [replace(program, name=prefix + program.name) for program in programs]


def adapter_programs(plan: Plan) -> list[Program]:
    """The programs on a layer's gradient, adapter and optimizer state, which are the same for every length."""
    gradients = (update.square_sum, update.accumulate, update.take_gradient)
    return [make(plan) for make in (*gradients, update.sgd, update.momentum, update.adamw)]
