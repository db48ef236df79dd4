"""A block's input in 16 bits, for ``--block-inputs float16``.

The two programs stand between the passes and what is kept. The forward pass, and so the loss, does not see the rounding; the
gradients are those of blocks whose inputs are rounded.
"""

from .plan import Plan
from .program import F32, Argument, Program

# A block's input is divided by this, exactly, before it is rounded to float16, whose largest number is 65,504: the stream of SmolLM2-135M
# reaches 26,370, and so there is room for a million. What it costs is digits of elements below 1e-3, with an error of 5e-7 at most.
SCALE = 16.0

# What the trainer says when the loss is finite and the gradient is not.
BEYOND_FLOAT16 = (
    "Or a block's input is beyond what float16 holds: a bundle exported with --block-inputs float32 has no such limit."
)


def pack_input(plan: Plan, rows: int) -> Program:
    """packed = x / SCALE, rounded to the nearest.

    Nothing is clamped: a larger x is an infinity, with which the gradient is not a number, and the trainer stops. A clamped
    one would be finite and wrong.
    """
    shape = (rows, plan.architecture.D)
    inputs = (Argument("x", shape, by_rows=True),)
    outputs = (Argument("packed", shape, plan.block_inputs, by_rows=True),)
    return Program("pack_input", inputs, outputs, lambda a: ((a["x"] * (1 / SCALE)).to(plan.block_inputs),))


def unpack_input(plan: Plan, rows: int) -> Program:
    """x = packed * SCALE, which is exact."""
    shape = (rows, plan.architecture.D)
    inputs = (Argument("packed", shape, plan.block_inputs, by_rows=True),)
    outputs = (Argument("x", shape, by_rows=True),)
    return Program("unpack_input", inputs, outputs, lambda a: (a["packed"].to(F32) * SCALE,))
