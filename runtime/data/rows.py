"""The rows of a data file, checked, each with its place in the file for messages.

    .txt               one text
    .csv               a header that names the columns, and a row a line; "" doubles a quote inside quotes
    .parquet           needs pyarrow: pip install 'mesp[parquet]'
    any other name     JSON lines: an object a line; blank lines are skipped

Text is UTF-8, with or without a byte order mark; a line ends at a line feed, and text keeps its line ends. All but
.parquet may be compressed, with .gz, .bz2 or .xz after the name.
Nothing more than the standard library reads them, and pyarrow is what people with Parquet files have; `datasets` would add
a large dependency and a copy of the data on disk.

The keys of a row tell its kind. All rows of a file are of one kind, and other keys are ignored:

    text                  a document
    prompt, completion    two strings
    messages              a list of {"role", "content"}, strings, and nothing else; roles are system, user, assistant and tool.
                          One is the assistant's, but not the first
    input_ids, labels     token ids, and what each token is as a target: its id, or -100 if it is none
"""

import bz2
import csv
import gzip
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import UsageError

Kind = Literal["file", "text", "completion", "messages", "ids"]  # "file" is a .txt: a text that does not end
KEYS: dict[Kind, tuple[str, ...]] = {
    "text": ("text",),
    "completion": ("prompt", "completion"),
    "messages": ("messages",),
    "ids": ("input_ids", "labels"),
}
ROLES = ("system", "user", "assistant", "tool")
EXPECTED = 'A row has "text", or "prompt" and "completion", or "messages", or "input_ids" and "labels"'

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Row:
    """A checked row."""

    where: str  # file and line, or file and row
    kind: Kind
    values: dict[str, Any]  # has KEYS[kind]; "file" has "text"


def read_rows(path: Path) -> Iterator[Row]:
    """Reads a data file row by row.

    Raises:
        UsageError: no file, a damaged one, or a row that is malformed or of another kind than the first.
    """
    check_file(path)
    compressed = path.suffix.lower() in _OPEN
    suffix = (path.with_suffix("") if compressed else path).suffix.lower()
    if suffix == ".parquet" and compressed:
        raise UsageError(f"{path}: Parquet is compressed inside. Decompress the file, and pass the .parquet.")
    if suffix == ".txt":
        text = "".join(_lines(path))
        if text.strip():
            yield Row(str(path), "file", {"text": text})
        return
    first: Kind | None = None
    for where, values in {".csv": _csv, ".parquet": _parquet}.get(suffix, _json_lines)(path):
        kind = _kind(values, where)
        first = first or kind
        if kind != first:
            raise UsageError(
                f"{where}: {_quoted(KEYS[kind])} after rows of {_quoted(KEYS[first])}. Keep one kind in a file."
            )
        _check(kind, values, where)
        yield Row(where, kind, values)


def check_file(path: Path) -> None:
    """Raises UsageError if there is no data file."""
    if not path.is_file():
        raise UsageError(f"There is no data file at {path}.")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, decompressed, with their ends. A line ends at a line feed and nowhere else."""
    done = 0
    try:
        with _OPEN.get(path.suffix.lower(), open)(path, "rb") as file:
            for done, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if done == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}, line {done}: not UTF-8 text ({error}). Save the file as UTF-8.") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        where = f"{path}, after line {done}"
        raise UsageError(
            f"{where}: cannot be read ({error}). Copy it again, whole and named as it is compressed."
        ) from error


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where}: not JSON ({error}). A file that is not .txt, .csv or .parquet has one JSON object a line. "
                "Turn a JSON list into that with: jq -c '.[]' FILE > FILE.jsonl"
            ) from error


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(sys.maxsize)  # the default refuses a document of more than 128 KiB
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] | None = None
    where = f"{path}, line 1"
    try:
        for fields in reader:
            if header is None:
                header = fields
            elif fields and len(fields) != len(header):
                counts = f"{len(fields)} fields, but the header has {len(header)}"
                raise UsageError(f"{where}: {counts}. Quote each field that has a comma or a line feed.")
            elif fields:
                yield where, dict(zip(header, fields, strict=True))
            where = f"{path}, line {reader.line_num + 1}"
    except csv.Error as error:
        raise UsageError(f"{where}: not CSV ({error}). Close each quote, and double a quote inside quotes.") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"{path}: Parquet files need pyarrow. Install it: pip install 'mesp[parquet]'") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            rows = (values for batch in file.iter_batches() for values in batch.to_pylist())
            for number, values in enumerate(rows, 1):
                yield f"{path}, row {number}", values
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}, after row {number}: not sound Parquet ({error}). Copy or write it again.") from error


def _kind(values: Any, where: str) -> Kind:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: {_short(values)} is not an object. {EXPECTED}.")
    kinds = [kind for kind, keys in KEYS.items() if set(keys) <= values.keys()]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        both = " and of ".join(_quoted(KEYS[kind]) for kind in kinds)
        raise UsageError(f"{where}: the row is one of {both}. Keep the keys of one kind only.")
    raise UsageError(f"{where}: {EXPECTED}; this one has {_quoted(values) or 'nothing'}. Rename or add its keys.")


def _check(kind: Kind, values: dict[str, Any], where: str) -> None:
    if kind == "messages":
        _check_messages(values, where)
    elif kind == "ids":
        _check_ids(values, where)
    else:
        for name in KEYS[kind]:
            _check_string(values[name], f'"{name}"', where)


def _check_string(value: Any, name: str, where: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name} must be a string, not {_short(value)}. Correct or remove the row.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no tokenizer takes
        raise UsageError(f"{where}: {name} is not Unicode text ({error.reason}). Correct or remove the row.") from error


def _check_messages(values: dict[str, Any], where: str) -> None:
    messages = values["messages"]
    if not isinstance(messages, list) or not messages:
        raise UsageError(f'{where}: "messages" must be a list of {{"role", "content"}}, not {_short(messages)}.')
    if values.get("tools"):
        raise UsageError(f'{where}: "tools" are not supported. Put their description into the system\'s content.')
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        if not isinstance(message, dict):
            raise UsageError(f'{where}: {name} must be {{"role", "content"}}, not {_short(message)}.')
        if message.get("role") not in ROLES:
            raise UsageError(f"{where}: {name} has the role {message.get('role')!r}. Roles are {', '.join(ROLES)}.")
        _check_string(message.get("content"), f'{name}["content"]', where)
        # Parquet gives every message the keys of all, null where a message has none.
        if extra := [key for key, value in message.items() if key not in ("role", "content") and value is not None]:
            raise UsageError(f"{where}: {name} has {_quoted(extra)}. Write it into the content, or remove it.")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise UsageError(f"{where}: no message is the assistant's, to learn from. Add one, or remove the row.")
    if roles[0] == "assistant":
        raise UsageError(f"{where}: the first message is the assistant's. Put the message that it answers before it.")


def _check_ids(values: dict[str, Any], where: str) -> None:
    for name in KEYS["ids"]:
        numbers = values[name]
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise UsageError(f'{where}: "{name}" must be a list of whole numbers, not {_short(numbers)}.')
    ids, labels = len(values["input_ids"]), len(values["labels"])
    if ids != labels:
        raise UsageError(f"{where}: {ids} input_ids but {labels} labels. Give each token its own label, not shifted.")


def _quoted(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
