"""What core on the JVM and the stand-in's trainer write is what runtime/contract says, and what the host writes.

Each of them takes the same runs: of every method, and to every end that a run can have.
"""

import json
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from standin.app import PAUSES
from standin.contract import all_settings, schema
from standin.trainers import BUILD, Trainer, core, fake

from mesp.device.run_progress import REASONS, Progress
from mesp.runtime.training.settings import TrainSettings
from tests.contract import check_run, field_names

ANDROID = Path(__file__).resolve().parents[1]
CASES = BUILD / "cases"
BUNDLE, DATA = CASES / "bundles" / "llama", CASES / "runs" / "llama-sgd" / "data.jsonl"
RUNS = sorted(folder.name for folder in CASES.glob("runs/*"))
SECONDS = 120
EVENTS = {event["properties"]["event"]["const"] for event in schema("event")["oneOf"]}
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01}
TRAINERS: dict[str, Callable[[], Trainer]] = {"core": core, "fake": lambda: fake(seconds=0.005, megabytes=1)}


class Start:
    """A trainer's process, on one run."""

    def __init__(self, trainer: Trainer, run: Path, bundle: Path, settings: Mapping[str, Any], *more: str):
        self.run = run
        chosen = run.with_name(f"{run.name}-settings.json")
        chosen.write_text(json.dumps(dict(settings)))
        command = [*trainer.command, str(bundle), str(run), str(chosen), *more]
        environment = {**os.environ, **trainer.environment}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def steps(self) -> int:
        log = self.run / "steps.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def reach(self, steps: int) -> None:
        """Waits for so many steps."""
        until = time.monotonic() + SECONDS
        while self.steps() < steps:
            assert self.process.poll() is None and time.monotonic() < until, "the run did not come so far"
            time.sleep(0.01)

    def end(self, status: int) -> dict[str, Any]:
        """Checks how the process ends, and what it leaves."""
        _, said = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == status, said
        return check_run(self.run)


@pytest.fixture(params=TRAINERS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Start]:
    trainer = TRAINERS[request.param]()
    return lambda *more, **chosen: Start(trainer, tmp_path / "run", BUNDLE, {"data": str(DATA), **SGD, **chosen}, *more)


def without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name not in names}


def tensor_files(run: Path) -> list[Path]:
    return [file.relative_to(run) for file in run.rglob("*.safetensors")]


def shapes(file: Path) -> dict[str, list[int]]:
    """Of the tensors in a safetensors file."""
    with safe_open(file, "np") as tensors:
        return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}


@pytest.mark.parametrize("name", RUNS)
def test_core_and_the_host_write_the_same(name: str, tmp_path: Path) -> None:
    """The same files with the same fields, and the same phases in the same order; the environment is each one's own."""
    host = check_run(CASES / "runs" / name / "host")
    settings = json.loads((CASES / "runs" / name / "settings.json").read_text())
    chosen = {**without(settings, "bundle"), "data": str(CASES / "runs" / name / settings["data"])}
    here = Start(core(), tmp_path / "run", CASES / "bundles" / settings["bundle"], chosen).end(0)
    assert set(host) - {"report.html"} == set(here)
    for file, own in (("run.json", "versions"), ("report.json", "environment")):
        assert field_names(without(here[file], own)) == field_names(without(host[file], own))
    assert here["run.json"]["settings"] == {**host["run.json"]["settings"], "data": chosen["data"]}
    assert here["run.json"]["data"] == host["run.json"]["data"]
    phases, of_the_host = ([sample["phase"] for sample in run["memory.jsonl"]] for run in (here, host))
    assert len(phases) == len(of_the_host)
    if not host["eval.jsonl"]:  # of an evaluation the largest sample alone is logged, which may be another phase's
        assert phases == of_the_host
    assert list(here["checkpoints"]) == list(host["checkpoints"])
    last = list(here["checkpoints"])[-1]
    assert field_names(here["checkpoints"][last]) == field_names(host["checkpoints"][last])
    assert here["adapter"]["adapter_config.json"] == host["adapter"]["adapter_config.json"]
    for tensors in tensor_files(CASES / "runs" / name / "host"):
        # Not the length of the file: both write JSON with spaces of their own.
        assert shapes(tmp_path / "run" / tensors) == shapes(CASES / "runs" / name / "host" / tensors)
    for file in ("steps.jsonl", "eval.jsonl"):
        assert [line["step"] for line in here[file]] == [line["step"] for line in host[file]]


def test_done(start: Callable[..., Start]) -> None:
    files = start(steps=6, eval_split=0.2, eval_every=2, checkpoint_every=2).end(0)
    report = files["report.json"]
    assert report["status"] == "done" and report["best_step"] and files["best"] and len(files["checkpoints"]) == 2


def test_stopped_early(start: Callable[..., Start]) -> None:
    files = start(steps=200, eval_split=0.2, eval_every=1, patience=2, lr=0.0).end(0)
    assert files["report.json"]["status"] == "stopped_early" and files["adapter"]


