"""What the app's tests compare with. Runs in the project's environment; tests/android_cases.py and tests/android_golden.py do most of it.

build/android/cases/bundles/    the quick bundles of tests/bundles.py
build/android/cases/runs/       runs of `mesp train` on them
build/android/cases/programs/   and one call of every program of those runs: NAME.json with shapes and places, NAME.bin with
                                the arguments and results
build/android/all-cases/        the same of all bundles
build/android/golden/           texts and data files, and what Hugging Face and the Python runtime make of them
"""

import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import ROOT, make_folder, run
from junit import ALL_CASES, CASES, GOLDEN

from mesp.runtime.engine import executorch_runtime

# What neither a bundle nor a run's figures depend on: what only predicts, checks or draws.
BESIDE = (
    *(f"export/predict/{name}.py" for name in ("duration", "flops", "footprint")),
    *(
        f"runtime/report/{name}.py"
        for name in ("charts", "comparison", "figures", "headline", "inspect", "memory_bar", "pages")
    ),
    *(f"runtime/report/{name}.py" for name in ("phone_rows", "texts", "words")),
    *(f"runtime/training/{name}.py" for name in ("console_progress", "tensorboard")),
)
SECONDS = 1800


def cases(every: bool = False) -> None:
    """Makes the folders, unless they were made with these same sources: of the quick bundles, or of every one too."""
    tests = _tests("android_cases", "bundles", "models")
    rooms = ("export/model", "export/programs", "export/schedules", "export/predict", "export/bundle", "runtime")
    inputs = [*_sources(*rooms), *tests, Path(__file__)]
    make_folder(CASES, inputs, _quick)
    if every:
        make_folder(ALL_CASES, inputs, _all)
    if golden := _tests("android_golden"):
        sources = _sources("export/model", "export/bundle", "runtime/data", "runtime/engine", "runtime/generation")
        make_folder(GOLDEN, [*sources, *golden, *_tests("test_data", "test_masks"), Path(__file__)], _golden)


def _sources(*folders: str) -> list[Path]:
    beside = {ROOT / name for name in BESIDE}
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")) if file not in beside]


def _tests(*names: str) -> list[Path]:
    """Of these modules of tests/ those that there are."""
    return [file for name in names if (file := ROOT / "tests" / f"{name}.py").exists()]


def _quick(folder: Path) -> None:
    (folder / "programs").mkdir()
    _runs(folder, "QUICK")
    tiny = folder / "tiny"
    tiny.mkdir()
    run_folder = Path("..", "runs", "llama-sgd")
    for name, target in (
        ("bundle", Path("..", "bundles", "llama")),
        ("data.jsonl", run_folder / "data.jsonl"),
        ("sgd", run_folder / "host"),
    ):
        (tiny / name).symlink_to(target)


def _all(folder: Path) -> None:
    shutil.copytree(CASES, folder, symlinks=True, dirs_exist_ok=True)
    _runs(folder, "BUNDLES")


def _runs(folder: Path, bundles: str) -> None:
    print("Exporting bundles and training them in Python, for core's tests to compare with", flush=True)
    sys.path.insert(0, str(ROOT))
    names = list(getattr(importlib.import_module("tests.bundles"), bundles))
    with _Recorder() as recorder:
        importlib.import_module("tests.android_cases").main(folder, names)
    recorder.write(folder / "programs")


def _golden(folder: Path) -> None:
    run(sys.executable, "-W", "ignore", "-m", "tests.android_golden", folder, folder=ROOT, seconds=SECONDS)


Tensors = Sequence[torch.Tensor]


class _Recorder:
    """Stands between the sessions and ExecuTorch, and keeps the second call of every program: the first may be of zeros, to warm up."""

    def __init__(self) -> None:
        # By bundle and program: how many calls, and the one that is kept.
        self._count: dict[tuple[str, str], int] = {}
        self._calls: dict[tuple[str, str], tuple[list[torch.Tensor], list[torch.Tensor]]] = {}

    def __enter__(self) -> "_Recorder":
        self._load = executorch_runtime.load
        executorch_runtime.load = lambda path: _Recorded(self._load(path), path, self)
        return self

    def __exit__(self, *_: object) -> None:
        executorch_runtime.load = self._load

    def call(self, module: Any, place: tuple[str, str], arguments: Tensors, clone_outputs: bool) -> list[torch.Tensor]:
        self._count[place] = self._count.get(place, 0) + 1
        # An accumulator is argument and result in one place: copy before.
        before = [argument.clone() for argument in arguments] if self._count[place] <= 2 else None
        results: list[torch.Tensor] = module.run_method(place[1], arguments, clone_outputs=clone_outputs)
        if before is not None:
            self._calls[place] = before, [result.clone() for result in results]
        return results

    def write(self, folder: Path) -> None:
        for bundle in {bundle for bundle, _ in self._calls}:
            programs: dict[str, Any] = {}
            with (folder / f"{bundle}.bin").open("wb") as file:
                for place, (arguments, results) in sorted(self._calls.items(), key=lambda item: item[0]):
                    if place[0] == bundle:
                        call = {"arguments": arguments, "results": results}
                        programs[place[1]] = {key: [_append(file, tensor) for tensor in call[key]] for key in call}
            (folder / f"{bundle}.json").write_text(json.dumps(programs, indent=1) + "\n")


class _Recorded:
    """A loaded program file, whose calls are recorded."""

    def __init__(self, module: Any, path: Path, recorder: _Recorder):
        self._module, self._bundle, self._recorder = module, path.parent.name, recorder

    def run_method(self, name: str, inputs: Sequence[Any], clone_outputs: bool = True) -> list[torch.Tensor]:
        return self._recorder.call(self._module, (self._bundle, name), inputs, clone_outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _append(file: Any, tensor: torch.Tensor) -> dict[str, Any]:
    """Writes a tensor at the next multiple of 64 bytes."""
    file.write(b"\0" * (-file.tell() % 64))
    place = file.tell()
    file.write(tensor.contiguous().numpy().tobytes())
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "offset": place}
