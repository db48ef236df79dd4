"""MeBP: Memory-efficient Backpropagation, what MeSP is compared with.

A checkpoint at each layer's input too, and inside the layer the gradients of autodiff, which keeps all of its intermediates.
"""

from ..model.architecture import Layer
from ..programs.autodiff import block_backward, block_backward_name
from ..programs.plan import Plan
from ..programs.program import Program
from ..programs.workspace import block_workspace
from .backpropagation import Backpropagation
from .writer import Writer


class Mebp(Backpropagation):
    """MeBP."""

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        return super().tile_programs(plan) + [block_backward(plan, layer) for layer in _layers(plan)]

    @classmethod
    def largest_program(cls, plan: Plan) -> str:
        return block_backward_name(plan, max(_layers(plan), key=lambda layer: block_workspace(plan, layer)))

    @classmethod
    def workspace(cls, plan: Plan) -> int:
        return max(block_workspace(plan, layer) for layer in _layers(plan))

    def backward(self, w: Writer, layer: Layer) -> None:
        w.call(block_backward_name(self.plan, layer))


def _layers(plan: Plan) -> tuple[Layer, ...]:
    """The kinds of layers with adapters."""
    return tuple(dict.fromkeys(segment.layer for segment in plan.adapted_segments))
