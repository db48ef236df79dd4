"""MeSP: Memory-efficient Structured Backpropagation (Park et al., 2026).

One layer is rebuilt at a time, tile by tile, with gradients that were derived by hand, and the projection h = xA is computed again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..model.architecture import Layer, Projection, Sublayer
from ..programs import catalogue
from ..programs.plan import Plan
from ..programs.program import OfAdapter, Program
from ..programs.workspace import largest_program
from .backpropagation import Backpropagation
from .writer import Writer


class Mesp(Backpropagation):
    """MeSP."""

    keeps_h = False

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        adapted = catalogue.sublayers_of(plan.adapted_segments)
        return super().tile_programs(plan) + catalogue.tiles_backward(plan, adapted, cls.keeps_h)

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        adapted = catalogue.sublayers_of(plan.adapted_segments)
        return [
            *super().row_programs(plan, rows),
            *catalogue.norms_backward(plan, adapted, rows),
            *catalogue.norms_after_backward(plan, adapted, rows),
        ]

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        after = any(sublayer.norm_after for sublayer in catalogue.sublayers_of(plan.adapted_segments))
        wide = Tensor("buffer", TensorSpec((plan.tokens, plan.architecture.D)))
        return {**super().buffers(plan), **({"do": wide} if after else {})}

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        return largest_program(plan)

    def backward(self, w: Writer, layer: Layer) -> None:
        for number in reversed(range(len(layer))):
            x = self._rebuild_stream(w, layer[:number])
            self.rebuild_norm(w, layer[number], x)
            dy = self._output_backward(w, layer[number], rebuilt=number < len(layer) - 1)
            self._sublayer_backward(w, layer[number], x, dy)

    def _rebuild_stream(self, w: Writer, before: Layer) -> str:
        """The stream after the first sublayers of a layer. It is rebuilt, not kept: that would double the layers' inputs."""
        x = "x"
        for sublayer in before:
            self.rebuild_norm(w, sublayer, x)
            self.add(w, sublayer, x, "y")
            x = "y"
        return x

    def _output_backward(self, w: Writer, sublayer: Sublayer, rebuilt: bool) -> str:
        """The gradient at the sublayer's own output, from dy. A norm after it needs that output as a whole: of the last sublayer it is
        computed again; those before it gave theirs when the stream was rebuilt.

        Args:
            rebuilt: it is not the last
        """
        if not sublayer.norm_after:
            return "dy"
        o = f"o.{sublayer.name}" if rebuilt else self.output(w, sublayer)
        w.call_rows(f"{sublayer.name}_norm_after_backward", {"o": o}, {"do": Reference("do")})
        w.let("do", Reference("do"), *self.wide)
        return "do"

    def rebuild_norm(self, w: Writer, sublayer: Sublayer, x: str) -> None:
        """n and h of the projections that read it."""
        self.norm(w, sublayer, x)

    def _sublayer_backward(self, w: Writer, sublayer: Sublayer, x: str, dy: str) -> None:
        """From x, its input, and the gradient at its output: dy at its input, and the gradients of its adapters."""
        into = self.plan.targeted(*sublayer.into)
        w.zero("dn", *self.wide)
        for projection in into:
            w.zero(f"dh.{projection.name}", self.plan.tokens, self.plan.rank)
            w.zero(f"grad.{projection.name}.lora_a", projection.inputs, self.plan.rank)
        with self.output_gradient(w, dy, *self.plan.targeted(sublayer.out)):
            w.call_tiles(f"{sublayer.name}_backward", self.plan.tiles(sublayer), {"dy": dy})
        w.call_rows(f"{sublayer.name}_norm_backward", {"x": x}, {"dx": Reference("dy")})
        for projection in into:
            self.store_gradient(w, f"grad.{projection.name}.lora_a", projection, "lora_a")

    @contextmanager
    def output_gradient(self, w: Writer, dy: str, *targets: Projection) -> Iterator[None]:
        """The gradient of the B of the projection out of a sublayer, if it is a target, around the sublayer's tiles."""
        for projection in targets:
            w.zero(f"grad.{projection.name}.lora_b", projection.outputs, self.plan.rank)
        yield
        for projection in targets:
            self.store_gradient(w, f"grad.{projection.name}.lora_b", projection, "lora_b")

    def store_gradient(self, w: Writer, value: str, projection: Projection, factor: str) -> None:
        """Copies the gradient of a whole factor to its place in ``gradient``."""
        assert w.segment
        owner = OfAdapter(all_layers=False, projection=projection.name, factor=factor)
        w.store(value, self.plan.adapter.place("gradient", owner, w.segment))
