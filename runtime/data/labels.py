"""Turns a row into token ids and labels: the labels say which of its tokens are trained on.

The label of a token that is a target is the token itself; of any other it is -100. Labels are not shifted: they stand beside their tokens.

    text        Tokenized with the special tokens that the tokenizer adds (BOS, where it has one) and closed by EOS, unless it
                ends in EOS already. Every token except the first is a target. Nothing of the document precedes the first, so
                documents can be joined without predicting one from another. A .txt file does not end: no EOS.
    completion  Prompt and completion are joined, and tokenized and closed like a text. The targets begin at the first
                token that differs from those of the prompt alone, so a token that spans the border is a target.
    messages    Rendered by the chat template, and tokenized once without special tokens: the template writes its own. Targets are
                what the assistant writes: its content and the token that ends its turn.
    ids         As they are.

Text that spells a special token becomes that token, and a text without an EOS token in its tokenizer is not closed.

An assistant's turn is found in one of two ways:

- A template with {% generation %} marks says itself what the assistant writes, and transformers' mask is taken as it is.
- Otherwise turn i is the text from the end of the rendering of messages[:i] with a generation prompt to the end of the
  rendering of messages[:i + 1], without the blanks at its end (space, tab, CR, LF). A token is a target if it has a character
  of a turn. Each of these renderings must be a prefix of the rendering of all messages. A template that rewrites
  earlier turns (Qwen3 drops their reasoning) is refused.

TRL trains on the same tokens for texts, completions and marked templates. For some templates without marks it has marked
copies, of which some count more: the end of the generation prompt (Qwen2.5: the header's line feed) or the line feed after the
turn (Qwen2.5, Gemma 3; Llama 3 neither). They are not targets here: the model is given the first, and stops before the second.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .rows import Kind, Row

MASKED = -100
BLANKS = " \t\r\n"
Marked = tuple[list[int], Iterable[bool]]  # token ids, and whether each is a target
MARK = re.compile(r"\{%[-+]?\s*generation\b")


@dataclass(frozen=True)
class Labelled:
    """The tokens of a row, and a label for each."""

    ids: Tensor  # [n], int32
    labels: Tensor  # [n], int32


class Labeller:
    """Turns rows into tokens and labels.

    Args:
        tokenizer_folder: the bundle's tokenizer; loaded for the first row that needs it
        vocabulary: of the model; every id must be below
    """

    def __init__(self, tokenizer_folder: Path, vocabulary: int):
        self._folder, self._vocabulary = tokenizer_folder, vocabulary
        self._loaded: Any = None

    def __call__(self, row: Row) -> Labelled:
        """The tokens and labels of a row.

        Raises:
            UsageError: by the row's place: no tokenizer, a chat template that is missing or refuses the row, or a token that the
                model does not have.
        """
        if row.kind == "ids":
            ids, labels = row.values["input_ids"], row.values["labels"]
        else:
            ids, targets = _TOKENIZE[row.kind](self._tokenizer(row.where), row)
            labels = [token if target else MASKED for token, target in zip(ids, targets, strict=True)]
        for name, values in (("token id", ids), ("label", [label for label in labels if label != MASKED])):
            if bad := [value for value in values if not 0 <= value < self._vocabulary]:
                raise UsageError(
                    f"{row.where}: {name} {bad[0]} is not in the model's vocabulary of {self._vocabulary}. "
                    "Tokenize with the tokenizer of the exported model."
                )
        return Labelled(torch.tensor(ids, dtype=torch.int32), torch.tensor(labels, dtype=torch.int32))

    def _tokenizer(self, where: str) -> Any:
        if self._loaded is None:
            if not self._folder.is_dir():
                raise UsageError(
                    f"{where}: the row is text, but this bundle has no tokenizer. "
                    'Train on {"input_ids", "labels"} rows, or export a checkpoint with its tokenizer.'
                )
            from transformers import AutoTokenizer  # takes seconds, which rows of token ids need not wait

            self._loaded = AutoTokenizer.from_pretrained(self._folder)
        return self._loaded


def _file(tokenizer: Any, row: Row) -> Marked:
    ids = _ids(tokenizer, row.values["text"])
    return ids, _from(1, ids)


def _text(tokenizer: Any, row: Row) -> Marked:
    ids = _closed(tokenizer, row.values["text"])
    return ids, _from(1, ids)


def _completion(tokenizer: Any, row: Row) -> Marked:
    prompt = _ids(tokenizer, row.values["prompt"])
    ids = _closed(tokenizer, row.values["prompt"] + row.values["completion"])
    common = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, ids, strict=False))
    return ids, _from(len(list(common)), ids)


def _messages(tokenizer: Any, row: Row) -> Marked:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UsageError(
            f"{row.where}: the bundle's tokenizer has no chat template. Train on rows of prompt and completion instead."
        )
    if not tokenizer.is_fast:
        raise UsageError(
            f"{row.where}: the bundle's tokenizer does not tell where its tokens are in the text (no tokenizer.json), so the assistant's "
            "cannot be found. Train on rows of prompt and completion instead."
        )
    messages = [{"role": message["role"], "content": message["content"]} for message in row.values["messages"]]
    try:
        if MARK.search(tokenizer.get_chat_template()):
            return _marked(tokenizer, messages)
        text, turns = _turns(tokenizer, messages, row.where)
    except (TemplateError, TypeError, ValueError) as error:
        raise UsageError(
            f"{row.where}: the tokenizer's chat template refuses the messages ({error}). Correct or remove the row."
        ) from error
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    # Some tokenizers leave spaces out of their offsets. A token of spaces is empty then, at a place that counts all the same.
    targets = (any(first < end and last > start for start, end in turns) for first, last in tokens["offset_mapping"])
    return tokens["input_ids"], targets


def _marked(tokenizer: Any, messages: list[dict[str, str]]) -> Marked:
    tokens = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True, tokenizer_kwargs={"verbose": False}
    )
    return tokens["input_ids"], tokens["assistant_masks"]


def _turns(tokenizer: Any, messages: list[dict[str, str]], where: str) -> tuple[str, list[tuple[int, int]]]:
    """The rendering of the messages, and where in it the assistant's turns begin and end, in characters."""

    def render(count: int, prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=prompt)
        return text

    whole, turns = render(len(messages), False), []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = render(index, True), render(index + 1, False)
            if not (after.startswith(before) and whole.startswith(after)):
                raise UsageError(
                    f"{where}: the chat template renders messages[{index}] differently before other messages, or after its generation prompt, "
                    "so the assistant's tokens cannot be found. Use prompt and completion, conversations of one answer, or a "
                    "template with {% generation %} marks."
                )
            turns.append((len(before), len(after.rstrip(BLANKS))))
    return whole, turns


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return ids


def _closed(tokenizer: Any, text: str) -> list[int]:
    ids, end = _ids(tokenizer, text), tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _from(start: int, ids: list[int]) -> Iterable[bool]:
    return (position >= start for position in range(len(ids)))


_TOKENIZE: dict[Kind, Callable[[Any, Row], Marked]] = {
    "file": _file,
    "text": _text,
    "completion": _completion,
    "messages": _messages,
}
