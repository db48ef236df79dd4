"""Where the frozen weights come from: a Hugging Face directory or Hub id, a GGUF file, or random numbers for a configuration.

A checkpoint hands out rows of one tensor at a time, under the names that transformers gives them, so that no more than that is ever in memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mesp.runtime.engine.bundle import MANIFEST
from mesp.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor  # what is no checkpoint is refused without torch


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

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The tensor's shape, None if there is none of that name."""

    def rows(self, name: str, start: int = 0, end: int | None = None) -> "Tensor":
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
    path = find_checkpoint(source, random_init)
    # Their readers import torch and transformers, which take seconds.
    from .gguf_checkpoint import GgufCheckpoint
    from .random_checkpoint import RandomCheckpoint
    from .safetensors_checkpoint import SafetensorsCheckpoint

    if path.suffix == ".gguf":
        return GgufCheckpoint(path)
    return RandomCheckpoint(path, seed) if random_init else SafetensorsCheckpoint(path, source)


def find_checkpoint(source: str, random_init: bool = False) -> Path:
    """The folder or file of a checkpoint, fetched from the Hub if it is not here.

    Raises:
        UsageError: nothing there, or at the first look not what it says it is.
    """
    path = Path(source)
    if path.suffix == ".gguf":
        if random_init:
            raise UsageError("--random-init takes a folder with a config.json, not a GGUF file.")
        if not path.is_file():
            raise UsageError(f"There is no GGUF file at {path}.")
        return path
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
    return path


def find_model(source: str) -> Path:
    """The folder of a bundle, or that or the file of a checkpoint.

    Raises:
        UsageError: as ``find_checkpoint``.
    """
    return Path(source) if (Path(source) / MANIFEST).is_file() else find_checkpoint(source)


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
