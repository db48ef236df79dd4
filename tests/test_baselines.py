"""The outside baselines: each trains the same model on the same row, so they come to the same losses; and what they write."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesp.bench.baselines import eager, executorch_training
from mesp.bench.baselines.baseline import random_model, random_row, read_config
from mesp.runtime.errors import MespError
from mesp.runtime.memory.sampler import MemoryReport

TINY = Path(__file__).parents[1] / "benchmarks" / "configurations" / "tiny-llama"
STEPS = 20  # fewer are over before there are enough samples
Main = Callable[[list[str]], int]


def measured(folder: Path, module: str, *options: str, model: Path = TINY) -> dict[str, Any]:
    """What the command writes, run as a person runs it."""
    output = folder / "results" / "out.json"
    sizes = ["--tokens", "16", "--rank", "4", "--steps", str(STEPS)]
    command = [sys.executable, "-m", module, "--model", str(model), *sizes, *options, "-o", str(output)]
    subprocess.run(command, check=True, timeout=300)
    assert [path.name for path in output.parent.iterdir()] == ["out.json"]
    results: dict[str, Any] = json.loads(output.read_text())
    return results


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(tmp_path_factory.mktemp("plain"), eager.__name__, "--no-checkpointing")


def check(results: dict[str, Any], weights_bytes: int) -> None:
    """Every field, and a loss that falls with every step."""
    assert results["memory"].keys() == MemoryReport.__dataclass_fields__.keys()
    assert results["weights_bytes"] == weights_bytes
    assert len(results["step_seconds"]) == STEPS and min(results["step_seconds"]) > 0
    assert results["losses"] == sorted(results["losses"], reverse=True) and len(set(results["losses"])) == STEPS
    expected = {"tokens": 16, "rank": 4, "steps": STEPS, "alpha": 16.0, "optimizer": "sgd", "lr": 1e-3}
    assert expected.items() <= results["settings"].items()


def tiny_weights(layers: int) -> int:
    """Of tiny-llama in bytes, its tied head once."""
    width, inner, vocabulary, kv_width = 64, 128, 256, 32
    layer = 2 * width * width + 2 * width * kv_width + 3 * width * inner + 2 * width
    return 4 * (vocabulary * width + width + layers * layer)


@pytest.mark.thorough
def test_eager(plain: dict[str, Any], tmp_path: Path) -> None:
    check(plain, tiny_weights(2))
    assert plain["settings"]["checkpointing"] is False
    assert plain["memory"]["delta_footprint_bytes"] > plain["weights_bytes"]
    kept = measured(tmp_path, eager.__name__, "--checkpointing")
    assert kept["settings"]["checkpointing"] is True
    assert kept["losses"] == pytest.approx(plain["losses"], abs=1e-6)


def same_training(ours: list[float], theirs: list[float]) -> None:
    """The same weights (the first loss) and the same steps: what they gain is small, so it is compared by itself."""
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert ours[0] - ours[-1] == pytest.approx(theirs[0] - theirs[-1], rel=1e-3)


@pytest.mark.thorough
def test_executorch(plain: dict[str, Any], tmp_path: Path) -> None:
    results = measured(tmp_path, executorch_training.__name__)
    check(results, tiny_weights(2))
    assert results["program"]["delegates"] == 0
    assert results["program"]["file_bytes"] > results["weights_bytes"]
    assert results["memory"]["delta_footprint_bytes"] > results["program"]["planned_bytes"]
    same_training(results["losses"], plain["losses"])


@pytest.mark.thorough
def test_executorch_with_xnnpack(tmp_path: Path) -> None:
    """One layer: XNNPACK's partitioner takes most of a minute for two. The adapters must not be made constants of its delegates."""
    values = json.loads((TINY / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 1}))
    results = measured(tmp_path, executorch_training.__name__, "--xnnpack", model=tmp_path)
    check(results, tiny_weights(1))
    assert results["program"]["delegates"] > 0
    config = read_config(tmp_path)
    step = eager.sgd_step(random_model(config, rank=4), random_row(config, tokens=16), checkpointing=False)
    same_training(results["losses"], [step() for _ in range(STEPS)])


MAINS: dict[str, tuple[Main, list[str]]] = {
    "eager": (eager.main, ["--checkpointing"]),
    "executorch": (executorch_training.main, []),
}


@pytest.mark.parametrize(("main", "options"), MAINS.values(), ids=MAINS)
def test_a_folder_without_a_configuration(
    main: Main, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, message in ((tmp_path, "has no config.json"), (tmp_path / "absent", "There is no checkpoint at")):
        assert main(["--model", str(folder), *options, "-o", str(tmp_path / "out.json")]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("main", "options"), MAINS.values(), ids=MAINS)
def test_sizes_that_are_none(main: Main, options: list[str], tmp_path: Path) -> None:
    for size in (["--steps", "0"], ["--rank", "-1"], ["--tokens", "1"]):  # one token has none to predict
        with pytest.raises(SystemExit) as error:
            main(["--model", str(TINY), *options, "-o", str(tmp_path / "out.json"), *size])
        assert error.value.code == 2


def test_a_refused_measurement_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise MespError("The memory report is refused: too few samples.")

    monkeypatch.setattr(eager, "measure_steps", refuse)
    arguments = ["--model", str(TINY), "--tokens", "8", "--checkpointing", "-o", str(tmp_path / "out.json")]
    assert eager.main(arguments) == 1
    assert "is refused" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
