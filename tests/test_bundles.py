"""Every bundle that tests share is exported, here and once; the tests after these find it made.

In the order of the time that lowering them takes, so that two processes have equal shares.
"""

from pathlib import Path

import pytest

from mesp.runtime.engine.bundle import open_bundle

from .bundles import BUNDLES
from .conftest import exported

SLOWEST_FIRST = ("qwen2", "llama", "store-h", "upper", "float16", "mebp", "mezo")


def test_all_are_here() -> None:
    assert sorted(SLOWEST_FIRST) == sorted(BUNDLES)


@pytest.mark.parametrize("name", SLOWEST_FIRST)
def test_it_exports_and_opens(name: str, bundles: Path) -> None:
    manifest = open_bundle(exported(bundles, name)).manifest
    assert manifest.needs.backends == ("XnnpackBackend",)
    assert ("_to_dim_order_copy" in str(manifest.needs.operators)) == (name == "float16")
