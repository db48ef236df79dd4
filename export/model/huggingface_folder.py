"""What a Hugging Face folder has beside its weights: the configuration and the tokenizer, read by transformers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError
from mesp.runtime.files import read_json_object

from .families import family


def check_config(folder: Path) -> None:
    """Looks at a folder's config.json without transformers, which takes seconds to load.

    Raises:
        UsageError: it cannot be read, is of a family that there are no programs for, of weights that were quantized, or has an adapter in it.
    """
    file = folder / "config.json"
    raw = read_json_object(file, "a model configuration")
    family(raw.get("model_type"), str(file))
    for key, default in (("quantization_config", "an unnamed method"), ("quantization", "mlx")):
        if quantization := raw.get(key):
            named = quantization.get("quant_method", default) if isinstance(quantization, dict) else quantization
            raise UsageError(
                f"{file}: the weights are quantized by {shown(named)} ({key}), which is not read. "
                "Use the model before it was quantized, or a GGUF file of it."
            )
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder} has an adapter beside its model (adapter_config.json), and transformers would load the model that this adapter names. "
            "Give a folder of the model alone; `mesp merge` puts an adapter into it."
        )


def read_config(folder: Path) -> Any:
    """transformers' configuration of a folder that ``check_config`` has passed. Its eos_token_id has those of the settings of generation too.

    Raises:
        UsageError: it cannot be read.
    """
    from transformers import AutoConfig

    with reading(folder / "config.json", "a model configuration"), quiet():
        config = AutoConfig.from_pretrained(folder)
    config.eos_token_id = _ends(folder / "generation_config.json", config.eos_token_id)
    return config


def _ends(settings: Path, of_config: int | list[int] | None) -> int | list[int] | None:
    """The tokens that end a text: of a model that chats generation_config.json has more than config.json."""
    named = read_json_object(settings, "settings of generation").get("eos_token_id") if settings.is_file() else None
    ends: list[Any] = []
    for value in (of_config, named):
        ends += value if isinstance(value, list) else [] if value is None else [value]
    if odd := [end for end in ends if not isinstance(end, int) or isinstance(end, bool) or end < 0]:
        raise UsageError(f"{settings}: eos_token_id is {shown(odd[0])}, but must be a token's id, or a list of them.")
    ends = list(dict.fromkeys(ends))
    return ends if len(ends) > 1 else next(iter(ends), None)


@contextmanager
def reading(file: Path | str, what: str) -> Iterator[None]:
    """Around a library that reads a person's file: whatever it raises is a refusal of the file."""
    try:
        yield
    except UsageError:
        raise
    except BaseException as error:  # these readers promise no kind of error, and Rust's panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{file} cannot be read as {what}: {reason}") from error


# --- Tokenizers -------------------------------------------------------------------------------------------------------

_TOKENIZER = "tokenizer.json"
_VOCABULARIES = ("vocab.json", "vocab.txt")  # from which transformers makes a tokenizer by its class


def load_tokenizer(folder: Path) -> Any | None:
    """The tokenizer of a folder, None if it has none.

    tokenizer.json is taken as it is, whatever class tokenizer_config.json names: transformers makes some classes anew from the vocabulary, with
    their own idea of where words end.

    Raises:
        UsageError: it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = folder / _TOKENIZER
    if file.is_file():
        read_json_object(file, "a tokenizer")
        with reading(file, "a tokenizer"), quiet():
            return PreTrainedTokenizerFast.from_pretrained(folder)
    if any((folder / name).is_file() for name in _VOCABULARIES):
        with reading(folder, "a tokenizer"), quiet():
            return AutoTokenizer.from_pretrained(folder)
    if models := sorted(path.name for path in folder.glob("*.model")):
        raise UsageError(
            f"{folder} has {models[0]} and no {_TOKENIZER}, from which tokenizers are read. Convert it once: python -c "
            f"\"from transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
    return None


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
