"""What the methods with exact gradients share: a pass forward that keeps the blocks' inputs, and a pass back over the blocks.

With ``Plan.block_inputs`` of 16 bits two row programs stand between the passes and what is kept. The forward pass, and so the loss, does not
see the rounding; the gradients are those of blocks whose inputs are rounded.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from mesp.runtime.engine.bundle import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..programs.plan import F32, Argument, Plan, Program
from .method import Sequence, Writer, spec_of

# A block's input is divided by this, exactly, before it is rounded to float16, whose largest number is 65,504: the stream of SmolLM2-135M
# reaches 26,370, and so there is room for a million. What it costs is digits of elements below 1e-3, with an error of 5e-7 at most.
SCALE = 16.0


def pack_input(plan: Plan, rows: int) -> Program:
    """packed = x / SCALE, rounded to the nearest.

    Nothing is clamped: a larger x is an infinity, with which the gradient is not a number, and the trainer stops. A clamped
    one would be finite and wrong.
    """
    shape = (rows, plan.architecture.D)
    inputs = (Argument("x", shape, by_rows=True),)
    outputs = (Argument("packed", shape, plan.block_inputs, by_rows=True),)
    return Program("pack_input", inputs, outputs, lambda a: ((a["x"] * (1 / SCALE)).to(plan.block_inputs),))


def unpack_input(plan: Plan, rows: int) -> Program:
    """x = packed * SCALE, which is exact."""
    shape = (rows, plan.architecture.D)
    inputs = (Argument("packed", shape, plan.block_inputs, by_rows=True),)
    outputs = (Argument("x", shape, by_rows=True),)
    return Program("unpack_input", inputs, outputs, lambda a: (a["packed"].to(F32) * SCALE,))


class Backpropagation(Sequence):
    """Block by block, from the loss back."""

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        packing = [pack_input(plan, rows), unpack_input(plan, rows)] if plan.packs_block_inputs else []
        return super().row_programs(plan, rows) + packing

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        wide = (plan.tokens, plan.architecture.D)
        kept = spec_of(Argument("block_inputs", (plan.layers, *wide), plan.block_inputs))
        unpacked = {"block_input": Tensor("buffer", TensorSpec(wide))} if plan.packs_block_inputs else {}
        return {
            **super().buffers(plan),
            "block_inputs": Tensor("file" if plan.offload else "buffer", kept),
            **unpacked,
            "dy": Tensor("buffer", TensorSpec(wide)),
        }

    @abstractmethod
    def backward(self, w: Writer) -> None:
        """One block, from its input x and dy at its output: dy at its input, in its place, and the layer's ``gradient``."""

    def forward_keeping(self, w: Writer) -> None:
        """One block: x <- block(x), and what ``backward`` will need beside the block's input."""
        self.forward(w)

    @contextmanager
    def each_gradient(self, w: Writer) -> Iterator[None]:
        layers, dy = self.plan.layers, Reference("dy")
        block = self.wide[0] * self.wide[1]
        input_of_block = Reference("block_inputs", -self.first_layer * block, {"layer": block})
        self.embed(w)
        with w.repeat("layer", layers, first=self.first_layer), w.phase("forward"):
            self._keep_input(w, input_of_block)
            self.forward_keeping(w)
        self.head(w, dy)
        with w.repeat("layer", layers, reverse=True, first=self.first_layer):
            with w.phase("backward"):
                self._take_input(w, input_of_block)
                w.let("dy", dy, *self.wide)
                self.backward(w)
            with w.phase("update"):
                yield

    def _keep_input(self, w: Writer, place: Reference) -> None:
        """Keeps x, a block's input."""
        if self.plan.packs_block_inputs:
            w.call_rows("pack_input", {"x": "x"}, {"packed": place})
        else:
            w.store("x", place)

    def _take_input(self, w: Writer, place: Reference) -> None:
        """x, a block's input that was kept."""
        if self.plan.packs_block_inputs:
            w.call_rows("unpack_input", {"packed": place}, {"x": Reference("block_input")})
            place = Reference("block_input")
        w.let("x", place, *self.wide)
