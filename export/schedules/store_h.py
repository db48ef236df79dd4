"""MeSP without computing h again: the h of every projection of every layer is kept from the forward pass.

Rebuilding the stream between the sublayers still takes the output projection's h, tile by tile.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..model.architecture import Layer, Projection, Sublayer
from ..programs import catalogue
from ..programs.plan import Plan
from ..programs.program import Program
from .mesp import Mesp
from .method import PLAIN
from .writer import Writer

KEEPING = "keeping_"  # of forward programs that give h too


class StoreH(Mesp):
    """MeSP with h kept instead of computed again."""

    keeps_h = True

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        adapted = catalogue.sublayers_of(plan.adapted_segments)
        return super().tile_programs(plan) + catalogue.prefixed(
            KEEPING, catalogue.tiles_forward(plan, adapted, keeps_h=True)
        )

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        """The norms of layers with adapters come without h too: that is at hand when they are rebuilt."""
        programs = super().row_programs(plan, rows)
        adapted = catalogue.sublayers_of(plan.adapted_segments)
        plain = catalogue.prefixed(PLAIN, catalogue.norms_forward(plan.without_adapters(), adapted, rows))
        known = {program.name for program in programs}
        return programs + [program for program in plain if program.name not in known]

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        kept = Tensor("buffer", TensorSpec((plan.layers, plan.tokens, plan.rank)))
        return {**super().buffers(plan), **{f"h.{name}": kept for name in plan.settings.targets}}

    def place(self, name: str) -> Reference:
        if not name.startswith("h."):
            return Reference(name)
        size = self.plan.tokens * self.plan.rank
        return Reference(name, -self.plan.first_layer * size, {"layer": size})

    def forward_keeping(self, w: Writer, layer: Layer) -> None:
        for sublayer in layer:
            kept = [f"h.{projection.name}" for projection in self.plan.targeted(sublayer.out)]
            self.norm(w, sublayer, "x")
            for h in kept:
                w.zero(h, self.plan.tokens, self.plan.rank)
            self.add(w, sublayer, "x", "x", KEEPING)
            for h in kept:
                w.store(h, self.place(h))

    def rebuild_norm(self, w: Writer, sublayer: Sublayer, x: str) -> None:
        self.norm(w, sublayer, x, PLAIN)
        assert w.segment
        projections = [projection for part in w.segment.layer for projection in part.projections]
        for projection in self.plan.targeted(*projections):
            h = f"h.{projection.name}"
            w.let(h, self.place(h), self.plan.tokens, self.plan.rank)

    @contextmanager
    def output_gradient(self, w: Writer, dy: str, *targets: Projection) -> Iterator[None]:
        yield
        for projection in targets:
            w.call("output_gradient", {"h": f"h.{projection.name}", "dy": dy})
            self.store_gradient(w, "grad.lora_b", projection, "lora_b")
