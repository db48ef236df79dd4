"""A process run to its end: what it wrote, its time, its peak memory."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesp.runtime.errors import MespError

# The command of this same installation.
MESP = (sys.executable, "-c", "import sys; from mesp.command_line.parser import main; sys.exit(main())")


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Args:
        peak_rss_bytes: wait4's ru_maxrss, resident memory with clean pages: the largest of the process and of the children that it
            waited for, not their sum
    """

    seconds: float
    peak_rss_bytes: int


class ProcessFailed(MespError):
    """A process ended with another status than 0. The message is the last line of its standard error."""

    def __init__(self, command: str, status: int, errors: str):
        if status < 0:
            name = signal.Signals(-status).name
            why = f"was ended by {name}" + (": was memory short?" if name == "SIGKILL" else "")
        else:
            last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing").strip()
            why = f"ended with status {status}: {last}"
        super().__init__(f"{command} {why}")
        self.status = status


def run(command: Sequence[str], log: Path) -> tuple[Usage, str]:
    """Runs a process and returns what it took and what it wrote. If this is interrupted, so is the process.

    Args:
        log: the process's standard error is appended to it

    Raises:
        ProcessFailed: its status is not 0.
    """
    start = time.monotonic()
    with open(log, "a+") as errors, tempfile.TemporaryFile("w+") as output:
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
            raise ProcessFailed(_title(command), process.returncode, errors.read())
        output.seek(0)
        return Usage(time.monotonic() - start, usage.ru_maxrss * 1024), output.read()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C does it, so that it ends its own children and removes what it has half written."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _title(command: Sequence[str]) -> str:
    """The command in two words: mesp export, or python -m's module."""
    if tuple(command[: len(MESP)]) == MESP:
        return f"mesp {command[len(MESP)]}"
    return " ".join(("python", *command[1:3]))
