"""Text from a model before and after its adapter, by transformers' own ``generate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mesp.runtime.errors import UsageError
from mesp.runtime.generation.options import GenerateOptions

from ..bundle.stops import stop_tokens
from ..model.huggingface_folder import quiet
from .adapter_config import read_adapter_config
from .transformers_model import Base, attach, load_base

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 100  # columns from which two texts are legible beside each other


@dataclass(frozen=True)
class Completions:
    """What the model said, without its prompt."""

    before: str  # by the model alone
    after: str | None  # with the adapter, if there is one


def generate(
    source: str, adapter: Path | None, prompt: str, options: GenerateOptions, allow_other_base: bool = False
) -> Completions:
    """Completes a prompt without and with an adapter.

    Args:
        source: a bundle, whose weights are dequantized, or a checkpoint: a Hugging Face folder, a Hub id or a .gguf file
        adapter: a PEFT adapter folder, or None to hear the model alone
        prompt: text to go on from, or with ``options.chat`` what the user says
        options: how to choose tokens, and how many
        allow_other_base: take an adapter whose base model has another name

    Raises:
        UsageError: a source, adapter, prompt or option that cannot be used.
    """
    if adapter:
        read_adapter_config(adapter)  # refused before the model is read, which takes long
    base = load_base(source)
    ids = _prompt_ids(base, prompt, options)
    if not adapter:
        return Completions(_complete(base.model, base, ids, options), None)
    model = attach(base, adapter, allow_other_base)
    with model.disable_adapter():
        before = _complete(model, base, ids, options)
    return Completions(before, _complete(model, base, ids, options))


def _prompt_ids(base: Base, prompt: str, options: GenerateOptions) -> torch.Tensor:
    """The prompt's tokens, [1, tokens]."""
    if base.tokenizer is None:
        raise UsageError(
            f"{base.origin} has no tokenizer here, and text cannot be made without one. "
            "Use the checkpoint with its tokenizer, or a bundle that was exported from it."
        )
    text = _chat(base.tokenizer, prompt, options.system) if options.chat else prompt
    ids: torch.Tensor = base.tokenizer(text, add_special_tokens=not options.chat, return_tensors="pt")["input_ids"]
    if not ids.numel():
        raise UsageError("The prompt is empty: give at least a word to go on from.")
    most = base.model.config.max_position_embeddings
    if ids.shape[1] + options.max_new_tokens > most:
        raise UsageError(
            f"The prompt's {ids.shape[1]} tokens and --max-new-tokens {options.max_new_tokens} are more than "
            f"the {most} that the model takes. Shorten either."
        )
    return ids.long()


def _chat(tokenizer: Any, prompt: str, system: str | None) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UsageError("The tokenizer has no chat template, so the model is not a chat model: leave --chat out.")
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": prompt})
    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    except TemplateError as error:
        raise UsageError(f"The tokenizer's chat template refuses these turns: {error}.") from error


def _complete(model: Any, base: Base, ids: torch.Tensor, options: GenerateOptions) -> str:
    with quiet(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(options.seed)
        tokens = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=_generation_config(base, options)
        )
    return str(base.tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True))


def _generation_config(base: Base, options: GenerateOptions) -> Any:
    """Everything that chooses tokens is set: transformers takes what is not from the checkpoint's own generation settings."""
    from transformers import GenerationConfig

    ends = stop_tokens(base.tokenizer, base.model.config.eos_token_id)
    names = ("temperature", "top_k", "top_p", "min_p")
    drawn = {name: getattr(options, name) for name in names} if options.temperature else {}
    return GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        do_sample=bool(drawn),
        repetition_penalty=options.repetition_penalty,
        eos_token_id=ends or None,
        pad_token_id=min(ends, default=0),  # a single row is never padded, but transformers warns without one
        **drawn,
    )


def show(console: "Console", completions: Completions) -> None:
    """Prints the completions beside each other on a wide terminal, else one below the other."""
    from rich.table import Table
    from rich.text import Text

    if completions.after is None:
        console.print(Text(completions.before), soft_wrap=True)
        return
    texts = {"Without the adapter": completions.before, "With the adapter": completions.after}
    if console.is_terminal and console.width >= _WIDE:
        table = Table(expand=True)
        for name in texts:
            table.add_column(name, ratio=1)
        table.add_row(*map(Text, texts.values()))
        console.print(table)
        return
    for name, text in texts.items():
        console.print(Text(f"{name}:", style="bold"))
        console.print(Text(text), soft_wrap=True)
        console.print()