def test_interrupted_and_resumed(start: Callable[..., Start]) -> None:
    run = start(steps=600)
    run.reach(20)
    run.process.send_signal(signal.SIGTERM)
    interrupted = run.end(128 + signal.SIGTERM)
    assert interrupted["report.json"]["status"] == "interrupted" and "adapter" not in interrupted
    done = interrupted["report.json"]["steps"]
    resumed = start("--resume", steps=600)
    resumed.reach(done + 1)
    assert "report.json" not in check_run(resumed.run), "what the interrupted run came to is not what this one is"
    assert resumed.end(0)["report.json"]["steps"] == 600


def test_killed_and_resumed(start: Callable[..., Start]) -> None:
    run = start(steps=200, checkpoint_every=10)
    run.reach(25)
    run.process.kill()
    killed = run.end(-signal.SIGKILL)
    assert "report.json" not in killed and killed["checkpoints"]
    assert start("--resume", steps=200, checkpoint_every=10).end(0)["report.json"]["status"] == "done"


def test_core_takes_its_memory_outside_of_the_heap(tmp_path: Path) -> None:
    """With AdamW, on a virtual machine that gives less direct memory than the arena or a state takes: Android counts it as heap."""
    limit = 20_480
    planned = check_run(CASES / "runs" / "llama-adamw" / "host")["run.json"]["planned_bytes"]
    assert planned["block_inputs"] + planned["other_buffers"] > limit and planned["adamw.m"] > limit
    java, *more = core().command
    trainer = replace(core(), command=[java, f"-XX:MaxDirectMemorySize={limit}", *more])
    settings = {"data": str(DATA), "optimizer": "adamw", "steps": 2}
    assert Start(trainer, tmp_path / "run", BUNDLE, settings).end(0)["report.json"]["status"] == "done"


def test_a_second_process_in_a_run_is_refused(tmp_path: Path) -> None:
    settings = {"data": str(DATA), **SGD, "steps": 5000}
    first = Start(core(), tmp_path / "run", BUNDLE, settings)
    first.reach(1)
    Start(core(), tmp_path / "run", BUNDLE, settings, "--resume").end(2)
    first.process.send_signal(signal.SIGTERM)
    assert first.end(128 + signal.SIGTERM)["report.json"]["status"] == "interrupted"


def test_a_run_that_was_frozen_reports_its_gap(tmp_path: Path) -> None:
    """As Android freezes a process: what was sampled before and after is not lost."""
    run = Start(core(), tmp_path / "run", BUNDLE, {"data": str(DATA), **SGD, "steps": 300})
    run.reach(1)
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    run.process.send_signal(signal.SIGCONT)
    memory = run.end(0)["report.json"]["memory"]
    assert memory["longest_gap_seconds"] > 1 and memory["delta_footprint_bytes"] > 0


def test_cores_run_that_diverges(tmp_path: Path) -> None:
    settings = {"data": str(DATA), "optimizer": "sgd", "lr": 1e20, "steps": 9}
    report = Start(core(), tmp_path / "run", BUNDLE, settings).end(1)["report.json"]
    assert report["status"] == "failed" and report["reason"].startswith("Step 2: the loss is ")


def test_the_stand_ins_run_that_diverges(tmp_path: Path) -> None:
    settings = {"data": str(DATA), "steps": 9}
    report = Start(fake(0.005, 1, fail_at=2), tmp_path / "run", BUNDLE, settings).end(1)["report.json"]
    assert report["status"] == "failed" and report["reason"].startswith("Step 2: the loss is ")


def test_cores_run_on_a_full_storage(tmp_path: Path) -> None:
    """A file may not grow beyond this size: the log of memory samples is the first that wants to."""
    run = Start(core(), tmp_path / "run", BUNDLE, {"data": str(DATA), **SGD, "steps": 2000})
    run.reach(1)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    report = run.end(1)["report.json"]
    assert report["status"] == "failed" and "Could not write" in report["reason"]


def test_the_stand_in_has_the_settings_of_python(tmp_path: Path) -> None:
    assert all_settings({"data": "rows.jsonl"}) == TrainSettings(data=Path("rows.jsonl")).to_json()


def test_the_apps_events_are_those_of_the_contract() -> None:
    """By the names in its sources: what is in each event, its own tests show."""
    sources = (ANDROID / "app" / "src" / "main").rglob("*.kt")
    calls = [call for file in sources for call in re.findall(r"Logcat\.(?:event|error)\(([^,]*),", file.read_text())]
    names = {name for call in calls for name in re.findall(r'"(\w+)"', call)}
    assert names == EVENTS


def test_the_harness_and_the_stand_in_know_the_names_of_the_contract() -> None:
    shown = {name.removeprefix("_show_") for name in vars(Progress) if name.startswith("_show_")}
    assert shown and shown < EVENTS
    assert set(REASONS) == set(PAUSES) == set(schema("names")["$defs"]["pause"]["enum"])
