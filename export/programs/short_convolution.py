"""A gated short convolution as the middle of a sublayer. A tile is some of its channels."""

from collections.abc import Mapping

from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import ShortConvolution, Sublayer
from . import ops
from .plain_middle import PlainMiddle
from .program import Argument, Arguments, OfSublayer
from .tiles import TileGroup


def kernel_name(sublayer: Sublayer, convolution: ShortConvolution, group: TileGroup) -> str:
    """The tensor of the weights file that holds the kernels of all tiles in all layers with the sublayer, [layers, tiles, taps, channels]."""
    return f"{sublayer.prefix}{convolution.kernel.tensor}{group.suffix}"


class ShortConvolutionTile(PlainMiddle):
    """z = C * conv(B * x), B, C and x the projections into it."""

    def __init__(self, sublayer: Sublayer, middle: ShortConvolution, group: TileGroup):
        self._b, self._c, self._x = (columns.name for columns in sublayer.columns)
        shape = (middle.kernel.taps, group.width)
        size = shape[0] * shape[1]
        stored = Reference(kernel_name(sublayer, middle, group), 0, {"tile": size})
        self._kernel = Argument("kernel", shape, stored=stored, owner=OfSublayer(sublayer, size * group.count))

    def arguments(self, backward: bool) -> list[Argument]:
        return [self._kernel]

    def forward(self, a: Arguments, entered: Mapping[str, Tensor]) -> Tensor:
        return ops.short_convolution(entered[self._b], entered[self._c], entered[self._x], a["kernel"])

    def backward(self, a: Arguments, dx: Tensor, entered: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        *gradients, z = ops.short_convolution_backward(
            dx, entered[self._b], entered[self._c], entered[self._x], a["kernel"]
        )
        return dict(zip((self._b, self._c, self._x), gradients, strict=True)), z
