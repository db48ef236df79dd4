"""What the methods with exact gradients share: a pass forward that keeps the layers' inputs, and a pass back over the layers."""

from abc import abstractmethod
from collections.abc import Callable

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Reference, TensorSpec

from ..model.architecture import Layer
from ..programs import block_inputs
from ..programs.plan import Plan
from ..programs.program import Program, dtype_name
from .method import Method
from .writer import Writer


class Backpropagation(Method):
    """Layer by layer, from the loss back."""

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        packing = (block_inputs.pack_input, block_inputs.unpack_input) if plan.packs_block_inputs else ()
        return super().row_programs(plan, rows) + [make(plan, rows) for make in packing]

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        wide = (plan.tokens, plan.architecture.D)
        kept = TensorSpec((plan.layers, *wide), dtype_name(plan.block_inputs))
        unpacked = {"block_input": Tensor("buffer", TensorSpec(wide))} if plan.packs_block_inputs else {}
        return {
            **super().buffers(plan),
            "block_inputs": Tensor("file" if plan.offloads_block_inputs else "buffer", kept),
            **unpacked,
            "dy": Tensor("buffer", TensorSpec(wide)),
        }

    @abstractmethod
    def backward(self, w: Writer, layer: Layer) -> None:
        """One layer, from its input x and dy at its output: dy at its input, in its place, and the layer's ``gradient``."""

    def forward_keeping(self, w: Writer, layer: Layer) -> None:
        """One layer: x <- layer(x), and what ``backward`` will need beside the layer's input."""
        self.forward(w, layer)

    def each_gradient(self, w: Writer, use: Callable[[Writer], None]) -> None:
        dy, block = Reference("dy"), self.wide[0] * self.wide[1]
        input_of_layer = Reference("block_inputs", -self.plan.first_layer * block, {"layer": block})
        segments = self.plan.adapted_segments
        self.embed(w)
        for segment in segments:
            with w.layers(segment), w.phase("forward"):
                self._keep_input(w, input_of_layer)
                self.forward_keeping(w, segment.layer)
        self.head(w, dy)
        for segment in reversed(segments):
            with w.layers(segment, reverse=True):
                with w.phase("backward"):
                    self._take_input(w, input_of_layer)
                    w.let("dy", dy, *self.wide)
                    self.backward(w, segment.layer)
                with w.phase("update"):
                    use(w)

    def _keep_input(self, w: Writer, place: Reference) -> None:
        """Keeps x, a layer's input."""
        if self.plan.packs_block_inputs:
            w.call_rows("pack_input", {"x": "x"}, {"packed": place})
        else:
            w.store("x", place)

    def _take_input(self, w: Writer, place: Reference) -> None:
        """x, a layer's input that was kept."""
        if self.plan.packs_block_inputs:
            w.call_rows("unpack_input", {"packed": place}, {"x": Reference("block_input")})
            place = Reference("block_input")
        w.let("x", place, *self.wide)
