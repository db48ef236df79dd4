"""The methods: how a block's gradients come from its input. Everything else of a step is the same.

mesp    Memory-efficient Structured Backpropagation (Park et al., 2026): one block is rebuilt at a time, tile by tile, with gradients that
        were derived by hand, and the projection h = xA is computed again
mebp    Memory-efficient Backpropagation, what MeSP is compared with: a checkpoint at each block's input too, and inside the block
        the gradients of autodiff, which keeps all of its intermediates
"""

from mesp.runtime.schedule import Reference

from .architecture import ATTENTION, FFN
from .autodiff import block_backward
from .backpropagation import Backpropagation
from .plan import Plan, Program, TileGroup
from .programs import backward_programs, backward_rows
from .sequence import Sequence, Writer


class Mesp(Backpropagation):
    """MeSP."""

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return super().tile_programs(plan) + backward_programs(plan)

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        return super().row_programs(plan, rows) + backward_rows(plan, rows)

    def backward(self, w: Writer) -> None:
        # Rebuild what the gradients need: the stream between the sublayers, y, and each sublayer's norm when it is its turn.
        self.norm(w, "attention", x="x")
        w.let("y", "x", *self.wide)
        for group in self.plan.heads():
            with w.repeat("tile", group.count):
                w.call("attention_forward" + group.suffix)
        self.norm(w, "ffn", x="y")
        self._sublayer_backward(w, "ffn", self.plan.ffn(), FFN, x="y")
        self.norm(w, "attention", x="x")
        self._sublayer_backward(w, "attention", self.plan.heads(), ATTENTION, x="x")

    def _sublayer_backward(
        self, w: Writer, sublayer: str, groups: tuple[TileGroup, ...], projections: tuple[str, ...], x: str
    ) -> None:
        """From x, its input, and dy at its output: dy at its input, and the gradients of its adapters."""
        *into, out = projections
        summed = [f"grad.{projection}.lora_a" for projection in self.plan.targeted(*into)]
        summed += [f"grad.{projection}.lora_b" for projection in self.plan.targeted(out)]
        w.zero("dn", *self.wide)
        for projection in self.plan.targeted(*into):
            w.zero(f"dh.{projection}", self.plan.tokens, self.plan.rank)
        for gradient in summed:
            w.zero(gradient, self.plan.architecture.D, self.plan.rank)
        for group in groups:
            with w.repeat("tile", group.count):
                w.call(f"{sublayer}_backward{group.suffix}")
        w.call_rows(f"{sublayer}_norm_backward", {"x": x}, {"dx": Reference("dy")})
        for gradient in summed:
            _, projection, factor = gradient.split(".")
            w.store(gradient, self.plan.adapter.place(projection, factor))


class Mebp(Backpropagation):
    """MeBP."""

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return [*super().tile_programs(plan), block_backward(plan)]

    def backward(self, w: Writer) -> None:
        w.call("block_backward")


METHODS: dict[str, type[Sequence]] = {"mesp": Mesp, "mebp": Mebp}
