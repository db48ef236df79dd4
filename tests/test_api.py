"""The Python API as the README shows it, and what listens to a run."""

import inspect
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import mesp.export.bundle.export
import mesp.runtime
from mesp.command_line.parser import main
from mesp.runtime.training.interrupt import Interrupt

from .test_merge import save_tokenizer
from .test_train import write_rows

README = Path(__file__).parent.parent / "README.md"


def test_the_readmes_example_runs(qwen2_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, but for the export itself, whose arguments are checked and whose result is a bundle that is there already."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    original = mesp.export.bundle.export.export_bundle

    def export_bundle(*arguments: Any, **named: Any) -> None:
        bound = inspect.signature(original).bind(*arguments, **named)
        shutil.copytree(qwen2_fp32, bound.arguments["output"])
        save_tokenizer(bound.arguments["output"] / "tokenizer")

    monkeypatch.setattr(mesp.export.bundle.export, "export_bundle", export_bundle)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 9)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    report = namespace["report"]
    assert report["status"] == "done" and report["memory"]["delta_footprint_bytes"] > 0
    assert (tmp_path / "run" / "report.html").exists()


def test_everything_that_the_package_names_is_there() -> None:
    assert {name: getattr(mesp.runtime, name).__name__ for name in mesp.runtime.__all__} == {
        name: name for name in mesp.runtime.__all__
    }
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        mesp.runtime.fit  # noqa: B018


def test_tensorboard_has_every_step_once_after_a_run_was_resumed(
    qwen2_fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_rows(tmp_path / "rows.jsonl", 8)
    run = tmp_path / "run"
    command = ["train", str(qwen2_fp32), "--data", str(tmp_path / "rows.jsonl"), "-o", str(run), "--tensorboard"]
    command += ["--eval-split", "0.25", "--steps", "9", "--eval-every", "4", "--checkpoint-every", "3"]
    assert main(command) == 0
    shutil.rmtree(run / "checkpoints" / "step-9")  # as if it had been killed after step 8
    (run / "report.json").unlink()
    assert main([*command, "--resume"]) == 0
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 10))
    assert [event.step for event in events.Scalars("eval/loss")] == [0, 4, 8, 9]
    assert "held-out loss after step 8" in capsys.readouterr().out


def test_two_runs_are_compared_from_the_command_line(
    qwen2_fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "rows.jsonl", 4)
    for name, optimizer in (("one", "sgd"), ("two", "adamw")):
        options = ["--data", str(tmp_path / "rows.jsonl"), "--optimizer", optimizer, "-o", str(tmp_path / name)]
        assert main(["train", str(qwen2_fp32), *options]) == 0
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["report", *runs, "-o", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text()
    assert "sgd" in page and "adamw" in page
    (tmp_path / "one" / "report.html").unlink()
    assert main(["report", runs[0]]) == 0 and (tmp_path / "one" / "report.html").exists()
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_the_first_ctrl_c_asks_and_the_second_one_stops_at_once() -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(lambda: told.append("stopping")) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop() and told == ["stopping"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
