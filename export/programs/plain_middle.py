"""What the middles share that take the projections' results as they are, and need no constants."""

from collections.abc import Mapping

from torch import Tensor

from .program import Argument, Arguments


class PlainMiddle:
    """A middle that does nothing to the projections' results first."""

    def arguments(self, backward: bool) -> list[Argument]:
        return []

    def enter(self, a: Arguments, projected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return projected

    def enter_backward(
        self, a: Arguments, gradients: Mapping[str, Tensor], projected: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return gradients
