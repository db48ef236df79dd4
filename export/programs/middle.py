"""What is between the projections into a sublayer and the projection out of it, for one tile: the part in which sublayers differ.

The tensors into it and out of it are the tile's columns of the projections: [T, columns].
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from ..model.architecture import Attention, Sublayer
from .attention import AttentionTile
from .feed_forward import FeedForwardTile
from .plan import Plan
from .program import Argument, Arguments

# By projection's name, or by a name of the middle's own.
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


def middle_of(plan: Plan, sublayer: Sublayer) -> MiddleTile:
    """The middle of a sublayer's tiles."""
    if isinstance(sublayer.middle, Attention):
        return AttentionTile(plan, sublayer, sublayer.middle)
    return FeedForwardTile(sublayer)
