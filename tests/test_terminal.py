"""A run at a terminal, and without one: Ctrl-C, a stopped process, a pipe that nobody reads, a terminal that goes away."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesp.runtime.training.checkpoints import checkpoints

from .test_train import write_rows

MANY = ("--steps", "100000", "--checkpoint-every", "0")


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def begun(run: Path) -> bool:
    """Whether a step is on the log."""
    return (run / "steps.jsonl").exists() and "\n" in (run / "steps.jsonl").read_text()


class Terminal:
    """A pseudo-terminal with a command as its foreground process group."""

    def __init__(self, command: list[str], **environment: str):
        self.pid, self.place = pty.fork()
        if not self.pid:
            os.execve(command[0], command, {**os.environ, "COLUMNS": "100", **environment})

    def type(self, keys: bytes) -> None:
        os.write(self.place, keys)

    def read(self) -> str:
        """What it shows until its end."""
        shown = b""
        while True:
            try:
                shown += os.read(self.place, 65536)
            except OSError:  # the last process has closed it
                return shown.decode("latin-1")

    def end(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def command(bundle: Path, run: Path, rows: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "mesp.command_line",
        "train",
        str(bundle),
        "--data",
        str(rows),
        "-o",
        str(run),
        *options,
    ]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", 5)
    return tmp_path / "rows.jsonl"


def kept(run: Path) -> dict[str, Any]:
    """The report of an interrupted run, whose last step is a checkpoint."""
    report: dict[str, Any] = json.loads((run / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert list(checkpoints(run / "checkpoints")) == [report["steps"]]
    return report


def test_ctrl_c_in_a_terminal_says_a_line_keeps_a_checkpoint_and_shows_no_traceback(
    qwen2_fp32: Path, rows: Path, tmp_path: Path
) -> None:
    """Before that the run is stopped for a moment, as by Ctrl-Z. The terminal knows Latin-1 alone, and the run's name is Chinese."""
    run = tmp_path / "跑"
    terminal = Terminal(command(qwen2_fp32, run, rows, *MANY), PYTHONIOENCODING="latin-1")
    wait_for(lambda: begun(run))
    os.killpg(terminal.pid, signal.SIGSTOP)
    time.sleep(0.2)
    os.killpg(terminal.pid, signal.SIGCONT)
    terminal.type(b"\x03")
    shown = terminal.read()
    assert terminal.end() == 130
    assert "Traceback" not in shown and "KeyboardInterrupt" not in shown
    assert "Stopping after this step" in shown
    report = kept(run)
    assert "delta_footprint_bytes" in report["memory"]
    last = shown.splitlines()[-1]
    assert f"Interrupted after step {report['steps']}. Go on with: mesp train --resume " in last and "\\u8dd1" in last


def test_a_pipe_that_nobody_reads_ends_the_run_as_ctrl_c_does(qwen2_fp32: Path, rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(qwen2_fp32, run, rows, *MANY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    assert "100000 steps" in process.stdout.readline()
    process.stdout.close()  # as head -1 does
    told = process.stderr.read()
    assert process.wait(60) == 130
    step = kept(run)["steps"]
    assert told == (
        f"mesp train: nobody reads its output any more. Interrupted after step {step}. Go on with: mesp train --resume {run}\n"
    )


def test_a_lost_terminal_ends_the_run_as_ctrl_c_does(qwen2_fp32: Path, rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    terminal = Terminal(command(qwen2_fp32, run, rows, *MANY))
    wait_for(lambda: begun(run))
    os.close(terminal.place)
    assert terminal.end() == 130
    kept(run)


def test_a_pipe_that_nobody_reads_is_no_error_of_other_commands(qwen2_fp32: Path) -> None:
    line = [sys.executable, "-m", "mesp.command_line", "inspect", str(qwen2_fp32)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 0)
