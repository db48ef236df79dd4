"""The Python API as the README shows it, and what listens to a run."""

import inspect
import re
import shutil
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import mesp
from mesp.command_line.parser import main
from mesp.export import api as export_api
from mesp.export.bundle import export as export_module
from mesp.runtime.training.interrupt import Interrupt

from .test_merge import save_tokenizer
from .test_train import write_rows

README = Path(__file__).parent.parent / "README.md"


def test_the_readmes_example_runs(qwen2_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, but for the export itself, whose arguments are checked and whose result is a bundle that is there already."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    original = export_module.export_bundle

    def export_bundle(*arguments: Any, **named: Any) -> None:
        bound = inspect.signature(original).bind(*arguments, **named)
        assert bound.arguments["settings"] == mesp.ExportSettings(seq_len=(64, 256))
        shutil.copytree(qwen2_fp32, bound.arguments["output"])
        save_tokenizer(bound.arguments["output"] / "tokenizer")

    monkeypatch.setattr(export_module, "export_bundle", export_bundle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_api, "find_checkpoint", lambda *_: None)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 9)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    run: mesp.Run = namespace["run"]
    assert run == mesp.open_run("run") and run.status == "done" and run.steps == 20
    assert run.memory and run.memory.delta_footprint_bytes > 0 and run.adapter == Path("run/adapter")
    assert run.page.exists() and mesp.report("run") == run.page
    assert mesp.train(output="run", resume=True, steps=21).steps == 21


def test_everything_that_the_package_names_is_there() -> None:
    assert dir(mesp) == sorted(mesp.__all__)
    assert all(getattr(mesp, name) for name in mesp.__all__)
    assert callable(mesp.export) and mesp.__version__ == version("mesp")
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        mesp.fit  # noqa: B018


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a number as text": (lambda: mesp.ExportSettings(rank="8"), "rank '8' must be a whole number"),  # type: ignore[arg-type]
    "a setting of export": (
        lambda: mesp.export("x", "new", rnak=3),
        "mesp.export: rnak is no setting. Did you mean rank?",
    ),
    "a type of export": (lambda: mesp.export("x", "new", rank="8"), "rank '8' must be a whole number"),
    "several for one": (lambda: mesp.export("x", "new", rank=[8]), r"rank \[8\] must be a whole number"),
    "a checkpoint": (lambda: mesp.export("absent", "new", seq_len=64), "There is no checkpoint at absent"),
    "a setting of train": (
        lambda: mesp.train("absent", "new", data="x", step=3),
        "step is no setting. Did you mean steps?",
    ),
    "a type of train": (lambda: mesp.train("absent", "new", data="x", steps="3"), "--steps 3 must be at least 1"),
    "no data": (lambda: mesp.train("absent", "new"), "Give the rows to train on"),
    "no bundle": (lambda: mesp.train(data="x"), "needs a bundle"),
    "a run": (lambda: mesp.open_run("absent"), "is not a run folder"),
    "an option": (lambda: mesp.generate("absent", "hi", top=1), "top is no setting. Did you mean top_p?"),
    "an adapter": (lambda: mesp.merge("absent", "absent", "new"), "is not a PEFT adapter"),
    "a plan": (lambda: mesp.plan("absent", optimizer="lion"), "--optimizer lion must be sgd or adamw"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_a_usage_error(call: Callable[[], object], message: str) -> None:
    with pytest.raises(mesp.UsageError, match=message):
        call()


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
