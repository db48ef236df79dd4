"""What a Hugging Face folder has beside its weights: the configuration and the tokenizer, read by transformers."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesp.runtime.errors import UsageError

from .families import family


def read_config(folder: Path) -> Any:
    """transformers' configuration of a folder.

    Raises:
        UsageError: it cannot be read, or is of a family that there are no programs for.
    """
    from transformers import AutoConfig

    file = folder / "config.json"
    try:
        family(json.loads(file.read_text()).get("model_type"), str(file))
        return AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} cannot be read as a model configuration: {error}") from error


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder has a tokenizer that transformers can read."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def save_tokenizer(folder: Path, source: Path, **options: str) -> None:
    """Reads the tokenizer of a source as transformers does, and saves it into a folder."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source, **options).save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' and PEFT's notes and progress bars off the screen: what matters of them is raised as an error."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
