"""Weight formats: round-trip bounds, GGUF's blocks taken over exactly, and slices by tile."""

import numpy as np
import pytest
import torch

from mesp.export.model.quantize import Fp32, Int4, Int8, WeightFormat, weight_format
from mesp.runtime.errors import UsageError

from .checks import assert_close
from .tolerances import DEQUANTIZE_FP32

FORMATS = [Fp32(), Int8(), Int4(32), Int4(64)]


def weight(inputs: int = 128, outputs: int = 9) -> torch.Tensor:
    return torch.randn(inputs, outputs, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_parts_are_as_declared(fmt: WeightFormat) -> None:
    parts, declared = fmt.quantize(weight()), fmt.parts(128, 9)
    assert tuple(parts) == tuple(declared) == fmt.part_names
    for name, part in parts.items():
        assert (tuple(part.shape), part.dtype) == (declared[name].shape, declared[name].dtype)


@pytest.mark.parametrize(("fmt", "levels"), [(Int8(), 254), (Int4(32), 15), (Int4(64), 15)], ids=str)
def test_no_weight_is_off_by_more_than_half_a_level(fmt: WeightFormat, levels: int) -> None:
    w = weight()
    groups = w.view(-1, fmt.group, 9) if isinstance(fmt, Int4) else w[None]
    span = groups.amax(1) - groups.amin(1) if isinstance(fmt, Int4) else 2 * groups.abs().amax(1)
    error = (fmt.dequantize(fmt.quantize(w)) - w).view(groups.shape).abs().amax(1)
    assert (error <= span / levels / 2 * 1.0001).all()


def test_fp32_is_exact() -> None:
    assert torch.equal(Fp32().dequantize(Fp32().quantize(weight())), weight())


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_a_group_of_equal_weights_is_exact(value: float) -> None:
    w = torch.full((32, 3), value)
    assert torch.equal(Int4(32).dequantize(Int4(32).quantize(w)), w)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_ggufs_own_dequantization_agrees(kind: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    from mesp.export.model.gguf_checkpoint import unpack_blocks

    w = weight(64, 5).t().contiguous().numpy()
    stored = quantize(w, GGMLQuantizationType[kind])
    blocks = unpack_blocks(stored, kind)
    fmt = Int4(32)
    ours = fmt.dequantize(fmt.pack(blocks.levels, blocks.scale, blocks.offset))
    reference = torch.from_numpy(np.ascontiguousarray(dequantize(stored, GGMLQuantizationType[kind]).T))
    assert_close(ours, reference, DEQUANTIZE_FP32, kind)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_slices_of_inputs_are_slices_of_the_weight(fmt: WeightFormat) -> None:
    parts = fmt.quantize(weight())
    whole = fmt.dequantize(parts)
    assert torch.equal(fmt.dequantize(fmt.input_slice(parts, slice(64, 128))), whole[64:128])


def test_inputs_that_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(UsageError, match="o_proj has 48 inputs.*groups of 32"):
        weight_format("int4").check("o_proj", 48)
    weight_format("int8").check("o_proj", 48)
