"""A process run to its end: what it wrote, its time, its peak memory."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesp.runtime.errors import MespError


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Args:
        peak_rss_bytes: wait4's ru_maxrss: the largest resident size, clean pages too, of the process or of a child that it waited for.
            It is not their sum.
    """

    seconds: float
    peak_rss_bytes: int


class ProcessFailed(MespError):
    """A process ended with another status than 0. The message has the last line of its standard error."""

    def __init__(self, name: str, status: int, errors: str):
        if status < 0:
            signal_name = signal.Signals(-status).name
            why = f"was ended by {signal_name}" + (": was memory short?" if signal_name == "SIGKILL" else "")
        else:
            last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing").strip()
            why = f"ended with status {status}: {last}"
        super().__init__(f"{name} {why}")
        self.status = status


def run(command: Sequence[str], log: Path) -> tuple[Usage, str]:
    """Runs ``python -m MODULE …`` and returns what it took and what it wrote. If this is interrupted, so is the process.

    Args:
        log: the process's standard error is appended to it

    Raises:
        ProcessFailed: its status is not 0.
    """
    start = time.monotonic()
    with open(log, "a+", encoding="utf-8") as errors, tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        begin = errors.seek(0, os.SEEK_END)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process)
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(begin)
            raise ProcessFailed(" ".join(("python", *command[1:3])), process.returncode, errors.read())
        output.seek(0)
        return Usage(time.monotonic() - start, usage.ru_maxrss * 1024), output.read()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends it as Ctrl-C does: it ends its own children and removes what it has half written."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
