"""The methods: how a block's gradients come from its input. Everything else of a step is the same.

mesp    Memory-efficient Structured Backpropagation (Park et al., 2026): one block is rebuilt at a time, tile by tile, with gradients that
        were derived by hand, and the projection h = xA is computed again
store-h MeSP without that: h is kept from the forward pass, of every projection of every layer. (Rebuilding the stream between the sublayers
        still takes the output projection's h, tile by tile.)
mebp    Memory-efficient Backpropagation, what MeSP is compared with: a checkpoint at each block's input too, and inside the block
        the gradients of autodiff, which keeps all of its intermediates
mezo    a zeroth-order estimate from two forward passes: ``mezo.py``
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mesp.runtime.engine.bundle import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..model.architecture import ATTENTION, FFN
from ..predict.workspace import block_workspace, largest_program
from ..programs.autodiff import block_backward
from ..programs.plan import Plan, Program, TileGroup
from ..programs.program_list import backward_programs, backward_rows, block_programs, norm_programs, prefixed
from .backpropagation import Backpropagation
from .method import Sequence, Writer
from .mezo import Mezo


class Mesp(Backpropagation):
    """MeSP."""

    keeps_h = False

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return super().tile_programs(plan) + backward_programs(plan, cls.keeps_h)

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        return super().row_programs(plan, rows) + backward_rows(plan, rows)

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        return largest_program(plan)

    def backward(self, w: Writer) -> None:
        # Rebuild what the gradients need: the stream between the sublayers, y, and each sublayer's norm when it is its turn.
        self.rebuild_norm(w, "attention", x="x")
        w.let("y", "x", *self.wide)
        self.tiles(w, "attention_forward", self.plan.heads())
        self.rebuild_norm(w, "ffn", x="y")
        self._sublayer_backward(w, "ffn", self.plan.ffn(), FFN, x="y")
        self.rebuild_norm(w, "attention", x="x")
        self._sublayer_backward(w, "attention", self.plan.heads(), ATTENTION, x="x")

    def rebuild_norm(self, w: Writer, sublayer: str, x: str) -> None:
        """n and h of the projections that read it."""
        self.norm(w, sublayer, x)

    def _sublayer_backward(
        self, w: Writer, sublayer: str, groups: tuple[TileGroup, ...], projections: tuple[str, ...], x: str
    ) -> None:
        """From x, its input, and dy at its output: dy at its input, and the gradients of its adapters."""
        *into, out = projections
        w.zero("dn", *self.wide)
        for projection in self.plan.targeted(*into):
            w.zero(f"dh.{projection}", self.plan.tokens, self.plan.rank)
            w.zero(f"grad.{projection}.lora_a", self.plan.architecture.D, self.plan.rank)
        with self.output_gradient(w, *self.plan.targeted(out)):
            self.tiles(w, f"{sublayer}_backward", groups)
        w.call_rows(f"{sublayer}_norm_backward", {"x": x}, {"dx": Reference("dy")})
        for projection in self.plan.targeted(*into):
            w.store(f"grad.{projection}.lora_a", self.plan.adapter.place(projection, "lora_a"))

    @contextmanager
    def output_gradient(self, w: Writer, *targets: str) -> Iterator[None]:
        """The gradient of the B of the projection out of a sublayer, if it is a target, around the sublayer's tiles."""
        for projection in targets:
            w.zero(f"grad.{projection}.lora_b", self.plan.architecture.D, self.plan.rank)
        yield
        for projection in targets:
            w.store(f"grad.{projection}.lora_b", self.plan.adapter.place(projection, "lora_b"))


class StoreH(Mesp):
    """MeSP with h kept instead of computed again."""

    keeps_h = True

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return super().tile_programs(plan) + prefixed("keeping_", block_programs(plan, keeps_h=True))

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        programs = super().row_programs(plan, rows)
        plain = prefixed("plain_", norm_programs(replace(plan, targets=()), rows))
        return programs if plan.adapter.first_layer else programs + plain

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        kept = Tensor("buffer", TensorSpec((plan.layers, plan.tokens, plan.rank)))
        return {**super().buffers(plan), **{f"h.{projection}": kept for projection in plan.targets}}

    def place(self, name: str) -> Reference:
        size = self.plan.tokens * self.plan.rank
        return Reference(name, -self.first_layer * size, {"layer": size}) if name.startswith("h.") else Reference(name)

    def forward_keeping(self, w: Writer) -> None:
        sublayers = (("attention", self.plan.heads(), "o_proj"), ("ffn", self.plan.ffn(), "down_proj"))
        for sublayer, groups, out in sublayers:
            kept = [f"h.{projection}" for projection in self.plan.targeted(out)]
            self.norm(w, sublayer, x="x")
            for h in kept:
                w.zero(h, self.plan.tokens, self.plan.rank)
            self.tiles(w, f"keeping_{sublayer}_forward", groups, {"y": "x"}, {"y": "x"})
            for h in kept:
                w.store(h, self.place(h))

    def rebuild_norm(self, w: Writer, sublayer: str, x: str) -> None:
        self.norm(w, f"plain_{sublayer}", x)
        for projection in self.plan.targets:
            w.let(f"h.{projection}", self.place(f"h.{projection}"), self.plan.tokens, self.plan.rank)

    @contextmanager
    def output_gradient(self, w: Writer, *targets: str) -> Iterator[None]:
        yield
        for projection in targets:
            w.call("output_gradient", {"h": f"h.{projection}"})
            w.store("grad.lora_b", self.plan.adapter.place(projection, "lora_b"))


class Mebp(Backpropagation):
    """MeBP."""

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return [*super().tile_programs(plan), block_backward(plan)]

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        return "block_backward"

    @classmethod
    def workspace(cls, plan: Plan) -> int:
        return block_workspace(plan)

    def backward(self, w: Writer) -> None:
        w.call("block_backward")


METHODS: dict[str, type[Sequence]] = {"mesp": Mesp, "mebp": Mebp, "store-h": StoreH, "mezo": Mezo}
