"""A run as its files and Android's list of services tell it: what can be known of one whose lines in the log are lost, or were never written.

A phone keeps 256 KiB of its log, which an hour's steps fill; some vendors keep an app's lines out of it altogether. The run's folder has all
that matters: run.json, a line in steps.jsonl for each step, and in the end report.json. Of pauses alone it says nothing.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from mesp.runtime.contract.run_files import CHECKPOINTS, EVALUATIONS, REPORT, RUN, STEPS
from mesp.runtime.errors import UsageError

from . import app
from .adb import Device
from .reading import Unreadable
from .verdict import End

# Of a log's end, what is looked at the first time: a run may have tens of thousands of steps behind it.
_TAIL_BYTES = 16384
# Sizes first, so that what is written meanwhile is found the next time.
_NEW = (
    "S=$(stat -c %s {file} 2>/dev/null || echo 0); P={place}; [ $S -lt $P ] && P=0; [ $((S-P)) -gt {most} ] && P=$((S-{most})); "
    'echo "$P $S"; [ $S -gt $P ] && tail -c +$((P+1)) {file} | head -c $((S-P))'
)
Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Look:
    """What was found.

    Args:
        pid: of the app's process, None when it does not run
        training: whether the app's service is in the foreground, as it is while any run is under way; None where Android does not say
        there: whether the run has a folder
        events: what is new in the folder, as the app would tell it
        end: what report.json says, if it is there
    """

    pid: int | None
    training: bool | None
    there: bool
    events: list[Event]
    end: End | None

    @property
    def over(self) -> bool:
        """Whether nothing trains any more. The process may be there for the app's screen alone."""
        return self.pid is None if self.training is None else not self.training


@dataclass
class RunFiles:
    """Reads a run's folder again and again; what was told once is not told again.

    Args:
        since: seconds by the phone's clock; a report that was written before is of an earlier start
    """

    device: Device
    run: str
    since: float = 0
    _begun: bool = False
    _places: dict[str, int] = field(default_factory=dict)
    _checkpoints: set[str] | None = None

    def look(self) -> Look:
        """Asks the phone, in one call.

        Raises:
            Disconnected: the phone was lost.
            Unreadable, ShellFailed: it answers something else.
        """
        output = self.device.sections(self._commands(), seconds=30)
        report, begun = _object(output["report"]), self._begun
        events = [*self._begin(output["run"]), *self._lines("step", output["steps"], STEPS)]
        events += [*self._lines("evaluation", output["evaluations"], EVALUATIONS), *self._new_checkpoints(output)]
        end = End(str(report.get("status")), str(report.get("reason", ""))) if report else None
        return Look(
            pid=_pid(output["pid"]),
            training=in_foreground(output["service"]),
            there=begun or self._begun or bool(report),
            events=events,
            end=end,
        )

    def _commands(self) -> dict[str, str]:
        folder = f"{app.RUNS}/{self.run}"

        def at(name: str) -> str:
            return shlex.quote(f"{folder}/{name}")

        def new(name: str) -> str:
            return _NEW.format(file=at(name), place=self._places.get(name, 0), most=_TAIL_BYTES)

        fresh = f'[ "$(stat -c %Y {at(REPORT)} 2>/dev/null || echo 0)" -ge {int(self.since)} ]'
        return {
            "pid": f"pidof {app.PACKAGE}",
            "service": f"dumpsys activity services {app.SERVICE}",
            "run": "true" if self._begun else f"cat {at(RUN)} 2>/dev/null",
            "steps": new(STEPS),
            "evaluations": new(EVALUATIONS),
            "checkpoints": f"ls -1 {at(CHECKPOINTS)} 2>/dev/null",
            "report": f"{fresh} && cat {at(REPORT)} 2>/dev/null",  # last: what stands in it was written before
        }

    def _begin(self, text: str) -> list[Event]:
        run = {} if self._begun else _object(text)
        if not run:
            return []
        self._begun = True
        try:
            return [("begin", {"first": 0, "steps": run["settings"]["steps"], "examples": run["data"]["examples"]})]
        except (KeyError, TypeError) as error:
            raise Unreadable(f"cat {RUN}", text, "the steps of the settings, and the examples of the data") from error

    def _lines(self, name: str, text: str, file: str) -> list[Event]:
        """The whole lines after a head that says from where to where they are."""
        head, _, rest = text.partition("\n")
        found = re.fullmatch(r"(\d+) (\d+)", head.strip())
        if not found:
            raise Unreadable(f"tail {file}", text, "the place in it, and its size")
        first, whole = int(found[1]), rest.rpartition("\n")[0]
        cut = first > self._places.get(file, 0)  # into the middle of a line
        self._places[file] = first + len(whole.encode()) + bool(whole)
        return [(name, line) for raw in whole.split("\n")[1 if cut else 0 :] if (line := _object(raw))]

    def _new_checkpoints(self, output: Mapping[str, str]) -> list[Event]:
        names = {name for name in output["checkpoints"].split() if re.fullmatch(r"step-\d+", name)}
        before, self._checkpoints = self._checkpoints, names
        new = [] if before is None else sorted(names - before)
        return [("checkpoint", {"folder": str(PurePosixPath(CHECKPOINTS, name))}) for name in new]


def _object(text: str) -> dict[str, Any]:
    """A JSON object; nothing for what is none, such as a file that is just being written, or the shell's own words."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _pid(text: str) -> int | None:
    words = text.split()
    return int(words[0]) if words and words[0].isdecimal() else None


def in_foreground(text: str) -> bool | None:
    """Of `dumpsys activity services NAME`: whether the service runs in the foreground. None where that is not what it says."""
    if "ACTIVITY MANAGER SERVICES" not in text:
        return None
    return re.search(r"\bisForeground=true\b", text) is not None


def runs(device: Device) -> list[str]:
    """The names of the runs on a phone, the one first that was last written to."""
    script = f"cd {app.RUNS} 2>/dev/null && ls -1td -- */run.json */steps.jsonl */report.json 2>/dev/null || true"
    lines = device.patiently(lambda: device.shell(script)).splitlines()
    return list(dict.fromkeys(line.partition("/")[0] for line in lines if "/" in line))


def need_run(device: Device, run: str) -> str:
    """The name of a run that is there.

    Raises:
        UsageError: it is not.
    """
    found = runs(device)
    if app.check_name(run, "The run") not in found:
        raise UsageError(f"{device.serial} has no run {run}; it has {', '.join(found) or 'none'}.")
    return run
