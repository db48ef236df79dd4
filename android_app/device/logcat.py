"""The app's lines in the phone's log, followed; through lost connections too, from the last line on."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mesp.runtime.errors import MespError

from .adb import Device, Disconnected
from .app import TAG

# The runtime's last words on an exception that nothing caught, and debuggerd's and libc's on a signal; of every process, the app's too.
_CRASHES = "AndroidRuntime:E DEBUG:E libc:F"
# A log that ends at once, so often in a row, is not to be had.
_AT_ONCE_SECONDS, _AT_ONCE_TIMES = 1.0, 3
# 1732650000.123  4321  4345 I mesp    : text, by -v epoch
_LINE = re.compile(r"\s*(\d+\.\d+)\s+(\d+)\s+(\d+)\s+([VDIWEF])\s+(\S+?)\s*: (.*)")


@dataclass(frozen=True)
class Line:
    """A line of the log.

    Args:
        seconds: by the phone's clock, since 1970
        event: what the app tells; None for a line that is not the app's, such as one of a stack
    """

    raw: str
    seconds: float
    pid: int
    tag: str
    text: str
    event: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The event's name, empty for none."""
        return str(self.event.get("event", "")) if self.event else ""


def parse(raw: str) -> Line | None:
    """A line of ``logcat -v epoch``; None for its headings."""
    found = _LINE.fullmatch(raw.rstrip("\n"))
    if not found:
        return None
    seconds, pid, _, _, tag, text = found.groups()
    event = None
    if tag == TAG and text.startswith("{"):
        try:
            event = json.loads(text)
        except ValueError:
            event = None  # cut by the log's own limit
    return Line(found[0], float(seconds), int(pid), tag, text, event)


class Logcat:
    """Reads the log from a time on. Iterate it in a thread of its own; it ends by ``close``, or raises Disconnected."""

    def __init__(self, device: Device, since: float):
        self._device, self._since = device, since
        self._recent: set[str] = (
            set()
        )  # the lines of the last second, which the log tells again after a lost connection
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._message = ""  # the last line that is not of the log's form, such as an error

    def __iter__(self) -> Iterator[Line]:
        at_once = 0
        while not self._closed:
            began = time.monotonic()
            yield from self._connection()
            if self._closed:
                return
            at_once = at_once + 1 if time.monotonic() - began < _AT_ONCE_SECONDS else 0
            if at_once == _AT_ONCE_TIMES:
                raise MespError(
                    f"The log of {self._device.serial} cannot be followed. logcat said: {self._message.strip() or 'nothing'}"
                )
            self._device.reconnect(Disconnected(f"The log of {self._device.serial} broke off."))
            if at_once:
                time.sleep(_AT_ONCE_SECONDS)

    def _connection(self) -> Iterator[Line]:
        script = f"logcat -b main,crash -v epoch -T {self._since:.3f} -s {TAG}:V {_CRASHES}"
        self._process, self._message = self._device.follow(script), ""
        assert self._process.stdout
        for raw in self._process.stdout:
            line = parse(raw)
            if line is None:
                self._message = raw
            elif line.raw not in self._recent:
                if line.seconds > self._since + 1:
                    self._recent.clear()
                    self._since = line.seconds
                self._recent.add(line.raw)
                yield line
        self._process.wait()

    def close(self) -> None:
        self._closed = True
        if self._process:
            self._process.kill()


def since_forever(device: Device) -> list[Line]:
    """All that the phone's log still has of the app."""
    output = device.patiently(lambda: device.shell(f"logcat -d -b main,crash -v epoch -s {TAG}:V"))
    return [line for raw in output.splitlines() if (line := parse(raw))]
