"""An adapter folded into its model's weights: a Hugging Face folder that needs no PEFT."""

from pathlib import Path
from typing import Any

import torch

from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import check_absent, folder_that_appears_whole

from ..model.huggingface_folder import quiet
from .adapter_config import read_adapter_config
from .transformers_model import Base, attach, load_base

DTYPES = ("auto", "float32", "bfloat16", "float16")


def merge(source: str, adapter: Path, output: Path, dtype: str = "auto", allow_other_base: bool = False) -> None:
    """Writes W + scale * B A for every projection with an adapter, and all other weights as they are.

    The sum is taken in fp32, and rounded once to the type that is written.

    Args:
        source: a bundle, whose weights are dequantized, or a checkpoint: a Hugging Face folder, a Hub id or a .gguf file
        adapter: a PEFT adapter folder
        output: the folder to make; its tokenizer is the source's, absent if that has none
        dtype: one of ``DTYPES``; auto is the checkpoint's own, and float32 for a bundle and a GGUF file
        allow_other_base: take an adapter whose base model has another name

    Raises:
        UsageError: a source, adapter, output or dtype that cannot be used; nothing is written.
        MespError: the merged weights are not finite, or could not be written.
    """
    check_absent(output)
    if dtype not in DTYPES:
        raise UsageError(f"There is no dtype {dtype}. Expected one of {', '.join(DTYPES)}.")
    read_adapter_config(adapter)  # refused before the model is read, which takes long
    base = load_base(source)
    peft_model = attach(base, adapter, allow_other_base)
    with quiet():
        _untie(peft_model)
        try:
            model = peft_model.merge_and_unload(safe_merge=True)
        except (
            ValueError,
            RuntimeError,
            NotImplementedError,
        ) as error:  # not finite, or of a kind that has no merged form
            raise MespError(f"{adapter} cannot be merged: {error}") from error
        model.to(base.dtype if dtype == "auto" else getattr(torch, dtype))
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise MespError(
                f"{output} would have weights beyond what {dtype} holds. Choose --dtype bfloat16 or float32."
            )
        _write(model, base, output)


def _untie(peft_model: Any) -> None:
    """Gives the head weights of its own, if it has the embedding's and the adapter changes either: else both would be changed at once."""
    model = peft_model.base_model.model
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    table, head = (getattr(end, "base_layer", end) for end in ends)
    adapted = any(hasattr(end, "base_layer") for end in ends)
    if adapted and getattr(head, "weight", None) is table.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def _write(model: Any, base: Base, output: Path) -> None:
    from safetensors import SafetensorError

    try:
        with folder_that_appears_whole(output) as folder:
            model.save_pretrained(folder)
            if base.tokenizer is not None:
                base.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise MespError(f"Could not write {output}: {error}.") from error
