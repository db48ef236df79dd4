"""What is looked at in data before it is sent: a phone would refuse the same rows, after everything is there."""

from pathlib import Path

from mesp.runtime.data.hub import data_files
from mesp.runtime.data.records import format_of, records
from mesp.runtime.data.rows import RowReader
from mesp.runtime.errors import UsageError


def checked_data(data: Path, columns: str | None) -> tuple[Path, list[str]]:
    """The one file to send, and what a person should know of its rows.

    Args:
        data: a file, or what ``data.hub`` reads from the Hugging Face Hub
        columns: of ``--map``

    Raises:
        UsageError: no file, several, one that is not read on a phone, or a row that cannot be used.
    """
    files, notes = data_files(data)
    if len(files) > 1:
        raise UsageError(f"{notes[0]}: a phone takes one file. Join them, or name one of them.")
    (file,) = files
    if not file.is_file():
        raise UsageError(f"{file} is a pipe, which cannot be sent. Write it into a file first.")
    if file.suffix.lower() in (".bz2", ".xz", ".zst"):
        raise UsageError(f"{file}: of compressed files only .gz is read on a phone. Decompress it first.")
    if format_of(file) == "parquet":
        raise UsageError(
            f'{file}: Parquet is not read on a phone. Make JSON lines of it: python -c "from datasets import Dataset; '
            "Dataset.from_parquet('rows.parquet').to_json('rows.jsonl')\""
        )
    reader = RowReader(columns)
    for record in records(file):
        reader(*record)
    return file, [*notes, *reader.notes]
