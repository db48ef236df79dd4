"""Weight formats: how a frozen weight lies in the file, and how a program turns it back into floats.

A format says which parts a weight [in, out] is stored as, makes them, and writes the operators that undo it inside a program.
The operators are chosen for XNNPACK: the output axis is innermost, so that scales and offsets are plain vector operations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401  # its operations are registered by this
from torch import Tensor

from mesp.runtime.errors import UsageError

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class PartSpec:
    """One stored tensor of a weight."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class WeightFormat(Protocol):
    """What a weight [in, out] is stored as."""

    @property
    def name(self) -> str:
        """What --weights calls it."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """The stored tensors' names, in order."""

    def check(self, what: str, inputs: int) -> None:
        """Raises UsageError if a weight with that many inputs cannot be stored."""

    def parts(self, inputs: int, outputs: int) -> dict[str, PartSpec]:
        """The stored tensors by name."""

    def quantize(self, weight: Tensor) -> Parts:
        """weight [in, out], fp32 -> its parts"""

    def input_slice(self, parts: Parts, rows: slice) -> Parts:
        """The parts of a range of inputs; a range of outputs is a slice of every part's last axis."""

    def dequantize(self, parts: Parts) -> Tensor:
        """parts -> weight [in, out], fp32; traced into programs."""


def to_float(quants: Tensor, scale: float = 1.0) -> Tensor:
    """scale * quants, as the one operator that XNNPACK converts int8 with."""
    values: Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor.default(
        quants, scale, 0, -128, 127, torch.int8
    )
    return values


@dataclass(frozen=True)
class Fp32:
    """Unquantized; half-precision checkpoints are widened, which is exact."""

    name: str = "fp32"
    part_names: tuple[str, ...] = ("values",)

    def check(self, what: str, inputs: int) -> None:
        pass

    def parts(self, inputs: int, outputs: int) -> dict[str, PartSpec]:
        return {"values": PartSpec((inputs, outputs), torch.float32)}

    def quantize(self, weight: Tensor) -> Parts:
        return {"values": weight.float().contiguous()}

    def input_slice(self, parts: Parts, rows: slice) -> Parts:
        return {"values": parts["values"][rows]}

    def dequantize(self, parts: Parts) -> Tensor:
        return parts["values"]


@dataclass(frozen=True)
class Int8:
    """w = scale * q, q in -127 .. 127, one scale an output."""

    name: str = "int8"
    part_names: tuple[str, ...] = ("quants", "scale")

    def check(self, what: str, inputs: int) -> None:
        pass

    def parts(self, inputs: int, outputs: int) -> dict[str, PartSpec]:
        return {
            "quants": PartSpec((inputs, outputs), torch.int8),
            "scale": PartSpec((1, outputs), torch.float32),
        }

    def quantize(self, weight: Tensor) -> Parts:
        scale = (weight.abs().amax(0, keepdim=True) / 127).clamp_min(1e-12)
        return {"quants": torch.round(weight / scale).to(torch.int8).contiguous(), "scale": scale.contiguous()}

    def input_slice(self, parts: Parts, rows: slice) -> Parts:
        return {"quants": parts["quants"][rows], "scale": parts["scale"]}

    def dequantize(self, parts: Parts) -> Tensor:
        return to_float(parts["quants"]) * parts["scale"]


@dataclass(frozen=True)
class Int4:
    """w = scale * q + offset, q in 0 .. 15, in groups of ``group`` inputs.

    Row i of a group lies in the low nibble and row i + group / 2 of the same group in the high nibble of one byte, which is how GGUF's Q4_0
    and Q4_1 lie as well: their blocks are taken over exactly. The byte is signed, (q_high - 8) * 16 + q_low.
    """

    group: int = 32
    name: str = "int4"
    part_names: tuple[str, ...] = ("quants", "scale", "offset")

    def check(self, what: str, inputs: int) -> None:
        if inputs % self.group:
            raise UsageError(
                f"{what} has {inputs} inputs, which int4 cannot split into groups of {self.group}. "
                "Use --weights int8 or fp32, or a --group-size that divides it."
            )

    def parts(self, inputs: int, outputs: int) -> dict[str, PartSpec]:
        groups = inputs // self.group
        return {
            "quants": PartSpec((groups, self.group // 2, outputs), torch.int8),
            "scale": PartSpec((groups, 1, outputs), torch.float32),
            "offset": PartSpec((groups, 1, outputs), torch.float32),
        }

    def quantize(self, weight: Tensor) -> Parts:
        inputs, outputs = weight.shape
        grouped = weight.float().reshape(inputs // self.group, self.group, outputs)
        offset = grouped.amin(1, keepdim=True)
        scale = (grouped.amax(1, keepdim=True) - offset) / 15
        # A group of equal weights has scale 0: all of it is in the offset.
        levels = torch.where(scale > 0, (grouped - offset) / scale.clamp_min(1e-30), torch.zeros(()))
        return self.pack(torch.round(levels).clamp(0, 15).to(torch.uint8), scale, offset)

    def pack(self, levels: Tensor, scale: Tensor, offset: Tensor) -> Parts:
        """levels [in / group, group, out] in 0 .. 15, scale and offset [in / group, 1, out] -> parts"""
        half = self.group // 2
        low, high = levels[:, :half].to(torch.int16), levels[:, half:].to(torch.int16)
        return {
            "quants": ((high - 8) * 16 + low).to(torch.int8).contiguous(),
            "scale": scale.float().contiguous(),
            "offset": offset.float().contiguous(),
        }

    def input_slice(self, parts: Parts, rows: slice) -> Parts:
        groups = slice(rows.start // self.group, rows.stop // self.group)
        return {part: values[groups] for part, values in parts.items()}

    def dequantize(self, parts: Parts) -> Tensor:
        quants, scale, offset = parts["quants"], parts["scale"], parts["offset"]
        byte = to_float(quants, 1 / 16)  # q_high - 8 + q_low / 16
        high = torch.floor(byte)
        low = (byte - high) * (scale * 16.0) + offset
        high = high * scale + (offset + scale * 8.0)
        groups, _, outputs = quants.shape
        return torch.cat([low, high], 1).view(groups * self.group, outputs)


_FORMATS: dict[str, Callable[[int], WeightFormat]] = {
    "int4": lambda group: Int4(group),
    "int8": lambda group: Int8(),
    "fp32": lambda group: Fp32(),
}


def weight_format(name: str, group_size: int = 32) -> WeightFormat:
    """The format called ``name``: int4, int8 or fp32."""
    return _FORMATS[name](group_size)
