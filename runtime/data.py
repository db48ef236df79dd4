"""Training data: rows of a file to sequences of the bundle's length.

    .txt            one document, cut into windows
    JSON lines      {"text"}: documents, joined by the end-of-text token and cut into windows
                    {"input_ids", "labels"}: a sequence a row; labels as in Hugging Face: not shifted, -100 is masked

A window of T tokens predicts T targets, so it covers T + 1 tokens, and the next window starts at the last one. A short
sequence is padded and masked; a long row is cut, and the tokens lost are counted.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import UsageError

MASKED = -100


@dataclass(frozen=True)
class Example:
    """One sequence: the tokens, what each should predict, and the weight of each prediction in the loss, which add up to 1."""

    input_ids: Tensor  # [T], int64
    targets: Tensor  # [T], int64
    token_weight: Tensor  # [T, 1], fp32
    predictions: int  # how many targets are not masked
    tokens: int  # how many positions are not padding


@dataclass(frozen=True)
class Dataset:
    """The examples of a file."""

    examples: Sequence[Example]
    cut_rows: int  # rows that were longer than the sequence length
    cut_tokens: int

    def order(self, epochs: int, shuffle: bool, seed: int) -> Iterator[Example]:
        """The examples, ``epochs`` times, in an order that depends on the seed and the epoch alone."""
        for epoch in range(epochs):
            indices = list(range(len(self.examples)))
            if shuffle:
                random.Random(f"{seed} {epoch}").shuffle(indices)
            for index in indices:
                yield self.examples[index]


def load_dataset(path: Path, tokens: int, vocabulary: int, tokenizer_folder: Path) -> Dataset:
    """Reads a data file.

    Args:
        path: a .txt file or JSON lines
        tokens: sequence length of the bundle
        vocabulary: ids must be below
        tokenizer_folder: the bundle's tokenizer, needed for text

    Raises:
        UsageError: no file, no usable row, or a row that is neither kind, by its line.
    """
    if not path.is_file():
        raise UsageError(f"There is no data file at {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}.") from error
    if path.suffix == ".txt":
        ids = _tokenize(tokenizer_folder, [text], path) if text.strip() else []
        dataset = Dataset(_windows(ids, tokens), 0, 0)
    else:
        dataset = _from_rows(list(_rows(path, text, vocabulary)), tokens, tokenizer_folder, path)
    if not dataset.examples:
        raise UsageError(f"{path} has no row with a token to predict.")
    return dataset


def _rows(path: Path, text: str, vocabulary: int) -> Iterator[dict[str, Any]]:
    kinds = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f"{where}: not JSON ({error}). A data file is .txt, or has one JSON object a line."
            ) from error
        kind = _kind(row, vocabulary, where)
        kinds.add(kind)
        if len(kinds) > 1:
            raise UsageError(f'{where}: rows of "text" and of "input_ids" cannot be mixed in one file.')
        yield row


def _kind(row: Any, vocabulary: int, where: str) -> str:
    """What kind of row it is; refuses what is none."""
    if not isinstance(row, dict) or not ({"text"} <= row.keys() or {"input_ids", "labels"} <= row.keys()):
        raise UsageError(f'{where}: a row is {{"text": "…"}} or {{"input_ids": […], "labels": […]}}, not this.')
    if "text" in row:
        if not isinstance(row["text"], str):
            raise UsageError(f'{where}: "text" must be a string.')
        return "text"
    ids, labels = row["input_ids"], row["labels"]
    for name, values in (("input_ids", ids), ("labels", labels)):
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise UsageError(f'{where}: "{name}" must be a list of whole numbers.')
    if len(ids) != len(labels):
        raise UsageError(
            f"{where}: {len(ids)} input_ids but {len(labels)} labels; each token has its label, not shifted."
        )
    if bad := [value for value in ids if not 0 <= value < vocabulary]:
        raise UsageError(f"{where}: token id {bad[0]} is not in the model's vocabulary of {vocabulary}.")
    if bad := [value for value in labels if value != MASKED and not 0 <= value < vocabulary]:
        raise UsageError(f"{where}: label {bad[0]} is neither {MASKED} nor in the model's vocabulary of {vocabulary}.")
    return "ids"


def _from_rows(rows: list[dict[str, Any]], tokens: int, tokenizer_folder: Path, path: Path) -> Dataset:
    if rows and "text" in rows[0]:
        ids = _tokenize(tokenizer_folder, [row["text"] for row in rows], path)
        return Dataset(_windows(ids, tokens), 0, 0)
    examples, cut_rows, cut_tokens = [], 0, 0
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        over = max(0, len(ids) - (tokens + 1))
        cut_rows, cut_tokens = cut_rows + bool(over), cut_tokens + over
        example = _example(ids, labels, tokens)
        if example.predictions:
            examples.append(example)
    return Dataset(examples, cut_rows, cut_tokens)


def _tokenize(folder: Path, documents: list[str], path: Path) -> list[int]:
    """The documents' tokens in a row, an end-of-text token after each but a last one."""
    if not folder.is_dir():
        raise UsageError(
            f"{path} is text, but this bundle has no tokenizer. "
            'Train on {"input_ids", "labels"} rows, or export a checkpoint with its tokenizer.'
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids: list[int] = []
    for number, document in enumerate(documents):
        if number and tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        ids += tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _windows(ids: list[int], tokens: int) -> list[Example]:
    cuts = (ids[start : start + tokens + 1] for start in range(0, len(ids) - 1, tokens))
    return [_example(cut, cut, tokens) for cut in cuts]


def _example(ids: list[int], labels: list[int], tokens: int) -> Example:
    """Shifts the labels, cuts to T targets, pads."""
    inputs = ids[: min(tokens, len(ids))]
    shifted = (labels[1 : tokens + 1] + [MASKED] * tokens)[:tokens]
    targets = torch.tensor(shifted)
    keep = targets != MASKED
    predictions = int(keep.sum())
    weight = keep.float()[:, None] / max(predictions, 1)
    padded = torch.tensor(inputs + [0] * (tokens - len(inputs)))
    return Example(padded, targets.clamp_min(0), weight, predictions, len(inputs))
