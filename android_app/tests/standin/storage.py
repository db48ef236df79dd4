"""Whose writes the storage counts when it is about to be full."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

from .state import State


def counts(path: Path, state: State) -> bool:
    """Whether a file is in the shared storage or in adb's folder, which a full phone has no room for."""
    return any(path.is_relative_to(state.root / place) for place in ("sdcard", "data/local/tmp"))


def write(file: BinaryIO, data: bytes, path: Path, state: State) -> None:
    """Writes what there is room for.

    Raises:
        OSError: with "No space left on device", if that was not all.
    """
    taken = state.take_storage(len(data)) if counts(path, state) else len(data)
    file.write(data[:taken])
    if taken < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
