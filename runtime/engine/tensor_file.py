"""Safetensors piece by piece.

A file is laid out before any tensor exists, so what it holds never has to be in memory at once. Read back, it is a layout: where each
tensor is, for whoever maps the file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import MespError
from .schedule import ITEM_BYTES, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor  # a bundle is opened, and refused, without torch

_DTYPES = {"float32": "F32", "int8": "I8", "uint8": "U8", "int64": "I64"}
_PADDING = "padding."


class TensorFile:
    """A safetensors file of known contents, written in any order.

    Args:
        path: must not exist yet
        tensors: what will be in it, in order
        alignment: every tensor starts at a multiple of so many bytes
        metadata: the format's own free text
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, TensorSpec],
        alignment: int = 1,
        metadata: Mapping[str, str] | None = None,
    ):
        self.tensors = tensors
        self._offsets: dict[str, int] = {}
        # Text from the start: as Python's objects the header of an adapter takes half a megabyte, at the end of a run.
        entries = [_entry("__metadata__", dict(metadata))] if metadata else []
        end = 0
        for name, spec in tensors.items():
            self._offsets[name] = end
            entries.append(_tensor_entry(name, _DTYPES[spec.dtype], spec.shape, end, end + spec.nbytes))
            end += spec.nbytes
            # The format knows no holes between tensors: what aligns the next one is a tensor too.
            if padding := -end % alignment:
                entries.append(_tensor_entry(f"{_PADDING}{name}", "U8", (padding,), end, end + padding))
                end += padding
        text = f"{{{', '.join(entries)}}}".encode()
        text += b" " * (-(len(text) + 8) % max(alignment, 8))
        self._start = 8 + len(text)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        _write_all(self._file, len(text).to_bytes(8, "little") + text, 0)
        os.ftruncate(self._file, self._start + end)

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, name: str, values: "Tensor", first: int = 0) -> None:
        """Writes elements of a tensor from element ``first`` on."""
        spec = self.tensors[name]
        if str(values.dtype) != f"torch.{spec.dtype}" or first + values.numel() > spec.elements:
            raise ValueError(f"{name} is {spec}; cannot take {values.numel()} of {values.dtype} at {first}")
        data = values.contiguous().flatten().numpy().data.cast("B")
        _write_all(self._file, data, self._start + self._offsets[name] + first * ITEM_BYTES[spec.dtype])

    def close(self) -> None:
        """Flushes to the device: a page of a mapping that is still dirty would count as the trainer's memory."""
        os.fsync(self._file)
        os.close(self._file)


def _entry(name: str, value: object) -> str:
    return f"{json.dumps(name)}: {json.dumps(value)}"


def _tensor_entry(name: str, dtype: str, shape: tuple[int, ...], start: int, end: int) -> str:
    return _entry(name, {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]})


def _write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def read_layout(path: Path) -> dict[str, tuple[TensorSpec, int]]:
    """The tensors of a safetensors file and their places in bytes from its start.

    Raises:
        MespError: it is not one, or not whole.
    """
    whole = os.path.getsize(path)
    dtypes = {short: name for name, short in _DTYPES.items()}
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > whole:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        layout = {
            name: (TensorSpec(tuple(item["shape"]), dtypes[item["dtype"]]), 8 + size + item["data_offsets"][0])
            for name, item in header.items()
            if not name.startswith(_PADDING)
        }
        for name, (spec, start) in layout.items():
            if not 8 + size <= start <= start + spec.nbytes <= whole:
                raise ValueError(f"its tensor {name} is not inside of it")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise MespError(f"{path} is not a whole safetensors file: {error}.") from error
    return layout
