"""The cache of lowered programs gives what lowering gives, and takes nothing for the same that is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import ExportedProgram

from mesp.export.bundle import lower as lower_module
from mesp.export.bundle.lower import Lowered, lower_traced

from . import lowering_cache
from .lowering_cache import cached, fingerprint


class Product(torch.nn.Module):
    ones: torch.Tensor

    def __init__(self, column: int, scale: float):
        super().__init__()
        self.scale = scale
        self.register_buffer("ones", torch.eye(4)[:, column : column + 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x * self.scale, self.ones)


def traced(name: str = "product", rows: int = 3, column: int = 0, scale: float = 2.0) -> dict[str, ExportedProgram]:
    return {name: torch.export.export(Product(column, scale), (torch.zeros(rows, 4),))}


def test_a_hit_is_what_lowering_gives_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = lower_traced(traced())
    assert cached(traced(), tmp_path) == lowered

    def again(_: object) -> Lowered:
        raise AssertionError("lowered again")

    monkeypatch.setattr(lowering_cache, "lower_traced", again)
    assert cached(traced(), tmp_path) == lowered
    assert [path.name for path in tmp_path.iterdir()] == [fingerprint(traced())]


@pytest.mark.parametrize("change", [{"name": "other"}, {"rows": 5}, {"column": 1}, {"scale": 2.0000002}], ids=str)
def test_another_program_is_another_entry(change: dict[str, Any]) -> None:
    assert fingerprint(traced(**change)) != fingerprint(traced())


def test_other_versions_and_other_code_are_other_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {fingerprint(traced())}
    with monkeypatch.context() as patch:
        patch.setattr(lowering_cache, "version", lambda package: "0")
        found.add(fingerprint(traced()))
    monkeypatch.setattr(lowering_cache, "lower_module", torch)
    found.add(fingerprint(traced()))
    assert len(found) == 3


def test_every_test_uses_it() -> None:
    assert lower_module.lower_traced is not lower_traced
