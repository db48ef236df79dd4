"""A GGUF file: configuration and tokenizer by transformers' reader, tensors by the gguf package that it reads with too."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mesp.runtime.errors import UsageError

from .architecture import Architecture, Attention
from .checkpoint import Int4Blocks
from .families import Family, family, read_architecture
from .huggingface_folder import quiet, save_tokenizer

_BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20}


class GgufCheckpoint:
    """Rows are dequantized as they are read; int4 blocks are handed out as they are stored."""

    def __init__(self, path: Path):
        reader = _open_gguf(path)
        kind = reader.fields["general.architecture"].contents()
        known = family(kind, str(path))
        from transformers import AutoConfig

        with quiet():
            self.config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        self.origin, self._path = str(path), path
        self._has_tokenizer = "tokenizer.ggml.model" in reader.fields
        architecture = read_architecture(self.config)
        stored = {tensor.name: tensor for tensor in reader.tensors}
        names = _gguf_names(kind, architecture)
        self._tensors = {name: stored[gguf_name] for name, gguf_name in names.items() if gguf_name in stored}
        self._head_widths = _interleaved(known, architecture)

    def shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self._tensors.get(name)
        return None if tensor is None else tuple(int(n) for n in reversed(tensor.shape))

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        from gguf.quants import dequantize

        values = dequantize(self._stored_rows(name)[start:end], self._tensors[name].tensor_type)
        return torch.from_numpy(np.array(values, np.float32))

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        kind = self._tensors[name].tensor_type.name
        if kind not in _BLOCK_BYTES:
            return None
        return unpack_blocks(self._stored_rows(name), kind)

    def save_tokenizer(self, folder: Path) -> bool:
        if not self._has_tokenizer:
            return False
        with quiet():
            save_tokenizer(folder, self._path.parent, gguf_file=self._path.name)
        return True

    def _stored_rows(self, name: str) -> np.ndarray:
        """The tensor's bytes by rows, in transformers' order: GGUF interleaves the two halves of some projections' heads."""
        data: np.ndarray = self._tensors[name].data
        module = name.rpartition(".")[0]
        if width := self._head_widths.get(module):
            data = data[np.arange(len(data)).reshape(-1, width // 2, 2).swapaxes(1, 2).reshape(-1)]
        return data


def _interleaved(known: Family, architecture: Architecture) -> dict[str, int]:
    """The width of a head, by the paths of the projections whose rows GGUF interleaves."""
    return {
        architecture.module(number, projection): sublayer.middle.C
        for number, layer in enumerate(architecture.layers)
        for sublayer in layer
        if isinstance(sublayer.middle, Attention)
        for projection in sublayer.projections
        if projection.name in known.gguf_interleaves
    }


def unpack_blocks(rows: np.ndarray, kind: str) -> Int4Blocks:
    """Q4_0 or Q4_1 rows, [out, bytes]. A block is 32 weights: the scale and in Q4_1 the offset as fp16, then 16 bytes of nibbles, the low
    ones for the first half."""
    blocks = rows.reshape(rows.shape[0], -1, _BLOCK_BYTES[kind])
    nibbles = blocks[:, :, -16:]
    levels = np.concatenate([nibbles & 15, nibbles >> 4], 2)
    scale = np.ascontiguousarray(blocks[:, :, 0:2]).view(np.float16).astype(np.float32)
    if kind == "Q4_0":
        offset = scale * -8
    else:
        offset = np.ascontiguousarray(blocks[:, :, 2:4]).view(np.float16).astype(np.float32)
    return Int4Blocks(*[torch.from_numpy(part).permute(1, 2, 0) for part in (levels, scale, offset)])


def _open_gguf(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        ends = [int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors]
        size = path.stat().st_size
        if max(ends) > size:
            raise ValueError(f"its tensors end at byte {max(ends)}, the file at {size}")
        return reader
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise UsageError(f"{path} is not a whole GGUF file: {error}. Download it again.") from error


def _gguf_names(kind: str, architecture: Architecture) -> dict[str, str]:
    """transformers' tensor names to GGUF's."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == kind)
    table = get_tensor_name_map(number, len(architecture.layers))
    names = {}
    for name, _ in architecture.tensors():
        stem, suffix = name.rsplit(".", 1)
        names[name] = f"{table.get_name(stem)}.{suffix}"
    return names
