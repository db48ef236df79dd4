"""What is kept in a file instead of memory."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mesp.runtime.engine.schedule import TensorSpec
from mesp.runtime.engine.scratch import ScratchTensor
from mesp.runtime.errors import MespError
from mesp.runtime.memory.sampler import exact_footprint_bytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    kept = ScratchTensor(tmp_path, TensorSpec((3, 8), dtype))
    rows = torch.randn(2, 8).to(getattr(torch, dtype))
    kept.write(8, rows)
    kept.flush()
    assert kept.base.view(3, 8)[1:].equal(rows) and not kept.base[:8].any()


@pytest.mark.alone
def test_it_has_no_name_and_its_pages_are_not_the_process_s(tmp_path: Path) -> None:
    megabyte = torch.ones(2**18)
    kept = ScratchTensor(tmp_path, TensorSpec((64, 2**18)))
    before = exact_footprint_bytes()
    for row in range(64):
        kept.write(row * 2**18, megabyte)
    kept.flush()
    assert int(kept.base.view(64, -1)[:, 0].sum()) == 64  # a page of each row is mapped
    assert kept.base.sum() == 64 * 2**18  # and now all of them
    assert exact_footprint_bytes() - before < 2**22
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MespError, match="no room for the 4 MB that are offloaded: .*No space left"):
        ScratchTensor(tmp_path, TensorSpec((1024, 1024)))
