"""A bundle's frozen weights, put together from their tiles and dequantized: what a model by transformers is loaded with."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from mesp.runtime.engine.bundle import Bundle
from mesp.runtime.engine.session import WeightsView

from ..bundle.make_plan import bundle_plan
from ..bundle.weights_file import tables
from ..model.architecture import Projection, ShortConvolution, Sublayer
from ..model.quantize import to_float
from ..programs.arguments import norm_tensor, stored_name, weight_parts
from ..programs.plan import Plan
from ..programs.short_convolution import kernel_name


def dequantized_tensors(bundle: Bundle) -> Iterator[tuple[str, Tensor]]:
    """Every frozen weight under transformers' name, [out, in], fp32."""
    plan, stored = bundle_plan(bundle), WeightsView(bundle)
    arch = plan.architecture
    yield f"{arch.norm.module}.weight", stored[norm_tensor(arch.norm)] - arch.norm.offset
    for table, path in tables(plan).items():
        if plan.quantized_tables:
            values = to_float(stored[f"{table}.quants"].view(-1, arch.D)) * stored[f"{table}.scale"][:, None]
        else:
            values = stored[f"{table}.values"].view(-1, arch.D).clone()
        yield f"{path}.weight", values[: arch.V]
    for sublayer in arch.sublayers:
        for index, layer in enumerate(arch.layers_of(sublayer)):
            for norm in sublayer.norms:
                weights = stored[norm_tensor(norm, sublayer)].view(-1, norm.width)
                yield f"{arch.module(layer, norm)}.weight", weights[index] - norm.offset
            if isinstance(convolution := sublayer.middle, ShortConvolution):
                kernel = _kernel(plan, stored, sublayer, convolution, index)
                yield f"{arch.module(layer, convolution.kernel)}.weight", kernel
            for projection in sublayer.projections:
                weight, bias = _projection(plan, stored, sublayer, projection, index)
                module = arch.module(layer, projection)
                yield f"{module}.weight", weight.t().contiguous()
                if bias is not None:
                    yield f"{module}.bias", bias


def _projection(
    plan: Plan, stored: WeightsView, sublayer: Sublayer, projection: Projection, index: int
) -> tuple[Tensor, Tensor | None]:
    """A projection put together from its tiles, [in, out], and its bias; of layer number ``index`` of those that have it."""
    tiles, biases = [], []
    for columns, group in product(projection.columns, plan.tiles(sublayer)):
        for tile in range(group.count):
            parts = {}
            for part, spec in weight_parts(plan, sublayer, columns, group):
                values = stored[stored_name(sublayer, columns, group, part)]
                parts[part] = values.view(-1, group.count, *spec.shape)[index, tile]
            if "bias" in parts:
                biases.append(parts.pop("bias"))
            tiles.append(plan.weights.dequantize(parts).clone())
    if projection == sublayer.out:
        return torch.cat(tiles, 0), torch.stack(biases).sum(0) if biases else None
    return torch.cat(tiles, 1), torch.cat(biases) if biases else None


def _kernel(plan: Plan, stored: WeightsView, sublayer: Sublayer, convolution: ShortConvolution, index: int) -> Tensor:
    """The kernels of layer number ``index`` of those that have some, [channels, 1, taps]."""
    tiles = []
    for group in plan.tiles(sublayer):
        shape = (-1, group.count, convolution.kernel.taps, group.width)
        tiles.append(stored[kernel_name(sublayer, convolution, group)].view(shape)[index].transpose(1, 2))
    return torch.cat([tile.reshape(-1, convolution.kernel.taps) for tile in tiles])[:, None]
