"""Where the frozen weights come from: a Hugging Face directory or Hub id, a GGUF file, or random numbers for a configuration.

A checkpoint hands out rows of one tensor at a time, under the names that transformers gives them, so that no more than that is ever in memory.
"""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mesp.runtime.errors import UsageError

from .architecture import MODEL_TYPES, SUPPORTED, Architecture, expected_tensors, read_architecture


@dataclass(frozen=True)
class Int4Blocks:
    """A weight that is stored as affine int4 already, in groups of 32 inputs."""

    levels: Tensor  # [in / 32, 32, out], 0 .. 15
    scale: Tensor  # [in / 32, 1, out]
    offset: Tensor  # [in / 32, 1, out]


class Checkpoint(Protocol):
    """A source of weights."""

    config: Any  # a transformers PretrainedConfig
    origin: str  # what a person would call it

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The tensor's shape, None if there is none of that name."""

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """Rows start .. end of a tensor (all of it by default), fp32."""

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        """The weight's own blocks, if it is stored in a format that int4 takes over exactly."""

    def save_tokenizer(self, folder: Path) -> bool:
        """Writes what the tokenizer needs; False if the checkpoint has none."""


def open_checkpoint(source: str, random_init: bool = False, seed: int = 0) -> Checkpoint:
    """Opens a directory, a .gguf file or a Hub id.

    Raises:
        UsageError: nothing there, or not what it says it is.
    """
    path = Path(source)
    if path.suffix == ".gguf":
        if random_init:
            raise UsageError("--random-init takes a folder with a config.json, not a GGUF file.")
        return GgufCheckpoint(path)
    if not path.exists():
        if random_init or source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise UsageError(
                f"There is no checkpoint at {source}. Expected a folder with a config.json, a .gguf file, or a Hub id such as Qwen/Qwen2.5-0.5B."
            )
        path = _download(source)
    if not (path / "config.json").is_file():
        raise UsageError(
            f"{source} has no config.json. Expected a Hugging Face model folder: config.json, model.safetensors and the tokenizer's files."
        )
    return RandomCheckpoint(path, seed) if random_init else SafetensorsCheckpoint(path, source)


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{repo} is not a folder here, and the Hugging Face Hub could not give it: {reason}"
        ) from error


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        raw = json.loads((folder / "config.json").read_text())
        if raw.get("model_type") not in MODEL_TYPES:
            raise UsageError(
                f"Architecture {raw.get('model_type')!r} in {folder / 'config.json'} is not supported. Supported: {SUPPORTED}."
            )
        return AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be read as a model configuration: {error}") from error


def _save_tokenizer(folder: Path, source: Path, **options: str) -> bool:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source, **options).save_pretrained(folder)
    return True


class SafetensorsCheckpoint:
    """A Hugging Face folder with one model.safetensors, or shards and their index."""

    def __init__(self, folder: Path, origin: str):
        self.config, self.origin, self._folder = _read_config(folder), origin, folder
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            shards = ["model.safetensors"]
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise UsageError(
                f"{folder} lacks {', '.join(missing)}. Weights are read from safetensors only; --random-init needs none."
            )
        self._files = [_open_safetensors(folder / shard) for shard in shards]
        self._file_of = {name: file for file in self._files for name in file.keys()}

    def shape(self, name: str) -> tuple[int, ...] | None:
        file = self._file_of.get(name)
        return tuple(file.get_slice(name).get_shape()) if file else None

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        rows: Tensor = self._file_of[name].get_slice(name)[start:end]
        return rows.float()

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        return None

    def save_tokenizer(self, folder: Path) -> bool:
        if not any((self._folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            return False
        return _save_tokenizer(folder, self._folder)


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a whole safetensors file: {error}. Download it again.") from error


class RandomCheckpoint:
    """Weights as transformers would initialize them, drawn tensor by tensor: memory and speed of a step do not depend on the values."""

    def __init__(self, folder: Path, seed: int):
        self.config, self.origin = _read_config(folder), f"{folder} (random weights)"
        self._seed, self._folder = seed, folder
        self._shapes = expected_tensors(read_architecture(self.config))

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._shapes.get(name)

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        rows, *rest = self._shapes[name]
        shape = ((rows if end is None else min(end, rows)) - start, *rest)
        if name.endswith("norm.weight"):
            return torch.ones(shape)
        if name.endswith(".bias"):
            return torch.zeros(shape)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name} {start}".encode()))
        deviation: float = self.config.initializer_range
        return torch.randn(shape, generator=generator) * deviation

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        return None

    def save_tokenizer(self, folder: Path) -> bool:
        if not (self._folder / "tokenizer.json").is_file():
            return False
        return _save_tokenizer(folder, self._folder)


class GgufCheckpoint:
    """A GGUF file: configuration and tokenizer by transformers' reader, tensors by the gguf package that it reads with too."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise UsageError(f"There is no GGUF file at {path}.")
        reader = _open_gguf(path)
        kind = reader.fields["general.architecture"].contents()
        if kind not in MODEL_TYPES:
            raise UsageError(f"Architecture {kind!r} in {path} is not supported. Supported: {SUPPORTED}.")
        from transformers import AutoConfig

        with _quiet_transformers():
            self.config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        self.origin, self._path = str(path), path
        self._interleaved = kind == "llama"
        self._has_tokenizer = "tokenizer.ggml.model" in reader.fields
        stored = {tensor.name: tensor for tensor in reader.tensors}
        names = _gguf_names(kind, read_architecture(self.config))
        self._tensors = {name: stored[gguf_name] for name, gguf_name in names.items() if gguf_name in stored}

    def shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self._tensors.get(name)
        return None if tensor is None else tuple(int(n) for n in reversed(tensor.shape))

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        from gguf.quants import dequantize

        values = dequantize(self._stored_rows(name)[start:end], self._tensors[name].tensor_type)
        return torch.from_numpy(np.array(values, np.float32))

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        kind = self._tensors[name].tensor_type.name
        if kind not in ("Q4_0", "Q4_1"):
            return None
        return unpack_blocks(self._stored_rows(name), kind)

    def save_tokenizer(self, folder: Path) -> bool:
        if not self._has_tokenizer:
            return False
        with _quiet_transformers():
            return _save_tokenizer(folder, self._path.parent, gguf_file=self._path.name)

    def _stored_rows(self, name: str) -> np.ndarray:
        """The tensor's bytes by rows, in transformers' order: GGUF interleaves the two halves of each rotated head of a Llama."""
        data: np.ndarray = self._tensors[name].data
        for projection, heads in (
            ("q_proj", self.config.num_attention_heads),
            ("k_proj", self.config.num_key_value_heads),
        ):
            if self._interleaved and f".{projection}." in name:
                data = data[np.arange(len(data)).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)]
        return data


def unpack_blocks(rows: np.ndarray, kind: str) -> Int4Blocks:
    """Q4_0 or Q4_1 rows, [out, bytes]. A block is 32 weights: the scale and in Q4_1 the offset as fp16, then 16 bytes of nibbles, the low
    ones for the first half."""
    blocks = rows.reshape(rows.shape[0], -1, {"Q4_0": 18, "Q4_1": 20}[kind])
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
    table = get_tensor_name_map(number, architecture.layers)
    names = {}
    for name in expected_tensors(architecture):
        stem, suffix = name.rsplit(".", 1)
        names[name] = f"{table.get_name(stem)}.{suffix}"
    return names


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)
