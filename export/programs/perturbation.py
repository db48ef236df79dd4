"""The programs of MeZO: a layer's adapter moved along a random direction z and back, and the gradient that is estimated from two losses."""

from .arguments import scalar
from .plan import Plan
from .program import Argument, Program
from .update import part

# MeZO's epsilon: Malladi et al., 2023, use this for all of their models.
EPSILON = 1e-3


def perturb(plan: Plan, size: int, name: str, factor: float) -> Program:
    """p <- p + factor * eps * z"""
    parameter = part(plan, "parameter", "adapter", size)
    inputs = (parameter, part(plan, "noise", "noise", size), scalar("perturbation"))
    body = lambda a: (a["parameter"] + a["noise"] * (a["perturbation"] * factor),)  # noqa: E731
    return Program(plan.adapter.vector_program(name, size), inputs, (parameter,), body)


def slope() -> Program:
    """The mean of both losses, and their difference for each unit of z: (loss_plus - loss_minus) / (2 eps)"""
    losses = tuple(Argument(name, (1, 1)) for name in ("loss_plus", "loss_minus"))
    outputs = tuple(Argument(name, (1, 1)) for name in ("loss", "slope"))
    return Program(
        "slope",
        (*losses, scalar("perturbation")),
        outputs,
        lambda a: (
            (a["loss_plus"] + a["loss_minus"]) * 0.5,
            (a["loss_plus"] - a["loss_minus"]) * 0.5 / a["perturbation"],
        ),
    )


def estimate(plan: Plan, size: int) -> Program:
    """g = slope * z"""
    inputs = (part(plan, "noise", "noise", size), Argument("slope", (1, 1)))
    outputs = (part(plan, "gradient", "gradient", size),)
    name = plan.adapter.vector_program("estimate", size)
    return Program(name, inputs, outputs, lambda a: (a["noise"] * a["slope"].view(1),))
