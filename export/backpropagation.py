"""What the methods with exact gradients share: a pass forward that keeps the blocks' inputs, and a pass back over the blocks."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from mesp.runtime.bundle import Tensor
from mesp.runtime.schedule import Reference, TensorSpec

from .plan import Plan
from .sequence import Sequence, Writer


class Backpropagation(Sequence):
    """Block by block, from the loss back."""

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        wide = (plan.tokens, plan.architecture.D)
        return {
            **super().buffers(plan),
            "block_inputs": Tensor("file" if plan.offload else "buffer", TensorSpec((plan.layers, *wide))),
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
            w.store("x", input_of_block)
            self.forward_keeping(w)
        self.head(w, dy)
        with w.repeat("layer", layers, reverse=True, first=self.first_layer):
            with w.phase("backward"):
                w.let("x", input_of_block, *self.wide)
                w.let("dy", dy, *self.wide)
                self.backward(w)
            with w.phase("update"):
                yield
