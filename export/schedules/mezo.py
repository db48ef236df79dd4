"""MeZO: a zeroth-order estimate of the gradient from two forward passes (Malladi et al., 2023), which the paper compares MeSP with.

    g = (loss(p + eps z) - loss(p - eps z)) / (2 eps) * z

z is drawn from a seed each time that it is needed and never kept whole: a layer's part is in ``noise`` while it is used. It is of signs, +1 or
-1, as in SPSA (Spall, 1992), where MeZO draws from a normal distribution: signs are the same bits in every runtime.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mesp.runtime.engine.bundle import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..predict.workspace import dequantizing_workspace, head_workspace
from ..programs.arguments import scalar
from ..programs.plan import Argument, Plan, Program
from ..programs.update import part
from .method import Sequence, Writer


def perturb(plan: Plan, name: str, factor: float) -> Program:
    """p <- p + factor * eps * z"""
    parameter = part(plan, "parameter", "adapter")
    inputs = (parameter, part(plan, "noise", "noise"), scalar("perturbation"))
    body = lambda a: (a["parameter"] + a["noise"] * (a["perturbation"] * factor),)  # noqa: E731
    return Program(name, inputs, (parameter,), body)


def slope(plan: Plan) -> Program:
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


def estimate(plan: Plan) -> Program:
    """g = slope * z"""
    inputs = (part(plan, "noise", "noise"), Argument("slope", (1, 1)))
    outputs = (part(plan, "gradient", "gradient"),)
    return Program("estimate", inputs, outputs, lambda a: (a["noise"] * a["slope"].view(1),))


class Mezo(Sequence):
    """MeZO."""

    @classmethod
    def adapter_programs(cls, plan: Plan) -> list[Program]:
        there, back = perturb(plan, "perturb", 1.0), perturb(plan, "perturb_back", -2.0)
        return [*super().adapter_programs(plan), there, back, slope(plan), estimate(plan)]

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        head = head_workspace(plan) - 8 * plan.tokens * plan.architecture.D  # without the gradient
        return "head_loss_tile" if head > dequantizing_workspace(plan) else "attention_forward"

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        thin = {name: Tensor("buffer", TensorSpec((1, 1))) for name in ("loss_plus", "loss_minus")}
        return {**super().buffers(plan), **thin, "noise": Tensor("buffer", TensorSpec((plan.adapter.size,)))}

    @contextmanager
    def each_gradient(self, w: Writer) -> Iterator[None]:
        for program, loss in (("perturb", "loss_plus"), ("perturb_back", "loss_minus")):
            self._perturb(w, program)
            self.loss(w, Reference(loss))
        self._perturb(w, "perturb")
        for loss in ("loss_plus", "loss_minus"):
            w.let(loss, Reference(loss), 1, 1)
        w.call("slope")
        w.store("loss", Reference("loss"))
        with w.repeat("layer", self.plan.layers, first=self.first_layer), w.phase("update"):
            self._draw(w)
            with w.repeat("part", self.plan.adapter.parts):
                w.call("estimate")
            yield

    def _perturb(self, w: Writer, program: str) -> None:
        with w.repeat("layer", self.plan.layers, first=self.first_layer), w.phase("perturb"):
            self._draw(w)
            with w.repeat("part", self.plan.adapter.parts):
                w.call(program)

    def _draw(self, w: Writer) -> None:
        size = self.plan.adapter.size
        w.draw(Reference("noise"), size, "noise_seed", {"layer": size})
