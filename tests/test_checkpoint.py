"""Checkpoints and resuming: complete or absent whatever the moment of death, and the same run bit for bit."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.command_line.parser import main
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.manifest import Lora
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.training import loop
from mesp.runtime.training.adapter import Scaling
from mesp.runtime.training.checkpoints import Position, checkpoints, prune, read_checkpoint, write_checkpoint
from mesp.runtime.training.loop import train
from mesp.runtime.training.run_writer import RunWriter
from mesp.runtime.training.settings import TrainSettings

from .test_train import lines, write_rows

# Everything that a resumed run has to take over: optimizer state, schedule, order, accumulation, evaluations, the best so far.
CHOSEN: dict[str, Any] = {
    "eval_split": 0.2,
    "steps": 14,
    "lr": 0.02,
    "schedule": "cosine",
    "warmup": 2,
    "grad_accumulation": 2,
    "clip_norm": 1.0,
    "eval_every": 3,
    "checkpoint_every": 4,
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", 15)
    return tmp_path / "rows.jsonl"


@pytest.fixture(scope="module")
def whole(qwen2_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted. Only read."""
    return _run_of_all_tests(qwen2_fp32, tmp_path_factory.mktemp("whole"), lambda: False)


@pytest.fixture(scope="module")
def _interrupted(qwen2_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run_of_all_tests(qwen2_fp32, tmp_path_factory.mktemp("interrupted"), stop_after(20))


@pytest.fixture
def interrupted(_interrupted: Path, tmp_path: Path) -> Path:
    """A test's own copy of a run that was interrupted in step 7, after the checkpoint of step 4."""
    return Path(shutil.copytree(_interrupted, tmp_path / "run"))


def _run_of_all_tests(bundle: Path, folder: Path, stop: Callable[[], bool]) -> Path:
    write_rows(folder / "rows.jsonl", 15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_report", lambda run: (run / "report.html").write_text(""))
        loop.train(bundle, folder / "run", TrainSettings(folder / "rows.jsonl", **CHOSEN), stop=stop)
    return folder / "run"


def without_times(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in item.items() if k not in ("seconds", "peak_footprint_bytes")} for item in items]


def assert_same_run(one: Path, other: Path) -> None:
    """The same losses, evaluations, and adapter, byte for byte."""
    for name in ("steps.jsonl", "eval.jsonl"):
        assert without_times(lines(one / name)) == without_times(lines(other / name))
    for name in ("adapter", "best"):
        file = f"{name}/adapter_model.safetensors"
        assert (one / file).read_bytes() == (other / file).read_bytes()


def stop_after(sequences: int) -> Callable[[], bool]:
    """What asks a run to stop before so many more sequences are begun."""
    asked = iter(range(sequences + 1))
    return lambda: next(asked, None) in (sequences, None)


@pytest.mark.parametrize("sequences", [0, 2, 8, 9, 21])
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(
    whole: Path, qwen2_fp32: Path, rows: Path, tmp_path: Path, sequences: int
) -> None:
    """Before and within the first evaluation, within a step's accumulation, at a checkpoint, in a later epoch."""
    settings = TrainSettings(rows, **CHOSEN)
    report = train(qwen2_fp32, tmp_path / "cut", settings, stop=stop_after(sequences))
    assert report["status"] == "interrupted" and report["eval_loss_after"] is None
    assert not (tmp_path / "cut" / "adapter").exists() and (tmp_path / "cut" / "report.html").exists()
    resumed = train(qwen2_fp32, tmp_path / "cut", settings, resume=True)
    assert resumed["status"] == "done" and resumed["steps"] == 14
    assert_same_run(whole, tmp_path / "cut")
    again = train(qwen2_fp32, tmp_path / "cut", settings, resume=True)
    assert again == json.loads((tmp_path / "cut" / "report.json").read_text())


@pytest.mark.parametrize("optimizer", [{"optimizer": "sgd", "lr": 0.3}, {"optimizer": "sgd", "momentum": 0.9}, {}])
def test_every_optimizers_state_is_in_the_checkpoint(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    settings = TrainSettings(rows, checkpoint_every=3, **optimizer)
    train(qwen2_fp32, tmp_path / "whole", settings)
    train(qwen2_fp32, tmp_path / "cut", settings, stop=stop_after(7))
    assert list(checkpoints(tmp_path / "cut" / "checkpoints")) == [6, 7]
    train(qwen2_fp32, tmp_path / "cut", settings, resume=True)
    assert without_times(lines(tmp_path / "whole/steps.jsonl")) == without_times(lines(tmp_path / "cut/steps.jsonl"))
    file = "adapter/adapter_model.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    assert list(checkpoints(tmp_path / "cut" / "checkpoints")) == [12, 15]  # the older ones are pruned


def test_it_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best(
    qwen2_fp32: Path, rows: Path, tmp_path: Path
) -> None:
    settings = TrainSettings(rows, eval_split=0.2, steps=60, lr=0.1, eval_every=2, patience=3, checkpoint_every=5)
    report = train(qwen2_fp32, tmp_path / "run", settings)
    losses = {line["step"]: line["loss"] for line in lines(tmp_path / "run" / "eval.jsonl")}
    best = min((step for step in losses if step), key=lambda step: losses[step])
    assert report["status"] == "stopped_early" and report["steps"] == best + 3 * 2 < 60
    assert report["best_step"] == best and report["eval_loss_after"] == report["best_eval_loss"] == losses[best]
    evaluated = TrainSettings(rows, eval_split=0.2, steps=1, optimizer="sgd", lr=0.0, adapter=tmp_path / "run/adapter")
    again = train(qwen2_fp32, tmp_path / "again", evaluated)
    assert again["eval_loss_before"] == losses[best]  # so RUN/adapter is that evaluation's


# --- Death at any moment ----------------------------------------------------------------------------------------------


def make_state(lora: Lora, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = ("adapter", "adamw.m", "adamw.v")
    return {name: torch.randn(lora.elements, generator=generator) for name in names}


def die_at(call: int) -> None:
    """Ends this process, without any clean-up, before its ``call``-th system call that touches files."""
    left = [call]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            count()
            return call(*arguments)

        return run

    watched = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree")
    sys.addaudithook(lambda event, _: count() if event in watched else None)
    for name in ("pwrite", "fsync", "ftruncate", "close"):
        setattr(os, name, counted(getattr(os, name)))


def test_a_checkpoint_is_complete_or_absent_wherever_the_process_dies(qwen2_fp32: Path, tmp_path: Path) -> None:
    """A child process writes the next checkpoint and prunes the older one; it is ended before its n-th call, for every n."""
    manifest, scaling = open_bundle(qwen2_fp32).manifest, Scaling(8.0)
    old, new, found = (make_state(manifest.lora, seed) for seed in (1, 2, 3))
    deaths = 0
    while True:
        folder = tmp_path / f"death-{deaths}"
        write_checkpoint(folder, manifest, old, scaling, Position(step=1))
        child = os.fork()
        if not child:
            die_at(deaths)
            write_checkpoint(folder, manifest, new, scaling, Position(step=2))
            prune(folder, 1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        last, path = list(checkpoints(folder).items())[-1]
        _, position = read_checkpoint(path, manifest, found)
        assert position.step == last
        assert all(torch.equal(found[name], (old if last == 1 else new)[name]) for name in found)
        if status == 0:
            break
        assert status == 9
        deaths += 1
    assert deaths > 50 and list(checkpoints(folder)) == [2]


def command(bundle: Path, rows: Path, run: Path, *options: str) -> list[str]:
    start = "import sys; from mesp.command_line.parser import main; sys.exit(main())"
    chosen = [f"--{name.replace('_', '-')}={value}" for name, value in CHOSEN.items()]
    return [sys.executable, "-c", start, "train", str(bundle), "--data", str(rows), "-o", str(run), *chosen, *options]


def test_a_process_that_is_killed_is_resumed_to_the_same_adapter(
    whole: Path, qwen2_fp32: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after a step is on the log, with half-written files of an earlier death beside it; then --resume, from another folder."""
    monkeypatch.chdir(tmp_path)
    bundle, rows = Path(os.path.relpath(qwen2_fp32)), Path(os.path.relpath(rows))
    run = tmp_path / "cut"
    process = subprocess.Popen(command(bundle, rows, run), stdout=subprocess.DEVNULL)
    wait_for(lambda: (run / "steps.jsonl").exists() and len((run / "steps.jsonl").read_text().splitlines()) >= 6)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (run / "checkpoints" / ".step-8.half").mkdir()
    (run / "steps.jsonl").open("a").write('{"step": 1')
    monkeypatch.chdir(run)
    assert main(["train", "--resume", "../cut"]) == 0
    monkeypatch.chdir(tmp_path)
    assert_same_run(whole, run)
    assert not list(run.rglob(".*"))


def test_more_steps_than_a_schedule_was_made_for_are_said(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", str(interrupted), "--steps", "16"]) == 0
    assert "the cosine schedule is that of a run of 16 steps" in capsys.readouterr().out
    assert lines(interrupted / "steps.jsonl")[-1]["step"] == 16


def test_a_run_that_is_done_is_given_more_steps(qwen2_fp32: Path, rows: Path, tmp_path: Path) -> None:
    train(qwen2_fp32, tmp_path / "nine", TrainSettings(rows, steps=9))
    train(qwen2_fp32, tmp_path / "more", TrainSettings(rows, steps=6))
    assert main(["train", "--resume", str(tmp_path / "more"), "--steps", "9"]) == 0
    assert json.loads((tmp_path / "more" / "run.json").read_text())["settings"]["steps"] == 9
    assert json.loads((tmp_path / "more" / "report.json").read_text())["steps"] == 9
    logs = [without_times(lines(tmp_path / name / "steps.jsonl")) for name in ("nine", "more")]
    assert logs[0] == logs[1]
    for path in (tmp_path / "more" / "checkpoints").iterdir():
        shutil.rmtree(path)
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        train(qwen2_fp32, tmp_path / "more", TrainSettings(rows, steps=12), resume=True)


def test_epochs_that_end_with_a_short_step_are_resumed_as_such(qwen2_fp32: Path, rows: Path, tmp_path: Path) -> None:
    settings = TrainSettings(rows, grad_accumulation=2)
    train(qwen2_fp32, tmp_path / "uncut", settings)
    train(qwen2_fp32, tmp_path / "cut", settings, stop=stop_after(5))
    assert main(["train", "--resume", str(tmp_path / "cut")]) == 0
    logs = [without_times(lines(tmp_path / name / "steps.jsonl")) for name in ("uncut", "cut")]
    assert logs[0] == logs[1] and logs[0][-1]["tokens"] < logs[0][0]["tokens"]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def test_ctrl_c_keeps_a_checkpoint_and_a_report_and_exits_with_130(
    qwen2_fp32: Path, rows: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    many = ("--steps", "100000", "--checkpoint-every", "0")
    process = subprocess.Popen(command(qwen2_fp32, rows, run, *many), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: (run / "steps.jsonl").exists() and "\n" in (run / "steps.jsonl").read_text())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in output
    steps = json.loads((run / "report.json").read_text())["steps"]
    assert 1 <= steps < 100000 and list(checkpoints(run / "checkpoints")) == [steps]
    assert (run / "report.html").exists()


# --- What is refused, and what fails ----------------------------------------------------------------------------------


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "lr": ({"lr": 0.03}, "--lr was 0.02 and is now 0.03"),
    "optimizer": ({"optimizer": "sgd"}, "--optimizer was adamw and is now sgd"),
    "fewer steps": ({"steps": 10}, "--steps was 14 and is now 10"),
    "accumulation": ({"grad_accumulation": 1}, "--grad-accumulation was 2 and is now 1"),
    "split": ({"eval_split": 0.4}, "--eval-split was 0.2 and is now 0.4"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_resuming_with_other_settings_is_refused_by_name(
    interrupted: Path, qwen2_fp32: Path, rows: Path, changes: dict[str, Any], message: str
) -> None:
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=message):
        train(qwen2_fp32, interrupted, TrainSettings(rows, **{**CHOSEN, **changes}), resume=True)
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before


def test_resuming_with_other_data_or_another_bundle_is_refused(
    interrupted: Path, qwen2_fp32: Path, llama_int4: Path, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"program\.pte of the bundle has changed"):
        train(llama_int4, interrupted, TrainSettings(rows, **CHOSEN), resume=True)
    write_rows(rows, 16)
    with pytest.raises(UsageError, match="--data has other contents"):
        train(qwen2_fp32, interrupted, TrainSettings(rows, **CHOSEN), resume=True)
    run = json.loads((interrupted / "run.json").read_text())
    run["versions"]["transformers"] = "4.0"
    (interrupted / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match=r"other contents, or other tokens by transformers [0-9.]+ than by 4\.0"):
        train(qwen2_fp32, interrupted, TrainSettings(rows, **CHOSEN), resume=True)
    with pytest.raises(UsageError, match=r"no run\.json"):
        train(qwen2_fp32, tmp_path / "absent", TrainSettings(rows, **CHOSEN), resume=True)


@pytest.mark.parametrize("file", ["optimizer.safetensors", "adapter_model.safetensors", "trainer_state.json"])
def test_a_checkpoint_that_was_cut_short_is_refused_and_the_one_before_it_is_there(
    whole: Path, interrupted: Path, qwen2_fp32: Path, rows: Path, file: str
) -> None:
    settings = TrainSettings(rows, **CHOSEN)
    last = list(checkpoints(interrupted / "checkpoints").values())[-1]
    (last / file).write_bytes((last / file).read_bytes()[:-10])
    with pytest.raises(UsageError, match=f"{last} is damaged.*Remove that folder"):
        train(qwen2_fp32, interrupted, settings, resume=True)
    for item in last.iterdir():
        item.unlink()
    last.rmdir()
    train(qwen2_fp32, interrupted, settings, resume=True)
    assert_same_run(whole, interrupted)


@pytest.mark.parametrize("place", ["checkpoint", "log"])
def test_a_full_disk_fails_the_run_and_leaves_the_last_checkpoint(
    whole: Path,
    interrupted: Path,
    qwen2_fp32: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    run, settings = interrupted, TrainSettings(rows, **CHOSEN)
    kept = list(checkpoints(run / "checkpoints"))
    if place == "checkpoint":
        space = iter(range(20))  # pieces of the next checkpoint that still find room

        def pwrite(*arguments: Any, original: Callable[..., int] = os.pwrite) -> int:
            if next(space, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments)

        monkeypatch.setattr(os, "pwrite", pwrite)
    else:
        monkeypatch.setattr(RunWriter, "open_logs", with_a_full_disk(RunWriter.open_logs))
    assert main(command(qwen2_fp32, rows, run, "--resume")[3:]) == 1
    error = capsys.readouterr().err
    assert "Could not write" in error and "No space left on device" in error and "--resume" in error
    assert list(checkpoints(run / "checkpoints")) == kept and not list(run.rglob(".*"))
    monkeypatch.undo()
    assert train(qwen2_fp32, run, settings, resume=True)["status"] == "done"
    assert_same_run(whole, run)


def with_a_full_disk(open_logs: Callable[..., None]) -> Callable[..., None]:
    """Opens the logs, and then puts the device that is always full in the place of one."""

    def opened(folder: RunWriter, *arguments: Any) -> None:
        open_logs(folder, *arguments)
        folder._logs["steps.jsonl"] = open("/dev/full", "w")  # noqa: SIM115

    return opened


@pytest.mark.parametrize("clip_norm", [None, 1e30], ids=["lean", "kept"])
def test_a_loss_that_is_not_finite_ends_the_run_with_its_step_and_the_last_good_checkpoint(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, clip_norm: float | None
) -> None:
    run = tmp_path / "run"
    settings = partial(TrainSettings, rows, optimizer="sgd", clip_norm=clip_norm, checkpoint_every=1)
    with pytest.raises(MespError, match=r"Step \d+: the loss is .*--clip-norm") as error:
        train(qwen2_fp32, run, settings(steps=60, lr=300.0, shuffle=False))
    step = len(lines(run / "steps.jsonl")) + 1
    good = run / "checkpoints" / f"step-{step - 2}"
    assert f"Step {step}:" in str(error.value) and f"The last good checkpoint is {good}," in str(error.value)
    report = json.loads((run / "report.json").read_text())
    assert report["status"] == "failed" and report["steps"] == step - 1 and not (run / "adapter").exists()
    onwards = settings(adapter=good, steps=1, lr=0.0)
    assert train(qwen2_fp32, tmp_path / "on", onwards)["loss_last"] < 100
    with pytest.raises(MespError, match="No checkpoint from before that is kept"):
        train(qwen2_fp32, tmp_path / "none", settings(lr=1e20))


def test_a_checkpoint_of_an_rslora_adapter_keeps_its_scaling(qwen2_fp32: Path, tmp_path: Path) -> None:
    manifest = open_bundle(qwen2_fp32).manifest
    state = make_state(manifest.lora, 1)
    path = write_checkpoint(tmp_path, manifest, state, Scaling(8.0, rslora=True), Position(step=3))
    scaling, _ = read_checkpoint(path, manifest, make_state(manifest.lora, 2))
    assert scaling == Scaling(8.0, rslora=True) and scaling.at(4) == 4.0


def test_nothing_is_overwritten(interrupted: Path, qwen2_fp32: Path, rows: Path) -> None:
    with pytest.raises(UsageError, match="exists already. Go on with it: mesp train --resume"):
        train(qwen2_fp32, interrupted, TrainSettings(rows, **CHOSEN))
    (interrupted / "steps.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"steps\.jsonl is shorter"):
        train(qwen2_fp32, interrupted, TrainSettings(rows, **CHOSEN), resume=True)


def test_an_adapter_of_another_base_model_is_refused_by_name(
    interrupted: Path, qwen2_fp32: Path, rows: Path, tmp_path: Path
) -> None:
    adapter = list(checkpoints(interrupted / "checkpoints").values())[-1]
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "Other/Model-7B"}))
    with pytest.raises(UsageError, match=r"adapter of Other/Model-7B.*--allow-other-base"):
        train(qwen2_fp32, tmp_path / "new", TrainSettings(rows, adapter=adapter))
    report = train(qwen2_fp32, tmp_path / "new", TrainSettings(rows, adapter=adapter, allow_other_base=True))
    assert report["status"] == "done"


def test_an_unknown_failure_of_the_disk_is_not_swallowed(qwen2_fp32: Path, tmp_path: Path) -> None:
    manifest = open_bundle(qwen2_fp32).manifest
    (tmp_path / "file").write_text("")
    with pytest.raises((MespError, OSError)):
        write_checkpoint(tmp_path / "file", manifest, make_state(manifest.lora, 1), Scaling(8.0), Position())
