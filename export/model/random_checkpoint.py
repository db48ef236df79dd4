"""Random weights for a configuration: memory and speed of a step do not depend on the values."""

import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .families import read_architecture
from .huggingface_folder import load_tokenizer, read_config


class RandomCheckpoint:
    """Weights as transformers would initialize them, drawn tensor by tensor."""

    def __init__(self, folder: Path, seed: int):
        self.config, self.origin = read_config(folder), f"{folder} (random weights)"
        self.quantized: dict[str, int] = {}  # they are drawn in floating point
        self._seed, self._folder = seed, folder
        architecture = read_architecture(self.config)
        self._shapes = dict(architecture.tensors())
        self._norms = dict(architecture.norm_weights())

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        rows, *rest = self._shapes[name]
        shape = ((rows if end is None else min(end, rows)) - start, *rest)
        if norm := self._norms.get(name):
            return torch.full(shape, 1 - norm.offset)
        if name.endswith(".bias"):
            return torch.zeros(shape)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name} {start}".encode()))
        deviation: float = self.config.initializer_range
        return torch.randn(shape, generator=generator) * deviation

    def int4_blocks(self, name: str) -> None:
        """They are drawn in floating point."""

    def tokenizer(self) -> Any | None:
        return load_tokenizer(self._folder)
