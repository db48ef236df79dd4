"""MeZO: a zeroth-order estimate of the gradient from two forward passes (Malladi et al., 2023), which the paper compares MeSP with.

    g = (loss(p + eps z) - loss(p - eps z)) / (2 eps) * z

z is drawn from a seed each time that it is needed and never kept whole: a layer's part is in ``noise`` while it is used. It is of signs, +1 or
-1, as in SPSA (Spall, 1992), where MeZO draws from a normal distribution: signs are the same bits in every runtime.
"""

from collections.abc import Callable

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..programs import perturbation
from ..programs.plan import Plan
from ..programs.program import Program
from ..programs.workspace import largest_forward_program
from .method import Method
from .writer import Writer


class Mezo(Method):
    """MeZO."""

    @classmethod
    def adapter_programs(cls, plan: Plan) -> list[Program]:
        sizes = plan.adapter.sizes
        return [
            *super().adapter_programs(plan),
            *[perturbation.perturb(plan, size, "perturb", 1.0) for size in sizes],
            *[perturbation.perturb(plan, size, "perturb_back", -2.0) for size in sizes],
            perturbation.slope(),
            *[perturbation.estimate(plan, size) for size in sizes],
        ]

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        return largest_forward_program(plan)

    @classmethod
    def constants(cls) -> dict[str, float]:
        return {"perturbation": perturbation.EPSILON}

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        thin = {name: Tensor("buffer", TensorSpec((1, 1))) for name in ("loss_plus", "loss_minus")}
        return {**super().buffers(plan), **thin, "noise": Tensor("buffer", TensorSpec((plan.adapter.longest,)))}

    def each_gradient(self, w: Writer, use: Callable[[Writer], None]) -> None:
        for program, loss in (("perturb", "loss_plus"), ("perturb_back", "loss_minus")):
            self._perturb(w, program)
            self.loss(w, Reference(loss))
        self._perturb(w, "perturb")
        for loss in ("loss_plus", "loss_minus"):
            w.let(loss, Reference(loss), 1, 1)
        w.call("slope")
        w.store("loss", Reference("loss"))
        for segment in self.plan.adapted_segments:
            with w.layers(segment), w.phase("update"):
                self._draw(w)
                w.call_vector("estimate")
                use(w)

    def _perturb(self, w: Writer, program: str) -> None:
        for segment in self.plan.adapted_segments:
            with w.layers(segment), w.phase("perturb"):
                self._draw(w)
                w.call_vector(program)

    def _draw(self, w: Writer) -> None:
        """The layer's part of z. Each layer has signs of its own, as many as the longest vector needs."""
        assert w.segment
        adapter = self.plan.adapter
        w.draw(Reference("noise"), adapter.size_of(w.segment.layer), "noise_seed", {"layer": adapter.longest})
