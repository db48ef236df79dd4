"""Data is looked at before it is sent: what a phone would refuse is refused here, and what it does not read is named."""

import os
from pathlib import Path

import pytest

from mesp.device.phone_data import checked_data
from mesp.runtime.errors import UsageError


def test_rows_are_checked_and_what_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": "b", "id": 1}\n')
    file, notes = checked_data(path, "prompt=question,completion=answer")
    assert (file, notes) == (path, ['columns that are not read: "id", in 1 row'])
    with pytest.raises(UsageError, match='rows.jsonl, line 1: A row has .* this one has "question", "answer", "id"'):
        checked_data(path, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.jsonl.bz2", "only .gz is read on a phone"),
        ("rows.csv.zst", "only .gz is read on a phone"),
        ("rows.parquet", "Parquet is not read on a phone"),
        ("rows.docx", ".docx files are not read"),
        (".", "is a folder"),
        ("absent.txt", "There is no data file at"),
    ],
)
def test_what_a_phone_does_not_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    if name not in (".", "absent.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as error:
        checked_data(tmp_path / name, None)
    assert message in str(error.value)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a pipe, which cannot be sent"):
        checked_data(tmp_path / "pipe", None)
