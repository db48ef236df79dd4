"""The records of a data file, each with its place in the file for messages, whatever they hold.

    .txt, .md               one text
    .jsonl, .ndjson, .json  an object a line, where blank lines are skipped; or one list of objects, as in [{...}, {...}]
    .csv, .tsv              a header that names the columns, and a row a line; "" doubles a quote inside quotes
    .parquet                needs pyarrow: pip install 'mesp[parquet]'
    no suffix               as .json: /dev/stdin, <(command), files without a dot. Any other suffix is refused by name

Text is UTF-8, with or without a byte order mark; a line ends at a line feed, and text keeps its line ends. All but
.parquet may be compressed, with .gz, .bz2, .xz or .zst after the name; .zst needs pyarrow too.
Nothing more than the standard library reads them, and pyarrow is what people with Parquet files have; `datasets` would add
a large dependency and a copy of the data on disk.

A file is opened once and read from its beginning to its end, so that it may be a pipe.
"""

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..contract import rows_table
from ..errors import UsageError, in_a_line

Record = tuple[str, Any]  # where it is, and its value; a Text, or whatever JSON, a line or a row of Parquet holds


class Text(str):
    """All of a text file. A string of JSON is no such thing."""


SUFFIXES: dict[str, list[str]] = rows_table()["suffixes"]
_FORMATS = {f".{suffix}" if suffix else "": name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
_READ = (
    "Data is text (.txt, .md), JSON lines or a list (.jsonl, .ndjson, .json), .csv, .tsv or .parquet; text also compressed, with .gz, .bz2, "
    ".xz or .zst after its name"
)


def _zstandard(path: Path, mode: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            f"{path}: .zst files need pyarrow. Install it (pip install 'mesp[parquet]'), or decompress the file: zstd -d {path}"
        ) from error
    return io.BufferedReader(pyarrow.input_stream(path, compression="zstd"))


_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstandard}


def format_of(path: Path) -> str:
    """What a file's name says that it is: a key of ``SUFFIXES``.

    Raises:
        UsageError: nothing that is read.
    """
    compressed = path.suffix.lower() in _OPEN
    suffix = (path.with_suffix("") if compressed else path).suffix.lower()
    if suffix not in _FORMATS:
        raise UsageError(f"{path}: {suffix} files are not read. {_READ}.")
    if suffix == ".parquet" and compressed:
        raise UsageError(f"{path}: Parquet is compressed inside. Decompress the file, and pass the .parquet.")
    return _FORMATS[suffix]


def is_data(path: Path) -> bool:
    """Whether the name is one of a data file."""
    try:
        return bool(path.suffix) and bool(format_of(path))
    except UsageError:
        return False


def check_file(path: Path) -> None:
    """Looks for a data file, without opening it: a pipe can be opened once.

    Raises:
        UsageError: no file, a folder, or a file that is not read.
    """
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if is_data(file))
        some = f": {', '.join(files[:8])}{', …' if len(files) > 8 else ''}" if files else ", but there is none in it"
        raise UsageError(f"{path} is a folder. Give one data file of it{some}.")
    if not path.exists():
        piped = " What came through a pipe has to come again: give --data." if path.is_relative_to("/dev") else ""
        raise UsageError(f"There is no data file at {path}.{piped}")
    format_of(path)


def records(path: Path) -> Iterator[Record]:
    """Reads a file record by record. A text file is one record; a blank one is none.

    Raises:
        UsageError: no file, one that is not read or is damaged.
    """
    check_file(path)
    yield from _READERS[format_of(path)](path)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, decompressed, with their ends. A line ends at a line feed and nowhere else."""
    done = 0
    try:
        with _OPEN.get(path.suffix.lower(), open)(path, "rb") as file:
            if file.isatty():
                raise UsageError(f"{path} is the terminal. Pipe the rows into it, or give a file.")
            for done, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if done == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}, line {done}: not UTF-8 text ({in_a_line(error)}). Save the file as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        where = f"{path}, after line {done}"
        raise UsageError(
            f"{where}: cannot be read ({in_a_line(error)}). Copy it again, whole and named as it is compressed."
        ) from error


def _text(path: Path) -> Iterator[Record]:
    text = "".join(_lines(path))
    if text.strip():
        yield str(path), Text(text)


def _json(path: Path) -> Iterator[Record]:
    numbered = ((number, line) for number, line in enumerate(_lines(path), 1) if line.strip())
    for number, line in numbered:
        if line.lstrip().startswith("["):
            yield from _json_list(path, itertools.chain([line], (line for _, line in numbered)))
        else:
            yield from _json_lines(path, itertools.chain([(number, line)], numbered))


def _json_lines(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[Record]:
    for number, line in numbered:
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where}: not JSON ({in_a_line(error)}). A {path.suffix or 'file without a suffix'} has one JSON object a line, or is one list."
            ) from error


def _json_list(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    try:
        rows = json.loads("".join(lines))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: not a JSON list ({in_a_line(error)}). It begins with one: expected [{{...}}, {{...}}] and nothing after it."
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


def _csv(path: Path, delimiter: str = ",") -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # the default refuses a document of more than 128 KiB
    reader = csv.reader(_lines(path), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    where = f"{path}, line 1"
    try:
        for fields in reader:
            if header is None:
                header = fields
                if twice := sorted({name for name in header if name and header.count(name) > 1}):
                    raise UsageError(f'{where}: the header has "{twice[0]}" twice. Give each column a name of its own.')
            elif fields and len(fields) != len(header):
                counts = f"{len(fields)} fields, but the header has {len(header)}"
                raise UsageError(
                    f"{where}: {counts}. Quote each field that has a {_SEPARATORS[delimiter]} or a line feed."
                )
            elif fields:
                yield where, dict(zip(header, fields, strict=True))
            where = f"{path}, line {reader.line_num + 1}"
    except csv.Error as error:
        raise UsageError(
            f"{where}: not CSV ({in_a_line(error)}). Close each quote, and double a quote inside quotes."
        ) from error


_SEPARATORS = {",": "comma", "\t": "tab"}


def _tsv(path: Path) -> Iterator[Record]:
    return _csv(path, "\t")


def _parquet(path: Path) -> Iterator[Record]:
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
        raise UsageError(
            f"{path}, after row {number}: not sound Parquet ({in_a_line(error)}). Copy or write it again."
        ) from error


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "text": _text,
    "json": _json,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
}
