"""A GGUF file: its header is accounted for key by key and tensor by tensor, and rows are dequantized as they are read."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .architecture import Architecture, Attention, ShortConvolution, Sublayer
from .checkpoint import Int4Blocks
from .families import Family, gguf_family, read_architecture
from .gguf_configuration import ROPE_FACTORS, finish, ignore_tokenizer, read_configuration, read_keys
from .gguf_file import GgufFile
from .gguf_tokenizer import read_tokenizer
from .huggingface_folder import quiet
from .tensor_account import Stored, check_tensors

_FLOATS = ("F32", "F16", "BF16", "F64")
_BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20}


class GgufCheckpoint:
    """Rows are dequantized as they are read; int4 blocks are handed out as they are stored."""

    def __init__(self, path: Path):
        self.origin = str(path)
        self._file = GgufFile(path)
        kind, account = read_keys(self._file)
        model_type, known = gguf_family(kind, str(path))
        with quiet():
            self.config = read_configuration(self._file, kind, model_type, account)
        architecture = read_architecture(self.config)
        names = gguf_names(kind, architecture)
        stored = {name: Stored(tensor.shape, tensor.dtype) for name, tensor in self._file.tensors.items()}
        kernels = {names[f"{kernel}.weight"] for kernel in _kernels(architecture)}
        for name in kernels & stored.keys():  # a depthwise kernel's middle axis is left out
            stored[name] = Stored((*stored[name].shape[:1], 1, *stored[name].shape[1:]), stored[name].dtype)
        check_tensors(self.origin, architecture, stored, _readable(), names, without_effect=(ROPE_FACTORS,))
        with quiet():
            self._tokenizer = read_tokenizer(account, architecture.V)
        ignore_tokenizer(account)
        finish(account)
        self._tensors = {name: self._file.tensors[gguf_name] for name, gguf_name in names.items()}
        types = Counter(self._tensors[f"{path}.weight"].dtype for path, _ in _projections(architecture))
        self.quantized = {name: count for name, count in types.items() if name not in _FLOATS}
        self._shapes = dict(architecture.tensors())
        self._norms = dict(architecture.norm_weights())  # GGUF has the sum where a checkpoint has the difference from 1
        self._head_widths = _interleaved(known, architecture)

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        values = dequantize(self._stored_rows(name)[start:end], GGMLQuantizationType[tensor.dtype])
        shape = tensor.shape if len(tensor.shape) == 1 else (-1, *self._shapes[name][1:])
        rows = torch.from_numpy(np.array(values, np.float32)).view(shape)
        return rows - self._norms[name].offset if name in self._norms else rows

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        kind = self._tensors[name].dtype
        if kind not in _BLOCK_BYTES:
            return None
        return unpack_blocks(self._stored_rows(name), kind)

    def tokenizer(self) -> Any | None:
        return self._tokenizer

    def _stored_rows(self, name: str) -> np.ndarray:
        """The tensor's bytes by rows, in transformers' order: GGUF interleaves the two halves of some projections' heads."""
        data = self._file.blocks(self._tensors[name])
        module, _, part = name.rpartition(".")
        if width := self._head_widths.get(module):
            if part == "bias":
                data = data.reshape(-1, data.shape[1] // self._tensors[name].shape[0])
            data = data[np.arange(len(data)).reshape(-1, width // 2, 2).swapaxes(1, 2).reshape(-1)]
            return data.reshape(1, -1) if part == "bias" else data
        return data


def _kernels(architecture: Architecture) -> list[str]:
    """The paths of the convolutions' kernels."""
    return [
        architecture.module(number, sublayer.middle.kernel)
        for number, layer in enumerate(architecture.layers)
        for sublayer in layer
        if isinstance(sublayer.middle, ShortConvolution)
    ]


def _readable() -> list[str]:
    """The types that the gguf package dequantizes, by name."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    names = []
    for kind in GGMLQuantizationType:
        try:
            dequantize(np.zeros((0, 0), np.uint8), kind)
        except NotImplementedError:
            continue
        except ValueError:
            pass
        names.append(kind.name)
    return names


def _interleaved(known: Family, architecture: Architecture) -> dict[str, int]:
    """The width of a head, by the paths of the projections whose rows GGUF interleaves."""
    return {
        path: sublayer.middle.C
        for path, sublayer in _projections(architecture)
        if isinstance(sublayer.middle, Attention) and path.rpartition(".")[2] in known.gguf_interleaves
    }


def _projections(architecture: Architecture) -> Iterator[tuple[str, Sublayer]]:
    """The path of each projection, and its sublayer."""
    for number, layer in enumerate(architecture.layers):
        for sublayer in layer:
            for projection in sublayer.projections:
                yield architecture.module(number, projection), sublayer


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


def gguf_names(kind: str, architecture: Architecture) -> dict[str, str]:
    """transformers' tensor names to GGUF's."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == kind)
    table = get_tensor_name_map(number, len(architecture.layers))
    names = {}
    for name, _ in architecture.tensors():
        stem, suffix = name.rsplit(".", 1)
        names[name] = f"{table.get_name(stem)}.{suffix}"
    return names
