"""The tokens at which a model's text ends, so that every runtime stops at the same."""

from collections.abc import Iterable
from typing import Any

_CONTENT = "\uf8ff"


def stop_tokens(tokenizer: Any, ends: int | Iterable[int] | None) -> list[int]:
    """Ids, ascending: of the settings of generation, of the tokenizer, and of the end of an assistant's turn in its chat template.

    Args:
        tokenizer: transformers'
        ends: eos_token_id of the model's configuration
    """
    of_model = [ends] if isinstance(ends, int) else ends or ()
    return sorted({*of_model, tokenizer.eos_token_id, _end_of_turn(tokenizer)} - {None})


def _end_of_turn(tokenizer: Any) -> int | None:
    """The added token that the chat template writes after an assistant's content, if it writes one there."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _CONTENT}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception:  # a template is a program and may fail in any way; then it has no turn to end
        return None
    _, found, after = str(text).rpartition(_CONTENT)
    ids = tokenizer(after.lstrip(), add_special_tokens=False, verbose=False)["input_ids"] if found else []
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None
