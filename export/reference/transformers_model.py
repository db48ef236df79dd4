"""A checkpoint or a bundle as a transformers model, and a PEFT adapter on it: what ``merge`` and ``generate`` start from.

Checkpoints are read as ``export`` reads them, GGUF files too: transformers' own GGUF loading leaves weights packed or marks the model as
quantized, depending on its version and on what else is installed, and such a model can neither be merged nor saved.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.engine.bundle import MANIFEST, TOKENIZER, Bundle, open_bundle
from mesp.runtime.errors import UsageError
from mesp.runtime.files import refuse_pointer
from mesp.runtime.training.adapter import OLD_WEIGHTS, WEIGHTS, check_tensors, same_base

from ..bundle.make_plan import bundle_config
from ..model.checkpoint import Checkpoint, open_checkpoint
from ..model.families import read_architecture
from ..model.huggingface_folder import load_tokenizer, quiet, reading
from .adapter_config import read_adapter_config
from .bundle_weights import dequantized_tensors


@dataclass(frozen=True)
class Base:
    """A model without an adapter."""

    model: Any  # transformers' causal language model, fp32
    tokenizer: Any  # None if the source has none
    origin: str  # what a person would call it
    dtype: torch.dtype  # that its weights are stored in; float32 if they are quantized


def load_base(source: str) -> Base:
    """Loads a bundle, a Hugging Face folder, a Hub id or a .gguf file.

    Raises:
        UsageError: none of these, or one that is damaged.
    """
    with quiet():
        if (Path(source) / MANIFEST).is_file():
            return _from_bundle(Path(source))
        return _from_checkpoint(open_checkpoint(source))


def _from_bundle(path: Path) -> Base:
    bundle = open_bundle(path)
    tokenizer = load_tokenizer(path / TOKENIZER) if (path / TOKENIZER).is_dir() else None
    return Base(reference_model(bundle), tokenizer, bundle.manifest.model.origin, torch.float32)


def _from_checkpoint(checkpoint: Checkpoint) -> Base:
    dtype = checkpoint.config.dtype  # before the model of this configuration sets it to its own
    model = assemble(checkpoint.config, _tensors(checkpoint))
    tokenizer = checkpoint.tokenizer()
    if checkpoint.quantized:
        return Base(model, tokenizer, checkpoint.origin, torch.float32)
    if (file := Path(checkpoint.origin) / "generation_config.json").is_file():
        from transformers import GenerationConfig

        with reading(file, "settings of generation"):
            model.generation_config = GenerationConfig.from_pretrained(checkpoint.origin)
    return Base(model, tokenizer, checkpoint.origin, dtype or torch.float32)


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    for name, _ in read_architecture(checkpoint.config).tensors():
        yield name, checkpoint.rows(name)


def reference_model(bundle: Bundle) -> Any:
    """transformers' model of the bundle's configuration with the bundle's weights, dequantized, fp32."""
    return assemble(bundle_config(bundle), dequantized_tensors(bundle))


def assemble(config: Any, tensors: Iterable[tuple[str, Tensor]]) -> Any:
    """transformers' model of a configuration with these weights, under its names, fp32."""
    from transformers import AutoModelForCausalLM

    scale = read_architecture(config).embedding_scale  # before the model sets the configuration's dtype to its own
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    if hasattr(model.model.embed_tokens, "embed_scale"):
        model.model.embed_tokens.embed_scale = torch.tensor(scale)
    missing, unexpected = model.load_state_dict(dict(tensors), strict=False, assign=True)
    model.tie_weights()
    assert not unexpected and not [name for name in missing if name != "lm_head.weight"]
    return model.requires_grad_(False).eval()


# --- Adapters ---------------------------------------------------------------------------------------------------------


def attach(base: Base, folder: Path, allow_other_base: bool = False) -> Any:
    """The base model with an adapter, as a peft.PeftModel.

    Raises:
        UsageError: an adapter that cannot be read, or was made for another model by its name or by its tensors.
    """
    name = read_adapter_config(folder).base
    if not allow_other_base and not same_base(name, base.origin):
        raise UsageError(
            f"{folder} is an adapter of {name}, but the model is {base.origin}. "
            "If they are the same model under two names, add --allow-other-base."
        )
    _check_weights(folder)
    with quiet(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = _attach(base, folder)
    for warning in said:  # PEFT's own words on what it makes of an adapter, once each
        if "peft" in Path(warning.filename).parts and not _HANDLED.search(str(warning.message)):
            warnings.warn(f"{folder}: PEFT warns: {str(warning.message).splitlines()[0]}", stacklevel=2)
    return model


# What PEFT warns of and is right all the same: ``merge`` unties what an adapter changes, and PEFT corrects fan_in_fan_out itself.
_HANDLED = re.compile(r"tie_word_embeddings|ensure_weight_tying|fan_in_fan_out")


def _check_weights(folder: Path) -> None:
    """Refuses a folder whose tensors PEFT would look for on the Hub, or has no names for."""
    from safetensors import SafetensorError, safe_open

    file = folder / WEIGHTS
    if not file.is_file():
        if (folder / OLD_WEIGHTS).is_file():
            return  # which PEFT reads without running code in it
        raise UsageError(f"{folder} has no adapter's weights: {WEIGHTS} is not there. Copy the whole folder.")
    refuse_pointer(file)
    try:
        with safe_open(file, "pt") as stored:
            check_tensors(file, {name: stored.get_slice(name).get_dtype() for name in stored.keys()})
    except SafetensorError as error:
        raise UsageError(f"{folder} has no adapter's weights that can be read: {error}.") from error


def _attach(base: Base, folder: Path) -> Any:
    from peft import PeftConfig, PeftModel

    misfit = f"{folder} does not fit {base.origin}"
    try:
        model = PeftModel(base.model, PeftConfig.from_pretrained(str(folder)))
        loaded = model.load_adapter(folder, "default", torch_device="cpu")
    except Exception as error:  # targets that are not there, shapes, settings: PEFT promises no kind of error
        reasons = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"{misfit}: {next((r for r in reasons if 'size mismatch' in r), reasons[0]).strip()}"
        ) from error
    for keys, what in (
        (loaded.unexpected_keys, "tensors that the model has no place for"),
        (loaded.missing_keys, "tensors missing that its configuration asks for"),
    ):
        if keys:
            raise UsageError(f"{misfit}: {len(keys)} {what}, such as {min(keys)}.")
    return model.eval()
