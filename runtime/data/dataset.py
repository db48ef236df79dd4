"""Turns the rows of a file into examples of at most T tokens, the bundle's longest sequence.

An example has n inputs and n targets. The inputs are all of its tokens except the last. The targets are all of its labels except the first.

    windows      The texts of a file are joined and cut into windows of T + 1 tokens, which have T targets. The next window begins with the
                 last token of the one before. The first token of a text is no target, so no text is predicted from another one; attention
                 still sees both. TRL's packing masks that token too (DataCollatorForLanguageModeling, where position_ids are 0). It also
                 separates the texts in attention, which the programs cannot. Without packing each text is a sequence of its own. A .txt
                 file is always cut into windows.
    sequences    Any other row is one sequence. Tokens after the first T + 1 are cut off and counted.
    no target    An example without a target is left out and counted.

Held-out data is a file of its own, or a part of the rows. The part is taken before packing. It has round(fraction * rows) rows, halves up: the
first ones in the shuffled order (below) of the key "{seed} split". Both parts keep the file's order. Of a .txt the part is the end:
round(fraction * tokens).

Shuffled order: the positions 0 to n - 1 are sorted by the SHA-256, in hex, of the UTF-8 text "{key} {position}". An epoch's key
is "{seed} {epoch}", from epoch 0.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..engine.sizes import Size
from ..errors import UsageError
from .hub import data_files, spelled
from .labels import MASKED, Labelled, Labeller
from .records import Record, records
from .rows import EXPECTED, Kind, RowReader

T = TypeVar("T")
_LOOKED_AT = 1000  # rows after one that is refused, to say whether it is alone


@dataclass(frozen=True)
class Example:
    """A sequence without padding: its tokens, and what each should predict."""

    input_ids: Tensor  # [n], int32
    targets: Tensor  # [n], int32, -100 where nothing is predicted

    @property
    def tokens(self) -> int:
        """Its length n."""
        return len(self.input_ids)

    @property
    def predictions(self) -> int:
        """How many of its targets are not masked."""
        return int((self.targets != MASKED).sum())


@dataclass(frozen=True)
class Dataset:
    """The examples of a file, at least one, in the file's order."""

    examples: Sequence[Example]
    cut_rows: int  # rows longer than T + 1 tokens
    cut_tokens: int  # what they lost
    masked_rows: int  # rows, or windows, that were left out for want of a target
    notes: tuple[str, ...] = ()  # what a person should know of how the file was read

    def order(self, start: int, shuffle: bool, seed: int) -> Iterator[Example]:
        """The examples from position ``start`` on, without end.

        Position p is in epoch p // len(examples). Shuffled, each epoch has an order of its own, which the module describes.
        """
        count = len(self.examples)
        skip = start % count
        for epoch in itertools.count(start // count):
            indices = _shuffled(count, f"{seed} {epoch}") if shuffle else range(count)
            for index in indices[skip:]:
                yield self.examples[index]
            skip = 0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of each example's n, input_ids and targets, as little-endian int32."""
        digest = hashlib.sha256()
        for example in self.examples:
            for values in (torch.tensor([example.tokens]), example.input_ids, example.targets):
                digest.update(values.numpy().astype("<i4").tobytes())
        return digest.hexdigest()


def spread(examples: Sequence[Example], most: int | None) -> Sequence[Example]:
    """At most so many of the examples, at equal distances from the first one on; all if ``most`` is None."""
    count = len(examples)
    if most is None or count <= most:
        return examples
    return [examples[place * count // most] for place in range(most)]


def inputs(example: Example, size: Size, predictions: int) -> dict[str, Tensor]:
    """An example as a schedule takes it, padded.

    Args:
        size: at least the example's
        predictions: of all the examples of an optimizer step, whose mean loss is the step's

    Returns:
        input_ids: [tokens], int64, padded with 0
        targets: [head], int64, 0 where nothing is predicted
        token_weight: [head, 1], fp32, 1 / predictions on targets, 0 elsewhere
        head_positions: [head], int64, where in the sequence each row of the head is; 0 for rows that are padding
        head_places: [tokens], int64, which row of the head each token is, or ``head`` for none
    """
    input_ids, places = torch.zeros(size.tokens, dtype=torch.int64), torch.full((size.tokens,), size.head)
    input_ids[: example.tokens] = example.input_ids
    keep = example.targets != MASKED
    positions = keep.nonzero()[:, 0] if size.head < size.tokens else torch.arange(example.tokens)
    count = len(positions)
    places[positions] = torch.arange(count)
    rows = torch.zeros(2, size.head, dtype=torch.int64)
    rows[:, :count] = torch.stack([example.targets * keep, torch.arange(example.tokens)])[:, positions]
    weight = torch.zeros(size.head, 1)
    weight[:count, 0] = keep[positions] / predictions
    return {
        "input_ids": input_ids,
        "targets": rows[0],
        "token_weight": weight,
        "head_positions": rows[1],
        "head_places": places,
    }


def load_data(
    path: Path,
    tokens: int,
    vocabulary: int,
    tokenizer_folder: Path,
    packing: bool = True,
    eval_path: Path | None = None,
    eval_split: float | None = None,
    seed: int = 0,
    columns: str | None = None,
    now: datetime | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Reads the training data, and held-out data if there is any.

    Args:
        tokens: T, the longest sequence of the bundle
        vocabulary: of the model; ids must be below
        tokenizer_folder: the bundle's tokenizer; rows of token ids do without
        packing: join rows of text
        eval_path: held-out data of its own
        eval_split: or this fraction of the data
        seed: of the choice of held-out rows
        columns: what the rows call the keys of their kind, as ``rows.read_columns`` takes it; of both files
        now: what a chat template takes for the present, if it writes the date; the present itself if not given

    Raises:
        UsageError: a file or row that cannot be used, by its line, or a part in which nothing is left to predict.
    """
    if eval_split is not None and eval_path is not None:
        raise UsageError("Held-out data is a file or a part of the data: give --eval-data or --eval-split, not both.")
    if eval_split is not None and not 0 < eval_split < 1:
        raise UsageError(f"--eval-split {eval_split} must be a fraction above 0 and below 1.")
    label = Labeller(tokenizer_folder, vocabulary, now or datetime.now())
    file = _read(path, label, columns)
    if eval_split is None:
        held_out = _dataset(_read(eval_path, label, columns), tokens, packing, str(eval_path)) if eval_path else None
        return _dataset(file, tokens, packing, str(path)), held_out
    rest, part = _split(file, eval_split, seed, path)
    return (
        _dataset(rest, tokens, packing, f"What --eval-split {eval_split} leaves of {path}"),
        _dataset(part, tokens, packing, f"What --eval-split {eval_split} holds out of {path}"),
    )


@dataclass(frozen=True)
class _File:
    """The rows of a file, at least one, each as its sequences, and what is to be said of it."""

    kind: Kind
    rows: list[list[Labelled]]
    notes: tuple[str, ...]


def _read(path: Path, label: Labeller, columns: str | None) -> _File:
    reader = RowReader(columns)

    def labelled(record: Record) -> tuple[Kind, list[Labelled]]:
        row = reader(*record)
        return row.kind, label(row)

    files, notes = data_files(path)
    pairs = _all_or_none(itertools.chain.from_iterable(map(records, files)), labelled)
    if not pairs:
        raise UsageError(f"{spelled(path)} has no rows. {EXPECTED}.")
    kind, rows = pairs[0][0], [row for _, row in pairs]
    return _File(kind, rows, (*notes, *reader.notes, *_several(rows)))


def _several(rows: list[list[Labelled]]) -> list[str]:
    split = [len(row) for row in rows if len(row) > 1]
    if not split:
        return []
    return [
        f"{len(split)} conversations became {sum(split)} sequences, one for each of the assistant's turns: the chat template writes "
        "a turn otherwise once others follow it."
    ]


def _all_or_none(items: Iterable[Record], make: Callable[[Record], T]) -> list[T]:
    """What is made of each item. If that is refused for one, the refusal also says of how many after it."""
    made, rest = [], iter(items)
    for item in rest:
        try:
            made.append(make(item))
        except UsageError as error:
            tried = refused = 0
            with suppress(UsageError):  # of the file itself: its end is not reached then
                for other in islice(rest, _LOOKED_AT):
                    tried += 1
                    try:
                        make(other)
                    except UsageError:
                        refused += 1
            more = f" So it is with {refused} of the {tried} rows after it." if refused else ""
            raise UsageError(f"{error}{more}") from error
    return made


def _split(file: _File, fraction: float, seed: int, path: Path) -> tuple[_File, _File]:
    """What is trained on, and what is held out."""
    kind, rows = file.kind, file.rows
    unit, total = ("tokens", len(rows[0][0].ids)) if kind == "file" else ("rows", len(rows))
    held = int(total * fraction + 0.5)
    if held in (0, total):
        raise UsageError(
            f"--eval-split {fraction} holds out {held} of the {total} {unit} of {path}, but both parts need one. "
            "Choose another fraction, or give --eval-data FILE."
        )
    if kind == "file":
        ids, labels, cut = rows[0][0].ids, rows[0][0].labels, total - held
        parts = Labelled(ids[:cut], labels[:cut]), Labelled(ids[cut:], labels[cut:])
        return replace(file, rows=[[parts[0]]]), replace(file, rows=[[parts[1]]])
    chosen = set(_shuffled(total, f"{seed} split")[:held])
    return (
        replace(file, rows=[row for index, row in enumerate(rows) if index not in chosen]),
        replace(file, rows=[row for index, row in enumerate(rows) if index in chosen]),
    )


def _dataset(file: _File, tokens: int, packing: bool, name: str) -> Dataset:
    sequences = list(itertools.chain.from_iterable(file.rows))
    if file.kind == "file" or (file.kind == "text" and packing):
        sequences = _windows(sequences, tokens)
    over = [max(0, len(sequence.ids) - (tokens + 1)) for sequence in sequences]
    cut = [Example(sequence.ids[:-1][:tokens], sequence.labels[1 : tokens + 1]) for sequence in sequences]
    examples = [example for example in cut if example.predictions]
    if not examples:
        raise UsageError(
            f"{name} has no token to predict: every row is shorter than 2 tokens, masked throughout, or cut at {tokens + 1} "
            "tokens before its first target. Correct the rows, or export for longer sequences."
        )
    return Dataset(examples, sum(map(bool, over)), sum(over), len(cut) - len(examples), file.notes)


def _windows(rows: list[Labelled], tokens: int) -> list[Labelled]:
    ids, labels = torch.cat([row.ids for row in rows]), torch.cat([row.labels for row in rows])
    cuts = (slice(start, start + tokens + 1) for start in range(0, len(ids) - 1, tokens))
    return [Labelled(ids[cut], labels[cut]) for cut in cuts]


def _shuffled(count: int, key: str) -> list[int]:
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{key} {index}".encode()).hexdigest())
