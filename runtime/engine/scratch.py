"""A tensor that is kept in a file instead of memory, for as long as its session lives."""

import mmap
import os
import tempfile
import warnings
from pathlib import Path

import torch

from ..errors import MespError
from .schedule import ITEM_BYTES, TensorSpec


class ScratchTensor:
    """Written with system calls and read through a mapping, so none of it is this process's own memory.

    Pages that were written and are not on the disk yet would count as dirty pages of the mapping: before the first read after a
    write they are flushed. The file has no name, so nothing is left of it, however the process ends.

    Args:
        folder: where the file is made; on a disk, since a file system in memory would save nothing

    Raises:
        MespError: there is no room for it.
    """

    def __init__(self, folder: Path, spec: TensorSpec):
        self._item_bytes, self._flushed = ITEM_BYTES[spec.dtype], True
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as the session)
        try:
            os.posix_fallocate(self._file.fileno(), 0, spec.nbytes)
        except OSError as error:
            raise MespError(
                f"{folder} has no room for the {spec.nbytes / 1e6:.0f} MB that are offloaded: {error}."
            ) from error
        self._map = mmap.mmap(self._file.fileno(), spec.nbytes, prot=mmap.PROT_READ)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # as for the mapped weights: nothing writes through this tensor
            self.base = torch.frombuffer(self._map, dtype=getattr(torch, spec.dtype))

    def write(self, first: int, values: torch.Tensor) -> None:
        """Elements from ``first`` on."""
        data, offset = values.reshape(-1).view(torch.uint8).numpy().data, first * self._item_bytes
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        self._flushed = False

    def flush(self) -> None:
        """To be called before a read."""
        if not self._flushed:
            os.fdatasync(self._file.fileno())
            self._flushed = True
