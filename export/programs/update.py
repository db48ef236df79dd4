"""The programs on a layer's gradient, adapter and optimizer state. Each takes a part of the layer's vector at a time."""

import math
from dataclasses import replace

from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from . import ops
from .arguments import constant, scalar
from .plan import Argument, Arguments, Plan, Program

ADAMW_SCALARS = ("lr_weight_decay", "one_minus_beta1", "one_minus_beta2", "step_size", "rsqrt_correction2", "eps")


def part(plan: Plan, name: str, tensor: str) -> Argument:
    """A part of ``gradient`` or ``noise``, which hold one layer, or of a tensor that has a vector for each layer."""
    size = plan.adapter.size // plan.adapter.parts
    stored = Reference(tensor) if tensor in ("gradient", "noise") else plan.adapter.of_layer(tensor)
    return Argument(name, (size,), stored=replace(stored, strides={**stored.strides, "part": size}))


def _square_columns(elements: int) -> int:
    """The largest divisor that is not above the square root: it makes both products of ``ops.square_sum`` short."""
    return next(columns for columns in range(math.isqrt(elements), 0, -1) if elements % columns == 0)


def ones_needed(plan: Plan) -> int:
    """Length of the column of ones that all programs share."""
    elements = plan.adapter.size // plan.adapter.parts
    return max(plan.architecture.D, plan.architecture.C, elements // _square_columns(elements))


def square_sum(plan: Plan) -> Program:
    """Adds a layer's squared gradient to the sum of the layers before: the square of the gradient's norm at the end."""
    total, gradient = Argument("square_sum", (1, 1)), part(plan, "gradient", "gradient")
    columns = _square_columns(gradient.shape[0])
    inputs = (gradient, total, constant("ones", gradient.shape[0] // columns, 1))
    body = lambda a: (ops.square_sum(a["gradient"], a["square_sum"], a["ones"], columns),)  # noqa: E731
    return Program("square_sum", inputs, (total,), body)


def accumulate(plan: Plan) -> Program:
    """Adds a layer's gradient to what other sequences of the same optimizer step gave."""
    total = part(plan, "total", "gradients")
    inputs = (total, part(plan, "gradient", "gradient"))
    return Program("accumulate", inputs, (total,), lambda a: (a["total"] + a["gradient"],))


def take_gradient(plan: Plan) -> Program:
    """A layer's accumulated gradient, scaled as clipping asks for."""
    inputs = (part(plan, "total", "gradients"), scalar("gradient_scale"))
    outputs = (part(plan, "gradient", "gradient"),)
    return Program("take_gradient", inputs, outputs, lambda a: (a["total"] * a["gradient_scale"],))


def sgd(plan: Plan) -> Program:
    """A step of stochastic gradient descent on a layer's adapter."""
    parameter = part(plan, "parameter", "adapter")
    inputs = (parameter, part(plan, "gradient", "gradient"), scalar("lr"), scalar("weight_decay"))
    return Program(
        "sgd", inputs, (parameter,), lambda a: (ops.sgd(a["parameter"], a["gradient"], a["lr"], a["weight_decay"]),)
    )


def momentum(plan: Plan) -> Program:
    """A step of stochastic gradient descent with momentum."""
    state = (part(plan, "parameter", "adapter"), part(plan, "velocity", "momentum.velocity"))
    scalars = ("lr", "weight_decay", "momentum")
    inputs = (*state, part(plan, "gradient", "gradient"), *[scalar(name) for name in scalars])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.momentum(a["parameter"], a["gradient"], a["velocity"], *[a[name] for name in scalars])

    return Program("momentum", inputs, state, body)


def adamw(plan: Plan) -> Program:
    """A step of AdamW on a layer's adapter and its two moments."""
    state = (part(plan, "parameter", "adapter"), part(plan, "m", "adamw.m"), part(plan, "v", "adamw.v"))
    inputs = (*state, part(plan, "gradient", "gradient"), *[scalar(name) for name in ADAMW_SCALARS])

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return ops.adamw(a["parameter"], a["gradient"], a["m"], a["v"], *[a[name] for name in ADAMW_SCALARS])

    return Program("adamw", inputs, state, body)
