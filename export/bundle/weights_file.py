"""The weights file: frozen weights in the layout of the programs, and the constants, as safetensors that a runtime maps.

A tensor holds one part of one projection for all layers that have it and all tiles, [layers, tiles, ...], so that a tile of a layer is one
contiguous slice. The file is laid out before any weight is read, and each weight is written into its place as it comes: the model never exists
in memory.
"""

from pathlib import Path

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import TensorSpec
from mesp.runtime.engine.tensor_file import TensorFile

from ..model.architecture import Attention, Projection, Rotary, ShortConvolution, Sublayer
from ..model.checkpoint import Checkpoint
from ..model.quantize import Int4, Int8, Parts
from ..programs import ops
from ..programs.arguments import norm_tensor, stored_name, weight_parts, weight_shape
from ..programs.attention import mask_name, rotary_names, window_of
from ..programs.head import head_table
from ..programs.plan import Plan
from ..programs.program import dtype_name
from ..programs.short_convolution import kernel_name
from ..programs.update import ones_needed

ALIGNMENT = 64
_ROWS_AT_A_TIME = 8192  # of the embedding, which is the largest tensor by far


# --- What is in it ----------------------------------------------------------------------------------------------------


def weight_tensors(plan: Plan) -> dict[str, TensorSpec]:
    """The tensors of the weights file: constants, norms, projections by tile, embedding and head."""
    arch = plan.architecture
    tensors = {
        **{
            name: TensorSpec((plan.tokens, len(rotary.frequencies)))
            for rotary in _rotaries(plan)
            for name in rotary_names(rotary)
        },
        **{name: TensorSpec(ops.mask_shape(*shape)) for name, shape in _masks(plan).items()},
        "ones": TensorSpec((_ones(plan), 1)),
        # Where accumulators start: the largest of them are [T, D] and [D, R].
        "zeros": TensorSpec((max(plan.tokens, plan.rank) * arch.D,)),
        norm_tensor(arch.norm): TensorSpec((arch.norm.width,)),
    }
    for sublayer in arch.sublayers:
        layers = len(arch.layers_of(sublayer))
        for norm in sublayer.norms:
            tensors[norm_tensor(norm, sublayer)] = TensorSpec((layers, norm.width))
    for sublayer in arch.sublayers:
        layers = len(arch.layers_of(sublayer))
        for columns in (*sublayer.columns, *sublayer.out.columns):
            for group in plan.tiles(sublayer):
                for part, spec in weight_parts(plan, sublayer, columns, group):
                    shape = (layers, group.count, *spec.shape)
                    tensors[stored_name(sublayer, columns, group, part)] = TensorSpec(shape, dtype_name(spec.dtype))
        if isinstance(convolution := sublayer.middle, ShortConvolution):
            for group in plan.tiles(sublayer):
                shape = (layers, group.count, convolution.kernel.taps, group.width)
                tensors[kernel_name(sublayer, convolution, group)] = TensorSpec(shape)
    rows = plan.padded_vocabulary
    for table in tables(plan):
        if plan.quantized_tables:
            tensors |= {
                f"{table}.quants": TensorSpec((rows, arch.D), "int8"),
                f"{table}.scale": TensorSpec((rows, 1)),
            }
        else:
            tensors[f"{table}.values"] = TensorSpec((rows, arch.D))
    if rows > arch.V:
        tensors[f"{head_table(plan)}.padding"] = TensorSpec((rows,))
    return tensors


def tables(plan: Plan) -> dict[str, str]:
    """The tables of a bundle, and transformers' paths of them."""
    arch = plan.architecture
    return (
        {"embed_tokens": arch.embedding} if arch.tied_head else {"embed_tokens": arch.embedding, "lm_head": arch.head}
    )


def _attentions(plan: Plan) -> list[Attention]:
    middles = [sublayer.middle for sublayer in plan.architecture.sublayers]
    return [middle for middle in middles if isinstance(middle, Attention)]


def _rotaries(plan: Plan) -> list[Rotary]:
    """The rotary embeddings that differ."""
    return list(dict.fromkeys(attention.rotary for attention in _attentions(plan) if attention.rotary))


def _masks(plan: Plan) -> dict[str, tuple[int, int, int | None]]:
    """The masks by name: tokens, rows of a block, and window of each."""
    shapes = [
        (tokens, plan.at(tokens).query_rows, window_of(attention, tokens))
        for tokens in plan.lengths
        for attention in _attentions(plan)
    ]
    return {mask_name(tokens, window): (tokens, rows, window) for tokens, rows, window in shapes}


def _ones(plan: Plan) -> int:
    """Length of the column of ones that all programs share."""
    return max(plan.architecture.D, ones_needed(plan), *(attention.C for attention in _attentions(plan)))


# --- Writing it -------------------------------------------------------------------------------------------------------


