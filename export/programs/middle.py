"""What is between the projections into a sublayer and the projection out of it, for one tile: the part in which sublayers differ.

The tensors into it and out of it are the tile's columns of the projections: [T, columns].
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from ..model.architecture import Attention, FeedForward, ShortConvolution, Sublayer
from .attention import AttentionTile
from .feed_forward import FeedForwardTile
from .plan import Plan
from .program import Argument, Arguments
from .short_convolution import ShortConvolutionTile
from .tiles import TileGroup

# By the name of a projection's columns, or by a name of the middle's own.
Tensors = Mapping[str, Tensor]


class MiddleTile(Protocol):
    """The middle of one tile, forward and backward."""

    def arguments(self, backward: bool) -> list[Argument]:
        """What it takes beside the projections: constants, and weights of its own."""

    def enter(self, a: Arguments, projected: Tensors) -> Tensors:
        """What is done to the projections' results first, such as rotating them."""

    def enter_backward(self, a: Arguments, gradients: Tensors, projected: Tensors) -> Tensors:
        """From the gradients at what ``enter`` returned: those at the projections' results, in the order of the projections."""

    def forward(self, a: Arguments, entered: Tensors) -> Tensor:
        """The input of the projection out."""

    def backward(self, a: Arguments, dx: Tensor, entered: Tensors) -> tuple[Tensors, Tensor]:
        """From the gradient at ``forward``'s result: the gradients at what ``enter`` returned, and that result, rebuilt."""


def middle_of(plan: Plan, sublayer: Sublayer, group: TileGroup) -> MiddleTile:
    """The middle of a sublayer's tiles of this group."""
    match sublayer.middle:
        case Attention() as attention:
            return AttentionTile(plan, sublayer, attention)
        case FeedForward() as feed_forward:
            return FeedForwardTile(sublayer, feed_forward)
        case ShortConvolution() as convolution:
            return ShortConvolutionTile(sublayer, convolution, group)
