"""The state of a run: its date is kept, its folder is one process's, and what was damaged after it was written is refused by name."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mesp.command_line.parser import main
from mesp.runtime.contract.run_files import MEMORY, RUN, STEPS
from mesp.runtime.data.dataset import load_data
from mesp.runtime.errors import UsageError
from mesp.runtime.training import loop
from mesp.runtime.training.checkpoints import _position
from mesp.runtime.training.loop import train
from mesp.runtime.training.run_writer import RunWriter
from mesp.runtime.training.settings import TrainSettings

WHOLE: dict[str, Any] = {
    "settings": {"steps": 1},
    "bundle": {"sha256": {}},
    "data": {},
    "eval_data": None,
    "adapter_sha256": None,
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n')
    return path


def test_a_resumed_run_has_the_date_of_its_start(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data is compared by its tokens, and a chat template may write the date."""
    dates: list[datetime] = []

    def watched(*args: Any, **options: Any) -> Any:
        dates.append(options["now"])
        return load_data(*args, **options)

    monkeypatch.setattr(loop, "load_data", watched)
    settings = TrainSettings(rows, steps=2)
    assert train(qwen2_fp32, tmp_path / "run", settings, stop=lambda: True)["status"] == "interrupted"
    run = json.loads((tmp_path / "run" / RUN).read_text())
    assert abs((datetime.now() - dates[0]).total_seconds()) < 60
    yesterday = "2020-02-29T23:59:59"
    (tmp_path / "run" / RUN).write_text(json.dumps({**run, "started": yesterday}))
    assert run["started"] == dates[0].isoformat()
    assert train(qwen2_fp32, tmp_path / "run", settings, resume=True)["status"] == "done"
    assert dates[1].isoformat() == yesterday


def test_a_folder_is_one_process_s_at_a_time(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = TrainSettings(rows, steps=1).to_json()
    with RunWriter.create(run, {**WHOLE, "settings": settings, "bundle": {"path": str(qwen2_fp32), "sha256": {}}}):
        with pytest.raises(UsageError, match="Another process is training in .*run. Wait for it or end it"):
            RunWriter.check_resumable(run)
        arguments = ["train", str(qwen2_fp32), "-o", str(run), "--data", str(rows)]
        assert main([*arguments, "--resume"]) == 2
        assert "Another process is training in" in capsys.readouterr().err
        assert main(arguments) == 2
    RunWriter.check_resumable(run)  # twice: looking leaves it free
    with RunWriter.reopen(run):
        pass
    with pytest.raises(UsageError, match="exists already"):
        RunWriter.create(run, WHOLE)


def test_of_two_that_begin_at_once_the_second_is_refused(tmp_path: Path) -> None:
    """The folder is there before run.json is."""
    run = tmp_path / "run"
    run.mkdir()
    first = RunWriter(run)
    first._lock()
    with pytest.raises(UsageError, match="Another process is training"):
        RunWriter.create(run, WHOLE)
    with first:
        pass
    with RunWriter.create(run, WHOLE):
        assert (run / RUN).is_file()


DAMAGES: dict[str, Any] = {
    "no JSON": "{",
    "no object": [],
    "empty": {},
    "no settings": {**WHOLE, "settings": None},
    "no steps": {**WHOLE, "settings": {}},
    "no hashes": {**WHOLE, "bundle": []},
    "no bundle": {**WHOLE, "bundle": {}},
    "a part missing": {name: value for name, value in WHOLE.items() if name != "data"},
    "no date": {**WHOLE, "started": "yesterday"},
    "a number for a date": {**WHOLE, "started": 5},
}


@pytest.mark.parametrize("contents", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_json_is_refused(tmp_path: Path, contents: Any) -> None:
    (tmp_path / RUN).write_text(contents if isinstance(contents, str) else json.dumps(contents))
    with pytest.raises(UsageError, match="run.json is damaged"):
        RunWriter.check_resumable(tmp_path)


@pytest.mark.parametrize("line", ["{", "5", "[" * 5000])
def test_a_damaged_log_is_refused(tmp_path: Path, line: str) -> None:
    for name in (STEPS, MEMORY):
        (tmp_path / name).write_text('{"step": 1}\n' + line + "\n")
        with pytest.raises(UsageError, match=f"{name} is damaged"):
            RunWriter(tmp_path).lines(name)
        with pytest.raises(UsageError, match=f"{name} is damaged"):
            RunWriter(tmp_path).last_line(name)


def test_the_last_line_of_a_log_is_read_without_the_others(tmp_path: Path) -> None:
    log = tmp_path / MEMORY
    log.write_text("")
    assert RunWriter(tmp_path).last_line(MEMORY) is None
    log.write_text('{"seconds": 1.5}\n')
    assert RunWriter(tmp_path).last_line(MEMORY) == {"seconds": 1.5}
    log.write_bytes(b"\xff damaged\n" * 100_000 + b'{"seconds": 2.5}\n')
    assert RunWriter(tmp_path).last_line(MEMORY) == {"seconds": 2.5}


POSITION: dict[str, Any] = {
    "step": 3,
    "evaluated_step": -1,
    "best_step": None,
    "best_loss": None,
    "worse": 0,
    "log_bytes": {},
}


@pytest.mark.parametrize(
    "change",
    [
        {"step": "3"},
        {"step": -2},
        {"worse": None},
        {"log_bytes": None},
        {"log_bytes": {STEPS: "5"}},
        {"best_step": 2},
        {"best_loss": "low"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_position_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    assert _position(POSITION).step == 3
    with pytest.raises((TypeError, ValueError)):
        _position({**POSITION, **change})


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    refused: tuple[Callable[[Path], Any], ...] = (RunWriter.check_free, RunWriter.check_resumable)
    for check in refused:
        with pytest.raises(UsageError):
            check(tmp_path / "run")
