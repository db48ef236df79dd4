"""Files that are complete or absent: written beside their place, flushed, and renamed into it. And JSON that a person gave, read."""

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
        _flush_entry(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    make_folders(output.parent)
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


def make_folders(folder: Path) -> None:
    """Makes a folder and those above it that are not there, each with its name on the device: what is written into it later would be lost
    with it."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _flush_entry(path.parent)


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


_LFS_POINTER = b"version https://git-lfs.github.com/"


def refuse_pointer(path: Path) -> None:
    """Raises UsageError for what Git leaves in the place of a large file that was not fetched."""
    with open(path, "rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UsageError(f"{path} is a Git LFS pointer and not the file itself. Fetch it with: git lfs pull")


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object of a file.

    Args:
        what: it is, for the message, as in "a model configuration"

    Raises:
        UsageError: the file holds something else, or cannot be read.
    """
    try:
        refuse_pointer(path)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as {what}: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} cannot be read as {what}: it holds no JSON object.")
    return value
