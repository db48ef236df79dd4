"""What all tests share: their order, and the bundles of bundles.py as fixtures, each exported once a session."""

import fcntl
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from .bundles import write_bundle
from .lowering_cache import lowering_cached

# The fleet's tests need its extra: make test-fleet installs it.
collect_ignore = [] if find_spec("flwr") else ["fleet"]

# Tiny products gain nothing from threads, and those that wait for work take the cores from the other processes. So each of pytest's
# processes, and what it starts, keeps to a core: ExecuTorch then has one thread too.
torch.set_num_threads(1)
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# The ladder: each rung stands on those before it, so the first failure is the one to look at.
LADDER = {
    "op": (
        "ops",
        "quantize",
        "schedule",
        "scratch",
        "rows",
        "hub",
        "data",
        "parts",
        "masks",
        "mobile",
        "imports",
        "contract",
        "config",
        "thinning",
        "sampling",
        "decoding",
    ),
    "block": ("programs", "mutations", "workspace", "duration"),
    "model": ("families", "gguf", "folders", "model", "kinds", "schedule_mutations", "merge", "generate", "convert"),
    "lowered program": (
        "bundles",
        "lowering_cache",
        "export",
        "lowered",
        "combinations",
        "footprint",
        "start",
        "help",
        "bad_input",
        "fuzz",
    ),
    "training": (
        "adapter",
        "optimizer",
        "fit",
        "train",
        "checkpoint",
        "terminal",
        "progress",
        "run_state",
        "run_folders",
        "fuzz_runs",
    ),
    "report": ("readme", "report", "memory", "api", "try", "bench", "baselines", "measuring", "wheel"),
}
HERE = Path(__file__).parent
RUNGS = [f"test_{name}" for names in LADDER.values() for name in names]
LOWERED = RUNGS.index("test_bundles")
LAST_OF_LOWERED = RUNGS.index(f"test_{LADDER['lowered program'][-1]}")

# The fixtures of the bundles that are not among bundles.py's quick ones: `make test` leaves their tests to `make test-all`.
FAMILY_BUNDLES = {"gemma3_int8", "lfm2_int4", "smollm3_int4", "mistral_fp32", "granite_int8", "phi3_int4"}
LATER = {*FAMILY_BUNDLES, "qwen3_mebp", "llama_store_h", "llama_mezo", "llama_float16"}
BUNDLES = {"bundles", "qwen2_fp32", "llama_int4", "qwen3_int8", *LATER}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of this folder in the order of the ladder, and marks as thorough what takes one of the later bundles.

    Raises:
        UsageError: a file that is not on it.
    """
    names = {item.path.stem for item in items if item.path.parent == HERE}
    if missing := names.difference(RUNGS):
        raise pytest.UsageError(f"Give {', '.join(sorted(missing))} a place on the ladder in tests/conftest.py.")
    for item in items:
        if LATER & _fixtures(item):
            item.add_marker(pytest.mark.thorough)
    items.sort(key=_place)


def _fixtures(item: pytest.Item) -> set[str]:
    """What a test is given: a bundle is a fixture, or a parameter that names one."""
    called = getattr(item, "callspec", None)
    return {*getattr(item, "fixturenames", ()), *map(str, called.params.values() if called else ())}


def _place(item: pytest.Item) -> tuple[int, int]:
    """The place of a test's file on the ladder. What takes a bundle stands no lower than the bundles, and behind their rung's other tests:
    these are what one process does while the other still lowers."""
    if item.path.parent != HERE:
        return len(RUNGS), 0
    place = RUNGS.index(item.path.stem)
    if place > LAST_OF_LOWERED or place == LOWERED or not BUNDLES & _fixtures(item):
        return place, 0
    return LAST_OF_LOWERED, 1 + place


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _lowering_cached() -> Iterator[None]:
    with lowering_cached():
        yield


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of bundles: of all of pytest's processes, if there are several."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "bundles"
    folder.mkdir(exist_ok=True)
    return folder


def exported(folder: Path, name: str) -> Path:
    """A bundle by its name in bundles.py; beside it is its checkpoint. The first process that asks for it makes it."""
    bundle = folder / name / "bundle"
    bundle.parent.mkdir(exist_ok=True)
    with (bundle.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not bundle.exists():
            write_bundle(name, bundle, bundle.parent / "checkpoint")
    return bundle


@pytest.fixture(scope="session")
def qwen2_fp32(bundles: Path) -> Path:
    return exported(bundles, "qwen2")


@pytest.fixture(scope="session")
def llama_int4(bundles: Path) -> Path:
    return exported(bundles, "llama")


@pytest.fixture(scope="session")
def qwen3_int8(bundles: Path) -> Path:
    return exported(bundles, "upper")


@pytest.fixture(scope="session")
def gemma3_int8(bundles: Path) -> Path:
    return exported(bundles, "gemma3")


@pytest.fixture(scope="session")
def lfm2_int4(bundles: Path) -> Path:
    return exported(bundles, "lfm2")


@pytest.fixture(scope="session")
def smollm3_int4(bundles: Path) -> Path:
    return exported(bundles, "smollm3")


@pytest.fixture(scope="session")
def mistral_fp32(bundles: Path) -> Path:
    return exported(bundles, "mistral")


@pytest.fixture(scope="session")
def granite_int8(bundles: Path) -> Path:
    return exported(bundles, "granite")


@pytest.fixture(scope="session")
def phi3_int4(bundles: Path) -> Path:
    return exported(bundles, "phi3")


@pytest.fixture(scope="session")
def qwen3_mebp(bundles: Path) -> Path:
    return exported(bundles, "mebp")


@pytest.fixture(scope="session")
def llama_store_h(bundles: Path) -> Path:
    return exported(bundles, "store-h")


@pytest.fixture(scope="session")
def llama_mezo(bundles: Path) -> Path:
    return exported(bundles, "mezo")


@pytest.fixture(scope="session")
def llama_float16(bundles: Path) -> Path:
    return exported(bundles, "float16")