def write_weights(path: Path, plan: Plan, checkpoint: Checkpoint) -> None:
    """Reads the checkpoint tensor by tensor, quantizes, and writes the file."""
    arch = plan.architecture
    file = TensorFile(path, weight_tensors(plan), ALIGNMENT)
    for rotary in _rotaries(plan):
        for name, table in zip(rotary_names(rotary), rotary_tables(rotary, plan.tokens), strict=True):
            file.write(name, table)
    for name, shape in _masks(plan).items():
        file.write(name, ops.causal_mask(*shape))
    file.write("ones", torch.ones(file.tensors["ones"].shape))
    file.write(norm_tensor(arch.norm), checkpoint.rows(f"{arch.norm.module}.weight") + arch.norm.offset)
    for name, path_in_model in tables(plan).items():
        _write_table(file, plan, checkpoint, name, f"{path_in_model}.weight")
    if (padding := f"{head_table(plan)}.padding") in file.tensors:
        file.write(padding, (torch.arange(plan.padded_vocabulary) >= arch.V) * -1e4)
    for sublayer in arch.sublayers:
        for index, layer in enumerate(arch.layers_of(sublayer)):
            for norm in sublayer.norms:
                weight = checkpoint.rows(f"{arch.module(layer, norm)}.weight") + norm.offset
                file.write(norm_tensor(norm, sublayer), weight, index * norm.width)
            for projection in sublayer.projections:
                module = arch.module(layer, projection)
                _write_projection(file, plan, checkpoint, sublayer, projection, index, module)
            if isinstance(convolution := sublayer.middle, ShortConvolution):
                kernel = checkpoint.rows(f"{arch.module(layer, convolution.kernel)}.weight")
                _write_kernel(file, plan, sublayer, convolution, kernel, index)
    file.close()


def rotary_tables(rotary: Rotary, tokens: int) -> tuple[Tensor, Tensor]:
    """cos and sin of position * frequency, times the scale, each [tokens, C/2]."""
    angles = torch.arange(tokens)[:, None].float() * torch.tensor(rotary.frequencies)
    return angles.cos() * rotary.scale, angles.sin() * rotary.scale


def _write_table(file: TensorFile, plan: Plan, checkpoint: Checkpoint, table: str, name: str) -> None:
    width = plan.architecture.D
    for start in range(0, plan.architecture.V, _ROWS_AT_A_TIME):
        rows = checkpoint.rows(name, start, start + _ROWS_AT_A_TIME)
        if not plan.quantized_tables:
            file.write(f"{table}.values", rows, start * width)
            continue
        parts = Int8().quantize(rows.t())
        file.write(f"{table}.quants", parts["quants"].t(), start * width)
        file.write(f"{table}.scale", parts["scale"], start)
    # The rows that fill the last tile stay as the file system made them: zeros.


def _write_projection(
    file: TensorFile,
    plan: Plan,
    checkpoint: Checkpoint,
    sublayer: Sublayer,
    projection: Projection,
    index: int,
    module: str,
) -> None:
    """Writes one layer's, which is number ``index`` of those that have it."""
    parts = _quantized(plan, checkpoint, f"{module}.weight")
    bias = checkpoint.rows(f"{module}.bias") if projection.bias else None
    for columns in projection.columns:
        for group in plan.tiles(sublayer):
            elements = group.scaled(columns.unit, columns.first)
            for tile in range(group.count):
                start = elements.first + tile * elements.width
                of_tile = _tile(plan, projection == sublayer.out, parts, bias, slice(start, start + elements.width))
                for part, values in of_tile.items():
                    name = stored_name(sublayer, columns, group, part)
                    file.write(name, values, (index * group.count + tile) * values.numel())


def _write_kernel(
    file: TensorFile, plan: Plan, sublayer: Sublayer, convolution: ShortConvolution, kernel: Tensor, index: int
) -> None:
    """Writes one layer's kernels, [channels, 1, taps], which are number ``index`` of those that there are."""
    for group in plan.tiles(sublayer):
        channels = kernel[group.first : group.first + group.count * group.width, 0]
        tiles = channels.reshape(group.count, group.width, -1).transpose(1, 2)
        file.write(kernel_name(sublayer, convolution, group), tiles.contiguous(), index * tiles.numel())


def _quantized(plan: Plan, checkpoint: Checkpoint, name: str) -> Parts:
    """The parts of a whole projection, [in, out]; a GGUF's blocks are taken as they are where the format is the same."""
    if isinstance(plan.weights, Int4) and plan.weights.group == 32:
        blocks = checkpoint.int4_blocks(name)
        if blocks:
            return plan.weights.pack(blocks.levels, blocks.scale, blocks.offset)
    return plan.weights.quantize(checkpoint.rows(name).t())


def _tile(plan: Plan, by_inputs: bool, parts: Parts, bias: Tensor | None, cut: slice) -> Parts:
    if not by_inputs:
        tile = {part: values[..., cut] for part, values in parts.items()}
        return tile if bias is None else {**tile, "bias": bias[cut]}
    tile = plan.weights.input_slice(parts, cut)
    if bias is None:
        return tile
    # Tiles are summed, so the first one alone carries the bias.
    return {**tile, "bias": bias if cut.start == 0 else torch.zeros_like(bias)}


# --- Checking before any work -----------------------------------------------------------------------------------------


def check_tiles(plan: Plan) -> None:
    """Raises UsageError if a tile of a projection cannot be stored in the format of the weights."""
    for sublayer in plan.architecture.sublayers:
        for columns in (*sublayer.columns, *sublayer.out.columns):
            for group in plan.tiles(sublayer):
                inputs, _ = weight_shape(sublayer, columns, group)
                name = columns.projection.name
                what = f"A tile of {name}" if columns.projection == sublayer.out else name
                plan.weights.check(what, inputs)
