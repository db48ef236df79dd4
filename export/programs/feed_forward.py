"""The feed-forward layer as the middle of a sublayer: SwiGLU or GeGLU. A tile is some columns of its width."""

from collections.abc import Mapping

from torch import Tensor

from ..model.architecture import FeedForward, Sublayer
from . import ops
from .plain_middle import PlainMiddle
from .program import Arguments


class FeedForwardTile(PlainMiddle):
    """z = activation(gate) * up."""

    def __init__(self, sublayer: Sublayer, middle: FeedForward):
        self._gate, self._up = (columns.name for columns in sublayer.columns)
        self._silu = middle.activation == "silu"

    def forward(self, a: Arguments, entered: Mapping[str, Tensor]) -> Tensor:
        return (ops.swiglu if self._silu else ops.geglu)(entered[self._gate], entered[self._up])

    def backward(self, a: Arguments, dx: Tensor, entered: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        gated_backward = ops.swiglu_backward if self._silu else ops.geglu_backward
        dgate, dup, z = gated_backward(dx, entered[self._gate], entered[self._up])
        return {self._gate: dgate, self._up: dup}, z
