"""Where the frozen weights come from: a Hugging Face directory or Hub id, a GGUF file, or random numbers for a configuration.

A checkpoint hands out rows of one tensor at a time, under the names that transformers gives them, so that no more than that is ever in memory.
Opening one reads its configuration and headers and accounts for all of them: what it holds is understood or refused by name before any
weight is read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mesp.runtime.account import shown
from mesp.runtime.engine.bundle import MANIFEST
from mesp.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor  # what is no checkpoint is refused without torch

_EXPECTED = "Expected a folder with a config.json, a .gguf file, or a Hub id such as Qwen/Qwen2.5-0.5B"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES_OF_FOLDERS = (".safetensors", ".bin", ".json")


@dataclass(frozen=True)
class Int4Blocks:
    """A weight that is stored as affine int4 already, in groups of 32 inputs."""

    levels: "Tensor"  # [in / 32, 32, out], 0 .. 15
    scale: "Tensor"  # [in / 32, 1, out]
    offset: "Tensor"  # [in / 32, 1, out]


class Checkpoint(Protocol):
    """A source of weights."""

    config: Any  # a transformers PretrainedConfig
    origin: str  # what a person would call it
    quantized: dict[str, int]  # types of fewer bits than a float's that projections are stored in, and how many are

    def rows(self, name: str, start: int = 0, end: int | None = None) -> "Tensor":
        """Rows start .. end of a tensor (all of it by default), fp32."""

    def int4_blocks(self, name: str) -> Int4Blocks | None:
        """The weight's own blocks, if it is stored in a format that int4 takes over exactly."""

    def tokenizer(self) -> Any | None:
        """A transformers tokenizer, None if the checkpoint has none.

        Raises:
            UsageError: it has one that cannot be read, or would be taken for another.
        """


def open_checkpoint(source: str, random_init: bool = False, seed: int = 0) -> Checkpoint:
    """Opens a directory, a GGUF file or a Hub id.

    Raises:
        UsageError: nothing there, not what it says it is, or a model that is not understood to the last of its parts.
    """
    path = find_checkpoint(source, random_init)
    # Their readers import torch and transformers, which take seconds.
    from .gguf_checkpoint import GgufCheckpoint
    from .random_checkpoint import RandomCheckpoint
    from .safetensors_checkpoint import SafetensorsCheckpoint

    if path.is_file():
        return GgufCheckpoint(path)
    return RandomCheckpoint(path, seed) if random_init else SafetensorsCheckpoint(path, source)


def find_checkpoint(source: str, random_init: bool = False) -> Path:
    """The folder or file of a checkpoint, fetched from the Hub if it is not here.

    Raises:
        UsageError: nothing there, or at the first look not what it says it is.
    """
    path = Path(source)
    if path.is_file() or path.suffix.lower() == ".gguf":
        if random_init:
            raise UsageError(f"--random-init takes a folder with a config.json, and {source} is a file.")
        if not path.is_file():
            raise UsageError(f"There is no GGUF file at {path}.")
        _check_gguf(path)
        return path
    if not path.exists():
        if random_init or not _HUB_ID.fullmatch(source) or source.startswith("."):
            raise UsageError(f"There is no checkpoint at {source}. {_EXPECTED}.")
        path = _download(source)
    if not (path / "config.json").is_file():
        raise UsageError(f"{source} has no config.json. {_instead(path)}")
    from .huggingface_folder import check_config

    check_config(path)
    return path


def _check_gguf(path: Path) -> None:
    """Refuses a file that is not whole or of a family that there are no programs for."""
    from .families import gguf_family
    from .gguf_configuration import read_keys
    from .gguf_file import GgufHeader

    if path.suffix in _FILES_OF_FOLDERS:
        raise UsageError(f"{path} is one file of a model. Give the folder that it is in: {path.parent}")
    kind, _ = read_keys(GgufHeader(path))
    gguf_family(kind, str(path))


def check_hub_id(name: str) -> None:
    """Raises UsageError for what is no Hub id."""
    if not _HUB_ID.fullmatch(name):
        raise UsageError(f"{shown(name)} is no Hub id. Expected OWNER/NAME, such as Qwen/Qwen2.5-0.5B.")


def find_model(source: str) -> Path:
    """The folder of a bundle, or that or the file of a checkpoint.

    Raises:
        UsageError: as ``find_checkpoint``.
    """
    return Path(source) if (Path(source) / MANIFEST).is_file() else find_checkpoint(source)


def _instead(folder: Path) -> str:
    """What to do about a folder without a configuration."""
    if snapshots := sorted(folder.glob("snapshots/*/config.json")):
        return f"It is a folder of the Hub's cache, whose model is in {snapshots[-1].parent}: give that."
    if files := sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".gguf"):
        return f"It holds GGUF files: give one of them, such as {folder / files[0]}."
    if (folder / "adapter_config.json").is_file():
        return "It is an adapter: give the model that it was trained on, and the adapter to `mesp train --adapter` or `mesp merge`."
    return "Expected a Hugging Face model folder: config.json, model.safetensors and the tokenizer's files."


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
