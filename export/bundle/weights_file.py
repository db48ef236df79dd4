"""The weights file: frozen weights in the layout of the programs, and the constants, as safetensors that a runtime maps.

A tensor holds one part of one projection for all layers and tiles, [layers, tiles, ...], so that a tile of a layer is one contiguous slice.
The file is laid out before any weight is read, and each weight is written into its place as it comes: the model never exists in memory.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.engine.schedule import TensorSpec
from mesp.runtime.engine.tensor_file import TensorFile
from mesp.runtime.errors import UsageError

from ..model.architecture import NORMS, PROJECTIONS, expected_tensors, weight_name
from ..model.checkpoint import Checkpoint
from ..model.quantize import Int4, Int8, Parts
from ..programs import ops
from ..programs.arguments import stored_name, tiled_by_inputs, weight_parts, weight_shape
from ..programs.block import mask_name
from ..programs.head import head_table
from ..programs.plan import Plan
from ..programs.update import ones_needed

ALIGNMENT = 64
_ROWS_AT_A_TIME = 8192  # of the embedding, which is the largest tensor by far


# --- What is in it ----------------------------------------------------------------------------------------------------


def weight_tensors(plan: Plan) -> dict[str, TensorSpec]:
    """The tensors of the weights file: constants, norms, projections by tile, embedding and head."""
    arch = plan.architecture
    tensors = {
        "rope.cos": TensorSpec((plan.tokens, arch.C // 2)),
        "rope.sin": TensorSpec((plan.tokens, arch.C // 2)),
        **{mask_name(n): TensorSpec((plan.at(n).query_rows, n)) for n in plan.lengths},
        "ones": TensorSpec((ones_needed(plan), 1)),
        # Where accumulators start: the largest of them are [T, D] and [D, R].
        "zeros": TensorSpec((max(plan.tokens, plan.rank) * arch.D,)),
        "norm.weight": TensorSpec((arch.D,)),
        **{f"{norm}.weight": TensorSpec((arch.layers, arch.D)) for norm in NORMS},
    }
    for projection in PROJECTIONS:
        for group in plan.groups(projection):
            for part, spec in weight_parts(plan, projection, group):
                shape = (arch.layers, group.count, *spec.shape)
                tensors[stored_name(projection, group, part)] = TensorSpec(
                    shape, str(spec.dtype).removeprefix("torch.")
                )
    rows = plan.padded_vocabulary
    for table in _tables(plan):
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


def _tables(plan: Plan) -> tuple[str, ...]:
    return ("embed_tokens",) if plan.architecture.tied_head else ("embed_tokens", "lm_head")


# --- Writing it -------------------------------------------------------------------------------------------------------


def write_weights(path: Path, plan: Plan, checkpoint: Checkpoint) -> None:
    """Reads the checkpoint tensor by tensor, quantizes, and writes the file."""
    file = TensorFile(path, weight_tensors(plan), ALIGNMENT)
    cos, sin = rotary_tables(checkpoint.config, plan.tokens)
    file.write("rope.cos", cos)
    file.write("rope.sin", sin)
    for tokens in plan.lengths:
        file.write(mask_name(tokens), ops.causal_mask(tokens, plan.at(tokens).query_rows))
    file.write("ones", torch.ones(file.tensors["ones"].shape))
    file.write("norm.weight", checkpoint.rows("model.norm.weight"))
    for table in _tables(plan):
        _write_table(file, plan, checkpoint, table)
    if (padding := f"{head_table(plan)}.padding") in file.tensors:
        file.write(padding, (torch.arange(plan.padded_vocabulary) >= plan.architecture.V) * -1e4)
    for layer in range(plan.architecture.layers):
        for norm in NORMS:
            weight = checkpoint.rows(f"model.layers.{layer}.{norm}.weight")
            file.write(f"{norm}.weight", weight, layer * plan.architecture.D)
        for projection in PROJECTIONS:
            _write_projection(file, plan, checkpoint, layer, projection)
    file.close()


def rotary_tables(config: Any, tokens: int) -> tuple[Tensor, Tensor]:
    """cos and sin, each [tokens, C/2], from transformers' own module, so that its rope scaling is the model's."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    module = LlamaRotaryEmbedding(config)
    cos, sin = module(torch.zeros(1), torch.arange(tokens)[None])
    half = cos.shape[-1] // 2
    return cos[0, :, :half].float().contiguous(), sin[0, :, :half].float().contiguous()


def _write_table(file: TensorFile, plan: Plan, checkpoint: Checkpoint, table: str) -> None:
    name = "model.embed_tokens.weight" if table == "embed_tokens" else "lm_head.weight"
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


def _write_projection(file: TensorFile, plan: Plan, checkpoint: Checkpoint, layer: int, projection: str) -> None:
    name = weight_name(layer, projection)
    parts = _quantized(plan, checkpoint, name)
    bias = checkpoint.rows(name.removesuffix("weight") + "bias") if projection in plan.architecture.biases else None
    for group in plan.groups(projection):
        reach = plan.tile_range(projection, group)
        for tile in range(group.count):
            start = reach.first + tile * reach.width
            tile_parts = _tile(plan, projection, parts, bias, slice(start, start + reach.width))
            for part, values in tile_parts.items():
                file.write(stored_name(projection, group, part), values, (layer * group.count + tile) * values.numel())


def _quantized(plan: Plan, checkpoint: Checkpoint, name: str) -> Parts:
    """The parts of a whole projection, [in, out]; a GGUF's blocks are taken as they are where the format is the same."""
    if isinstance(plan.weights, Int4) and plan.weights.group == 32:
        blocks = checkpoint.int4_blocks(name)
        if blocks:
            return plan.weights.pack(blocks.levels, blocks.scale, blocks.offset)
    return plan.weights.quantize(checkpoint.rows(name).t())


def _tile(plan: Plan, projection: str, parts: Parts, bias: Tensor | None, cut: slice) -> Parts:
    if not tiled_by_inputs(projection):
        tile = {part: values[..., cut] for part, values in parts.items()}
        return tile if bias is None else {**tile, "bias": bias[cut]}
    tile = plan.weights.input_slice(parts, cut)
    if bias is None:
        return tile
    # Tiles are summed, so the first one alone carries the bias.
    return {**tile, "bias": bias if cut.start == 0 else torch.zeros_like(bias)}


# --- Checking a checkpoint before any work ----------------------------------------------------------------------------


def check_checkpoint(plan: Plan, checkpoint: Checkpoint) -> None:
    """Raises UsageError if a tensor is missing or has another shape than the configuration says, or cannot be stored in the format."""
    for name, shape in expected_tensors(plan.architecture).items():
        found = checkpoint.shape(name)
        if found is None:
            raise UsageError(f"{checkpoint.origin} has no tensor {name}, which its configuration asks for.")
        if found != shape:
            raise UsageError(
                f"{checkpoint.origin}: tensor {name} is {list(found)}, but its configuration asks for {list(shape)}."
            )
    for projection in PROJECTIONS:
        for group in plan.groups(projection):
            inputs, _ = weight_shape(plan, projection, group)
            what = f"A tile of {projection}" if tiled_by_inputs(projection) else projection
            plan.weights.check(what, inputs)
