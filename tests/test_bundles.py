"""Every bundle that tests share is exported, here and once; the tests after these find it made.

In the order of the time that lowering them takes, so that two processes have equal shares.
"""

from pathlib import Path

import pytest

from mesp.export.bundle import lower as lower_module
from mesp.export.bundle.lower import lower_traced
from mesp.runtime.engine.bundle import PROGRAM, open_bundle

from .bundles import BUNDLES, QUICK, write_bundle
from .conftest import exported
from .lowering_cache import VARIABLE

SLOWEST_FIRST = (
    *("qwen2", "llama", "store-h", "gemma3", "lfm2", "smollm3", "phi3", "mistral", "granite"),
    *("upper", "float16", "mebp", "mezo"),
)


def test_all_are_here() -> None:
    assert sorted(SLOWEST_FIRST) == sorted(BUNDLES)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in SLOWEST_FIRST]
)
def test_it_exports_and_opens(name: str, bundles: Path) -> None:
    manifest = open_bundle(exported(bundles, name)).manifest
    assert manifest.needs.backends == ("XnnpackBackend",)
    assert ("_to_dim_order_copy" in str(manifest.needs.operators)) == (name == "float16")


# Their programs are made of what is in the others' too.
ALIKE = ("smollm3", "phi3", "mistral", "granite")


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in SLOWEST_FIRST if name not in ALIKE])
def test_the_cache_hides_nothing(name: str, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported without the cache, each program file is the same, byte for byte."""
    cached = exported(bundles, name)
    monkeypatch.setattr(lower_module, "lower_traced", lower_traced)
    monkeypatch.setenv(VARIABLE, "")
    write_bundle(name, tmp_path / "bundle", tmp_path / "checkpoint")
    assert (tmp_path / "bundle" / PROGRAM).read_bytes() == (cached / PROGRAM).read_bytes()
