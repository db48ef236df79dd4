"""The folder of a run on the host is what runtime/contract says, however the run ends."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesp.command_line.parser import main
from mesp.runtime.data.dataset import Dataset
from mesp.runtime.errors import MespError
from mesp.runtime.report.pages import write_report
from mesp.runtime.training.listener import Listener, Step
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings

from .contract import check, check_run, read_json
from .test_checkpoint import stop_after
from .test_train import write_rows

SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "steps": 6}
EVALUATED: dict[str, Any] = {"eval_split": 0.2, "eval_every": 2}


@pytest.fixture
def run(qwen2_fp32: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains, checks the folder, and returns what is in it; a run may fail."""
    write_rows(tmp_path / "rows.jsonl", 15)

    def trained(
        name: str = "run", listener: Listener | None = None, resume: bool = False, stop: Any = None, **chosen: Any
    ) -> dict[str, Any]:
        settings = TrainSettings(tmp_path / "rows.jsonl", **chosen)
        reason = None
        try:
            train(qwen2_fp32, tmp_path / name, settings, listener, resume, stop or (lambda: False))
        except MespError as error:
            reason = str(error)
        files = check_run(tmp_path / name)
        assert files["report.json"].get("reason") == reason
        return files

    return trained


@pytest.mark.parametrize("bundle", ["qwen2_fp32", "llama_int4", "qwen3_int8", "qwen3_mebp", "llama_float16"])
def test_a_bundles_manifest(bundle: str, request: pytest.FixtureRequest) -> None:
    check("manifest", read_json((request.getfixturevalue(bundle) / "manifest.json").read_text()))


def test_done(run: Callable[..., dict[str, Any]]) -> None:
    files = run(**SGD, **EVALUATED, clip_norm=1.0, grad_accumulation=2)
    assert files["report.json"]["status"] == "done" and len(files["eval.jsonl"]) == 4
    kinds = [sample["phase"] for sample in files["memory.jsonl"]]
    assert kinds[0] == "load" and kinds.count("between steps") >= 6


def test_the_command_lines_run_with_event_files_and_adamws_state(qwen2_fp32: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 15)
    options = ["--data", str(tmp_path / "rows.jsonl"), "--steps", "3", "--tensorboard"]
    assert main(["train", str(qwen2_fp32), "-o", str(tmp_path / "run"), *options]) == 0
    files = check_run(tmp_path / "run")
    assert files["tensorboard"] and "optimizer.safetensors" in files["checkpoints"]["step-3"]


def test_stopped_early(run: Callable[..., dict[str, Any]]) -> None:
    files = run(optimizer="sgd", lr=0.0, steps=9, eval_split=0.2, eval_every=1, patience=2)
    assert files["report.json"]["status"] == "stopped_early" and files["report.json"]["steps"] == 3


def test_interrupted_and_resumed(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    interrupted = run(stop=stop_after(3), **SGD)
    assert interrupted["report.json"]["status"] == "interrupted" and "adapter" not in interrupted

    old_reports = []

    class Looks(Listener):
        def stepped(self, step: Step) -> None:
            old_reports.append((tmp_path / "run" / "report.json").exists())

    resumed = run(resume=True, listener=Looks(), **SGD)
    assert resumed["report.json"]["status"] == "done" and resumed["report.json"]["steps"] == 6
    assert old_reports
    assert not any(old_reports), "what the interrupted run came to is not what this one is"


def test_killed(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """What is there in the middle of a run is all that is there of one that is killed."""

    class Copies(Listener):
        def stepped(self, step: Step) -> None:
            if step.step == 4:
                shutil.copytree(tmp_path / "run", tmp_path / "killed")

    run(listener=Copies(), checkpoint_every=2, **SGD)
    killed = check_run(tmp_path / "killed")
    assert "report.json" not in killed and list(killed["checkpoints"]) == ["step-2"] and len(killed["steps.jsonl"]) == 4
    assert run("killed", resume=True, checkpoint_every=2, **SGD)["report.json"]["steps"] == 6


def test_diverged(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    files = run(optimizer="sgd", lr=1e20, steps=9)
    assert files["report.json"]["reason"].startswith("Step 2: the loss is ")
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Reason" in page and "Step 2: the loss is " in page


def test_a_held_out_loss_that_is_not_finite(run: Callable[..., dict[str, Any]]) -> None:
    files = run(optimizer="sgd", lr=1e20, steps=1, eval_split=0.2)
    assert files["report.json"]["reason"].startswith("After step 1 the held-out loss is ")
    assert [line["step"] for line in files["eval.jsonl"]] == [0], "NaN is not JSON"


def test_a_full_disk(run: Callable[..., dict[str, Any]]) -> None:
    """A file may not grow beyond this size: the log of memory samples is the first that wants to."""

    class Fills(Listener):
        def begin(self, first: int, steps: int, dataset: Dataset) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    try:
        files = run(listener=Fills(), optimizer="sgd", lr=0.01, steps=200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "Could not write" in files["report.json"]["reason"] and files["steps.jsonl"]
