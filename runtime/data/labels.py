"""Turns a row into token ids and labels: the labels say which of its tokens are trained on.

The label of a token that is a target is the token itself; of any other it is -100. Labels are not shifted: they stand beside their tokens.

    text        Tokenized with the special tokens that the tokenizer adds (BOS, where it has one) and closed by EOS, unless it
                ends in EOS already. Every token except the first is a target. Nothing of the document precedes the first, so
                documents can be joined without predicting one from another. A .txt file does not end: no EOS.
    completion  Prompt and completion are joined, and tokenized and closed like a text. The targets begin at the first
                token that differs from those of the prompt alone, so a token that spans the border is a target.
    messages    What the assistant writes: ``conversations`` tells how it is found, and when a row is several sequences.
    ids         As they are.

Text that spells a special token becomes that token, and a text without an EOS token in its tokenizer is not closed.

TRL trains on the same tokens for texts and completions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .conversations import Conversations, Marked
from .parts import ids_in_parts
from .rows import MASKED as MASKED
from .rows import Kind, Row


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
        now: what a chat template takes for the present: one that writes the date gives a row other tokens each day
    """

    def __init__(self, tokenizer_folder: Path, vocabulary: int, now: datetime):
        self._folder, self._vocabulary, self._now = tokenizer_folder, vocabulary, now
        self._loaded: Any = None

    def __call__(self, row: Row) -> list[Labelled]:
        """The sequences of a row, mostly one.

        Raises:
            UsageError: by the row's place: no tokenizer, a chat template that cannot be used, or a token that the model does not have.
        """
        if row.kind == "ids":
            return [self._labelled(row.values["input_ids"], row.values["labels"], row.where)]
        tokenizer = self._tokenizer(row.where)
        if row.kind == "file":
            return [self._file(tokenizer, row)]
        if row.kind == "messages":
            sequences = Conversations(tokenizer, self._now)(row)
        else:
            sequences = [_TOKENIZE[row.kind](tokenizer, row)]
        return [
            self._labelled(
                ids, [token if target else MASKED for token, target in zip(ids, targets, strict=True)], row.where
            )
            for ids, targets in sequences
        ]

    def _file(self, tokenizer: Any, row: Row) -> Labelled:
        """A text that may have millions of tokens, which as Python's numbers would take ten times the memory."""
        parts = ids_in_parts(tokenizer, row.values["text"], self._folder)
        ids = torch.cat([torch.tensor(part, dtype=torch.int32) for part in parts])
        if len(ids) and (largest := int(ids.max())) >= self._vocabulary:
            raise self._outside("token id", largest, row.where)
        labels = ids.clone()
        labels[:1] = MASKED
        return Labelled(ids, labels)

    def _outside(self, name: str, value: int, where: str) -> UsageError:
        return UsageError(
            f"{where}: {name} {value} is not in the model's vocabulary of {self._vocabulary}. "
            "Tokenize with the tokenizer of the exported model."
        )

    def _labelled(self, ids: list[int], labels: list[int], where: str) -> Labelled:
        for name, values in (("token id", ids), ("label", [label for label in labels if label != MASKED])):
            if bad := [value for value in values if not 0 <= value < self._vocabulary]:
                raise self._outside(name, bad[0], where)
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


def _text(tokenizer: Any, row: Row) -> Marked:
    ids = _closed(tokenizer, row.values["text"])
    return ids, _from(1, ids)


def _completion(tokenizer: Any, row: Row) -> Marked:
    prompt = _ids(tokenizer, row.values["prompt"])
    ids = _closed(tokenizer, row.values["prompt"] + row.values["completion"])
    common = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, ids, strict=False))
    return ids, _from(len(list(common)), ids)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return ids


def _closed(tokenizer: Any, text: str) -> list[int]:
    ids, end = _ids(tokenizer, text), tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _from(start: int, ids: list[int]) -> Iterable[bool]:
    return (position >= start for position in range(len(ids)))


_TOKENIZE: dict[Kind, Callable[[Any, Row], Marked]] = {
    "text": _text,
    "completion": _completion,
}
