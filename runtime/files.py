"""Files that are complete or absent: written beside their place, flushed, and renamed into it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import MespError, UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which becomes ``path`` at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes a whole JSON file."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def check_absent(output: Path) -> None:
    """Raises UsageError if there is something at the place of an output."""
    if output.exists():
        raise UsageError(f"{output} exists already. Choose another output, or remove it first.")


@contextmanager
def folder_that_appears_whole(output: Path, replace: bool = False) -> Iterator[Path]:
    """A folder beside the output that is renamed into it at the end, or removed.

    Args:
        replace: an output that exists is removed at the end; otherwise that is an error

    Raises:
        MespError: it could not be written.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        folder.chmod(0o755)
        yield folder
        _flush(folder)
        if replace and output.exists():
            os.rename(output, folder.with_name(folder.name + ".old"))
        os.rename(folder, output)
        _flush_entry(output.parent)
    except OSError as error:
        raise MespError(f"Could not write {output}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name(folder.name + ".old"), ignore_errors=True)


def _flush(folder: Path) -> None:
    """Has everything in the folder on the device, so that its new name cannot outlive its contents."""
    for path in (*folder.rglob("*"), folder):
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sha256(path: Path) -> str:
    """Of a file's contents, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
