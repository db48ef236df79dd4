"""A Hugging Face folder with one model.safetensors, or shards and their index."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError
from mesp.runtime.files import read_json_object, refuse_pointer

from .architecture import Architecture
from .families import read_architecture
from .huggingface_folder import load_tokenizer, read_config
from .tensor_account import Stored, check_tensors

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16")
# What old Llama checkpoints keep of their rotary embedding, and transformers computes anew.
_WITHOUT_EFFECT = ("model.layers.*.self_attn.rotary_emb.inv_freq",)
_ROWS_AT_A_TIME = 8192


class SafetensorsCheckpoint:
    """Rows are read from the mapped files and widened to fp32."""

    def __init__(self, folder: Path, origin: str):
        self.config, self.origin, self._folder = read_config(folder), origin, folder
        read_architecture(self.config)  # refused before the weights' headers are looked at
        self._file_of: dict[str, Any] = {}
        self.quantized: dict[str, int] = {}  # its files are of floats
        for shard in _shards(folder):
            file = _open_safetensors(folder / shard)
            if twice := sorted(self._file_of.keys() & set(file.keys())):
                raise UsageError(f"{origin}: tensor {twice[0]} is in more than one file. Download the folder again.")
            self._file_of |= dict.fromkeys(file.keys(), file)
        stored = {name: _stored(file, name) for name, file in self._file_of.items()}
        architecture = self._with_its_own_head(stored)
        ignored = (*_WITHOUT_EFFECT, f"{architecture.head}.weight")
        check_tensors(origin, architecture, stored, _DTYPES, without_effect=ignored)

    def _with_its_own_head(self, stored: dict[str, Stored]) -> Architecture:
        """A head that is called tied, but is stored and differs from the embedding, counts, as in transformers."""
        architecture = read_architecture(self.config)
        table, head = f"{architecture.embedding}.weight", f"{architecture.head}.weight"
        if architecture.tied_head and head in stored and table in stored and not self._same(table, head, stored):
            self.config.tie_word_embeddings = False
            return read_architecture(self.config)
        return architecture

    def _same(self, one: str, other: str, stored: dict[str, Stored]) -> bool:
        if stored[one] != stored[other]:
            return False
        slices = [self._file_of[name].get_slice(name) for name in (one, other)]
        starts = range(0, stored[one].shape[0], _ROWS_AT_A_TIME)
        return all(torch.equal(*(part[start : start + _ROWS_AT_A_TIME] for part in slices)) for start in starts)

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        rows: Tensor = self._file_of[name].get_slice(name)[start:end]
        return rows.float()

    def int4_blocks(self, name: str) -> None:
        """A folder's weights are in floating point."""

    def tokenizer(self) -> Any | None:
        return load_tokenizer(self._folder)


def _stored(file: Any, name: str) -> Stored:
    part = file.get_slice(name)
    return Stored(tuple(part.get_shape()), part.get_dtype())


def _shards(folder: Path) -> list[str]:
    """The files of the weights. One file counts before shards, as in transformers."""
    index = folder / _INDEX
    if (folder / _WEIGHTS).is_file() or not index.is_file():
        shards = [_WEIGHTS]
    else:
        places = read_json_object(index, "an index of weights").get("weight_map")
        if not isinstance(places, dict) or not places:
            raise UsageError(f"{index} names no files (weight_map). Download the folder again.")
        for shard in places.values():
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise UsageError(
                    f"{index} names {shown(shard)}, which is no file beside it. Download the folder again."
                )
        shards = sorted(set(places.values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise UsageError(f"{folder} lacks {', '.join(missing)}. {_instead(folder)}")
    return shards


def _instead(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return (
            "It has weights in PyTorch's own format, which can run code when they are read. Convert them once: python -c "
            f"\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}').save_pretrained('CONVERTED')\""
        )
    return "Weights are read from safetensors only; --random-init needs none."


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    refuse_pointer(path)
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a whole safetensors file: {error}. Download it again.") from error
