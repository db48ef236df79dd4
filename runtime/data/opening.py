"""How data begins: a prompt to try a model with that is trained on it."""

from dataclasses import dataclass
from pathlib import Path

from .records import records
from .rows import RowReader

_CHARACTERS = 60


@dataclass(frozen=True)
class Opening:
    """A prompt of one line.

    Args:
        chat: it is what a user says in a conversation
    """

    prompt: str
    chat: bool


def opening_of(path: Path, columns: str | None = None) -> Opening | None:
    """The beginning of a file's first row; None if that is token ids or has no line to begin with, or if the data came through a pipe.

    Args:
        columns: as ``rows.read_columns`` takes it
    """
    record = next(records(path), None) if path.is_file() else None
    if record is None:
        return None
    row = RowReader(columns)(*record)
    if row.kind == "ids":
        return None
    if row.kind == "messages":
        said = [message["content"] for message in row.values["messages"] if message["role"] == "user"]
        text = said[0] if said else ""
    else:
        text = row.values["prompt" if row.kind == "completion" else "text"]
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Opening(_begun(line), chat=row.kind == "messages") if line else None


def _begun(line: str) -> str:
    """As many of a line's words as one reads at a glance."""
    if len(line) <= _CHARACTERS:
        return line
    return line[: _CHARACTERS + 1].rsplit(" ", 1)[0]
