"""A Hugging Face folder with one model.safetensors, or shards and their index."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mesp.runtime.errors import UsageError

from .huggingface_folder import has_tokenizer, read_config, save_tokenizer


class SafetensorsCheckpoint:
    """Rows are read from the mapped files and widened to fp32."""

    def __init__(self, folder: Path, origin: str):
        self.config, self.origin, self._folder = read_config(folder), origin, folder
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

    def int4_blocks(self, name: str) -> None:
        """A folder's weights are in floating point."""

    def save_tokenizer(self, folder: Path) -> bool:
        if not has_tokenizer(self._folder):
            return False
        save_tokenizer(folder, self._folder)
        return True


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a whole safetensors file: {error}. Download it again.") from error
