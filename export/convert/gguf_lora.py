"""An adapter as llama.cpp's ``--lora`` takes it: a GGUF file of the factors, under the names of the model's own tensors.

llama.cpp adds alpha / rank * B A, with the rank of the tensors; for an rsLoRA, whose scale is alpha / sqrt(rank), alpha is written larger. The
factors are fp32, [rank, in] and [out, rank] as PEFT's. Where llama.cpp has the rows of a weight in another order, B's rows follow.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mesp.runtime.errors import UsageError
from mesp.runtime.files import replacing

from ..model.architecture import Architecture, Attention, Projection
from ..model.families import Family, family
from .lora import LoraAdapter


def write_gguf_lora(path: Path, lora: LoraAdapter, architecture: Architecture) -> None:
    """Writes the file, whole or not at all.

    Args:
        architecture: of the model that the adapter was made for

    Raises:
        UsageError: the adapter has a projection that the model does not have, or that llama.cpp has no name for.
        OSError: the file cannot be written.
    """
    from gguf import GGUFWriter

    known = family(architecture.model_type)
    tensors = dict(_tensors(lora, architecture, known))
    with replacing(path) as beside:
        writer = GGUFWriter(beside, known.gguf)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", lora.scale * lora.rank)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _tensors(lora: LoraAdapter, architecture: Architecture, known: Family) -> Iterator[tuple[str, np.ndarray]]:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == known.gguf)
    table = get_tensor_name_map(number, len(architecture.layers))
    places = dict(_places(architecture))
    for path, pair in lora.pairs.items():
        if path not in places:
            raise UsageError(
                f"{lora.folder}: {path} is no projection of this model, which is {architecture.description()[0]}. "
                "Give the model that the adapter was made for: --base CHECKPOINT or BUNDLE."
            )
        projection, head_width = places[path]
        if (pair.a.shape[1], pair.b.shape[0]) != (projection.inputs, projection.outputs):
            raise UsageError(
                f"{lora.folder}: {path} is of {pair.a.shape[1]} inputs and {pair.b.shape[0]} outputs, but this model's of {projection.inputs} "
                f"and {projection.outputs}. Give the model that the adapter was made for: --base CHECKPOINT or BUNDLE."
            )
        if not (name := table.get_name(path)):
            raise UsageError(f"llama.cpp has no name for {path} of {known.known}. Train without it: --targets.")
        swapped = projection.name in known.gguf_interleaves and head_width
        yield f"{name}.weight.lora_a", np.ascontiguousarray(pair.a)
        yield f"{name}.weight.lora_b", _interleaved(pair.b, head_width) if swapped else np.ascontiguousarray(pair.b)


def _places(architecture: Architecture) -> Iterator[tuple[str, tuple[Projection, int]]]:
    """Each projection by its path, and the width of a head where it is one of attention, else 0."""
    for number, layer in enumerate(architecture.layers):
        for sublayer in layer:
            width = sublayer.middle.C if isinstance(sublayer.middle, Attention) else 0
            for projection in sublayer.projections:
                yield architecture.module(number, projection), (projection, width)


def _interleaved(rows: np.ndarray, width: int) -> np.ndarray:
    """Rows of heads, [heads * width, R], with those of each head's first and second half in turn."""
    halves = rows.reshape(-1, 2, width // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
