"""The programs on a layer's gradient, adapter and optimizer state. Each takes a part of the layer's vector at a time.

Layers of different kinds can have vectors of different lengths: there is a set of these programs for each length.
"""

import math

from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from . import ops
from .arguments import constant, scalar
from .plan import Plan
from .program import Argument, Arguments, Body, OfAdapter, Program

ADAMW_SCALARS = ("lr_weight_decay", "one_minus_beta1", "one_minus_beta2", "step_size", "rsqrt_correction2", "eps")
# The tensors that hold one layer's vector; the others hold all layers'.
OF_ONE_LAYER = ("gradient", "noise")


def part(plan: Plan, name: str, tensor: str, size: int) -> Argument:
    """A part of a layer's vector of ``size`` elements."""
    elements = size // plan.adapter.parts(size)
    owner = OfAdapter(all_layers=tensor not in OF_ONE_LAYER)
    return Argument(name, (elements,), stored=Reference(tensor, 0, {"part": elements}), owner=owner)


def _square_columns(elements: int) -> int:
    """The largest divisor that is not above the square root: it makes both products of ``ops.square_sum`` short."""
    return next(columns for columns in range(math.isqrt(elements), 0, -1) if elements % columns == 0)


def ones_needed(plan: Plan) -> int:
    """Length of the column of ones that the programs on vectors share."""
    elements = [size // plan.adapter.parts(size) for size in plan.adapter.sizes]
    return max(count // _square_columns(count) for count in elements)


def vector_programs(plan: Plan, size: int) -> list[Program]:
    """All of them, for vectors of this length."""
    gradients = (square_sum, accumulate, take_gradient)
    return [make(plan, size) for make in (*gradients, sgd, momentum, adamw)]


def square_sum(plan: Plan, size: int) -> Program:
    """Adds a layer's squared gradient to the sum of the layers before: the square of the gradient's norm at the end."""
    total, gradient = Argument("square_sum", (1, 1)), part(plan, "gradient", "gradient", size)
    columns = _square_columns(gradient.shape[0])
    inputs = (gradient, total, constant("ones", gradient.shape[0] // columns, 1))
    body = lambda a: (ops.square_sum(a["gradient"], a["square_sum"], a["ones"], columns),)  # noqa: E731
    return _named(plan, size, "square_sum", inputs, (total,), body)


def accumulate(plan: Plan, size: int) -> Program:
    """Adds a layer's gradient to what other sequences of the same optimizer step gave."""
    total = part(plan, "total", "gradients", size)
    inputs = (total, part(plan, "gradient", "gradient", size))
    return _named(plan, size, "accumulate", inputs, (total,), lambda a: (a["total"] + a["gradient"],))


def take_gradient(plan: Plan, size: int) -> Program:
    """A layer's accumulated gradient, scaled as clipping asks for."""
    inputs = (part(plan, "total", "gradients", size), scalar("gradient_scale"))
    outputs = (part(plan, "gradient", "gradient", size),)
    return _named(plan, size, "take_gradient", inputs, outputs, lambda a: (a["total"] * a["gradient_scale"],))


def sgd(plan: Plan, size: int) -> Program:
    """A step of stochastic gradient descent on a layer's adapter."""
    parameter = part(plan, "parameter", "adapter", size)
    inputs = (parameter, part(plan, "gradient", "gradient", size), scalar("lr"), scalar("weight_decay"))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return (ops.sgd(a["parameter"], a["gradient"], a["lr"], a["weight_decay"]),)

    return _named(plan, size, "sgd", inputs, (parameter,), body)


def momentum(plan: Plan, size: int) -> Program:
    """A step of stochastic gradient descent with momentum."""
    state = (part(plan, "parameter", "adapter", size), part(plan, "velocity", "momentum.velocity", size))
    scalars = ("lr", "weight_decay", "momentum")
    inputs = (*state, part(plan, "gradient", "gradient", size), *[scalar(name) for name in scalars])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.momentum(a["parameter"], a["gradient"], a["velocity"], *[a[name] for name in scalars])

    return _named(plan, size, "momentum", inputs, state, body)


def adamw(plan: Plan, size: int) -> Program:
    """A step of AdamW on a layer's adapter and its two moments."""
    names = (("parameter", "adapter"), ("m", "adamw.m"), ("v", "adamw.v"))
    state = tuple(part(plan, name, tensor, size) for name, tensor in names)
    inputs = (*state, part(plan, "gradient", "gradient", size), *[scalar(name) for name in ADAMW_SCALARS])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.adamw(a["parameter"], a["gradient"], a["m"], a["v"], *[a[name] for name in ADAMW_SCALARS])

    return _named(plan, size, "adamw", inputs, state, body)


def _named(
    plan: Plan, size: int, name: str, inputs: tuple[Argument, ...], outputs: tuple[Argument, ...], body: Body
) -> Program:
    return Program(plan.adapter.vector_program(name, size), inputs, outputs, body)
