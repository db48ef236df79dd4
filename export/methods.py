"""The methods: how a block's gradients come from its input. Everything else of a step is the same.

mesp    Memory-efficient Structured Backpropagation (Park et al., 2026): one block is rebuilt at a time, tile by tile, with gradients that
        were derived by hand, and the projection h = xA is computed again
mebp    Memory-efficient Backpropagation, what MeSP is compared with: a checkpoint at each block's input too, and inside the block
        the gradients of autodiff, which keeps all of its intermediates
"""

from mesp.runtime.schedule import Store

from .architecture import ATTENTION, FFN
from .autodiff import block_backward
from .programs import Plan, Program, TileGroup, backward_programs
from .sequence import Sequence, Writer


class Mesp(Sequence):
    """MeSP."""

    @staticmethod
    def backward_programs(plan: Plan) -> list[Program]:
        return backward_programs(plan)

    def backward(self, w: Writer) -> None:
        """One block, from its input x and dy at its output: dy <- dy at its input, and the layer's gradient."""
        # Rebuild what the gradients need: both norms' results and the stream between the sublayers, y.
        w.call("attention_norm_forward", outputs={"n": "n_attention"})
        w.let("y", "x", *self.wide)
        for group in self.plan.heads():
            with w.repeat("tile", group.count):
                w.call("attention_forward" + group.suffix, inputs={"n": "n_attention"})
        w.call("ffn_norm_forward", inputs={"x": "y"}, outputs={"n": "n_ffn"})
        self._sublayer_backward(w, "ffn", self.plan.ffn(), FFN, x="y")
        self._sublayer_backward(w, "attention", self.plan.heads(), ATTENTION, x="x")

    def _sublayer_backward(
        self, w: Writer, sublayer: str, groups: tuple[TileGroup, ...], projections: tuple[str, ...], x: str
    ) -> None:
        """From x, its input, and dy at its output: dy <- dy at its input, and the gradients of its adapters."""
        *into, out = projections
        w.zero("dn", *self.wide)
        for projection in self.plan.targeted(*into):
            w.zero(f"dh.{projection}", self.plan.tokens, self.plan.rank)
        if out in self.plan.targets:
            w.zero(f"grad.{out}.lora_b", self.plan.architecture.D, self.plan.rank)
        for group in groups:
            with w.repeat("tile", group.count):
                w.call(f"{sublayer}_backward{group.suffix}", inputs={"n": f"n_{sublayer}"})
        if out in self.plan.targets:
            gradient = self.plan.adapter.slice_of("gradient", out, "lora_b").stored
            w.instructions.append(Store(f"grad.{out}.lora_b", gradient))
        w.call(f"{sublayer}_norm_backward", inputs={"x": x}, outputs={"dx": "dy"})


class Mebp(Sequence):
    """MeBP."""

    @staticmethod
    def backward_programs(plan: Plan) -> list[Program]:
        return [block_backward(plan)]

    def backward(self, w: Writer) -> None:
        w.call("block_backward", outputs={"dx": "dy"})


METHODS: dict[str, type[Sequence]] = {"mesp": Mesp, "mebp": Mebp}
