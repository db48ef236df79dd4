"""The header of a GGUF file: its keys and what it tells of its tensors, read with every length checked against the file.

    "GGUF", version, number of tensors, number of keys
    each key      name, type, value; an array has the type of its items, their number, and the items
    each tensor   name, dimensions from the innermost, type, place in the data
    the data      from the next multiple of general.alignment

The gguf package's own reader follows any length that a damaged file tells, for hours. Types of tensors, and what dequantizes them, are the
package's.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.errors import UsageError
from mesp.runtime.files import refuse_pointer

if TYPE_CHECKING:
    import numpy as np  # what is no model is refused without numpy

_MAGIC = b"GGUF"
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}  # as struct has them
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4

_Described = tuple[str, tuple[int, ...], int, int]  # a tensor's name, shape, number of its type, place in the data


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as the header tells of it.

    Args:
        shape: from the outermost dimension, as torch has it
        dtype: the gguf package's name of its type, such as Q4_1
        start, nbytes: its place in the file
    """

    shape: tuple[int, ...]
    dtype: str
    start: int
    nbytes: int


class GgufHeader:
    """What a GGUF file says before its data.

    Raises:
        UsageError: it is not whole.
    """

    def __init__(self, path: Path):
        self.path = path
        refuse_pointer(path)
        with self._reading():
            with open(path, "rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._place = 0
            self.keys, self.described = self._read()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (
            ValueError,
            struct.error,
        ) as error:  # UnicodeDecodeError is one of the first; an empty file has no mapping
            raise UsageError(f"{self.path} is not a whole GGUF file: {error}. Download it again.") from error

    def _read(self) -> tuple[dict[str, Any], list[_Described]]:
        if self._data[:4] != _MAGIC:
            raise ValueError(f"it begins with {self._data[:4]!r} and not with {_MAGIC!r}")
        self._place = 4
        version = self._scalar("I")
        if version not in _VERSIONS:
            raise ValueError(f"it is of version {version}, and those that are read are 2 and 3, little-endian")
        tensors, count = self._scalar("Q"), self._scalar("Q")
        keys: dict[str, Any] = {}
        for _ in range(count):
            name = self._string()
            if name in keys:
                raise ValueError(f"the key {name} is there twice")
            keys[name] = self._value(self._scalar("I"))
        return keys, [self._tensor() for _ in range(tensors)]

    def _tensor(self) -> _Described:
        name, dimensions = self._string(), self._scalar("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))[::-1]
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._scalar(self._format(kind))
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind == _STRING:
            self._fits(8 * count)
            return [self._string() for _ in range(count)]
        return list(struct.unpack(f"<{count}{self._format(kind)}", self._bytes(count, self._format(kind))))

    def _format(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"it has a value of type {kind}, which the format does not have here")
        return _SCALARS[kind]

    def _scalar(self, format_: str) -> Any:
        return struct.unpack(f"<{format_}", self._bytes(1, format_))[0]

    def _string(self) -> str:
        return self._bytes(self._scalar("Q"), "B").decode()

    def _bytes(self, count: int, format_: str) -> bytes:
        end = self._place + count * struct.calcsize(f"<{format_}")
        self._fits(end - self._place)
        data, self._place = self._data[self._place : end], end
        return data

    def _fits(self, nbytes: int) -> None:
        if nbytes > len(self._data) - self._place:
            raise ValueError(f"it tells of more than it has at byte {self._place}")


class GgufFile(GgufHeader):
    """A GGUF file, opened: its tensors have their places in it.

    Raises:
        UsageError: it is not whole.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        with self._reading():
            alignment = self.keys.get("general.alignment", 32)
            if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
                raise ValueError(f"general.alignment is {alignment} and no power of two")
            self.tensors = self._placed(-(-self._place // alignment) * alignment)

    def blocks(self, tensor: GgufTensor) -> "np.ndarray":
        """The stored bytes by rows, [rows, bytes]; a vector is one row."""
        import numpy as np

        data = np.frombuffer(self._data, np.uint8, tensor.nbytes, tensor.start)
        return data.reshape(tensor.shape[0] if len(tensor.shape) > 1 else 1, -1)

    def _placed(self, start: int) -> dict[str, GgufTensor]:
        """The tensors by name; their data begins at ``start``."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in self.described:
            if kind not in list(GGMLQuantizationType):
                raise ValueError(f"the type of {name}, number {kind}, is not one that the gguf package knows")
            dtype = GGMLQuantizationType(kind)
            block, block_bytes = GGML_QUANT_SIZES[dtype]
            if shape[-1] % block:
                raise ValueError(
                    f"{name} has rows of {shape[-1]}, which {dtype.name} cannot cut into blocks of {block}"
                )
            nbytes = prod(shape) // block * block_bytes
            if start + offset + nbytes > len(self._data):
                end = start + offset + nbytes
                raise ValueError(f"its tensor {name} ends at byte {end}, the file at {len(self._data)}")
            if name in tensors:
                raise ValueError(f"the tensor {name} is there twice")
            tensors[name] = GgufTensor(shape, dtype.name, start + offset, nbytes)
        return tensors
