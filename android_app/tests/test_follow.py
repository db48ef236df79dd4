"""Whatever the phone's shell refuses while a run is followed, and whenever: it ends with a sentence, and what is known is kept."""

import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from mesp.device import follow
from mesp.device.adb import Adb, Device, Disconnected, ShellFailed
from mesp.device.follow import Beginning, follow_and_fetch
from mesp.device.reading import Unreadable
from mesp.device.run_files import RunFiles, in_foreground
from mesp.runtime.errors import MespError

START = '1.000 77 77 I mesp    : {"event":"start","run":"first"}\n'
STEP = {"step": 1, "loss": 2.0, "lr": 0.1, "grad_norm": 1.0, "tokens": 9, "seconds": 0.1, "peak_footprint_bytes": 9}
ANSWERS = {
    "properties": "[ro.build.version.sdk]: [34]\n",
    "pid": "77\n",
    "service": "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n  isForeground=true foregroundId=1\n",
    "run": '{"settings": {"steps": 3}, "data": {"examples": 3}}',
    "steps": "0 999\n" + json.dumps(STEP) + "\n" + '{"step": 2, "half of a li',
    "evaluations": "0 0\n",
    "time": "12.5\n",
    "status": "VmRSS:\t9 kB\nRssAnon:\t9 kB\nRssShmem:\t0 kB\nVmSwap:\t0 kB\n",
    "meminfo": "MemTotal: 99 kB\nMemAvailable: 9 kB\n",
    "exits": "ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n",
}
Failure = Callable[[str], str]


class Phone(Device):
    """A device that answers from a table, and fails at one call: of a run that is done after some looks; its log says that it started."""

    def __init__(self, failure: Failure, at: int, log: str = START):
        super().__init__(Adb("true"), "phone", patience_seconds=0.1)
        self._failure, self._at, self._log = failure, at, log
        self.calls = self.looks = 0

    def shell(self, script: str, seconds: float = 60) -> str:
        if script == "true":
            return ""
        return self._answer(
            script, {"find": "./run.json\n", "for f": "0" * 64 + "\n"}.get(script.split("&& ")[-1][:4], "")
        )

    def sections(self, commands: Mapping[str, str], seconds: float = 60) -> dict[str, str]:
        self.looks += "report" in commands
        answers = ANSWERS | ({"report": '{"status": "done"}'} if self.looks > 2 else {})
        return {
            name: self._answer(text, answers.get(name, ""))
            if name in ("pid", "run", "steps", "exits")
            else answers.get(name, "")
            for name, text in commands.items()
        }

    def follow(self, script: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(["printf", "%s", self._log], stdout=subprocess.PIPE, text=True)

    def pull(self, source: str, file: Path, seconds: float = 600) -> None:
        file.write_text(self._answer(source, '{"settings": {}}'))

    def _answer(self, command: str, answer: str) -> str:
        self.calls += 1
        return self._failure(command) if self.calls == self._at else answer


def refused(command: str) -> str:
    raise ShellFailed("phone", command, 1, "Permission denied")


def lost(command: str) -> str:
    raise Disconnected("phone is not connected any more.")


def unreadable(command: str) -> str:
    raise Unreadable(command, "?", "something else")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_SECONDS", "START_SECONDS", "QUIET_SECONDS", "LOOK_SECONDS", "LAST_WORDS_SECONDS"):
        monkeypatch.setattr(follow, name, 0.01)
    monkeypatch.setattr("mesp.device.logcat._AT_ONCE_SECONDS", 0.01)


@pytest.mark.parametrize(
    "failure", [refused, lost, unreadable, lambda command: "", lambda command: "Permission denied\n7 x"]
)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 9, 11])
@pytest.mark.usefixtures("quick")
def test_what_the_shell_refuses_ends_as_a_sentence(tmp_path: Path, failure: Failure, at: int) -> None:
    phone, folder = Phone(failure, at), tmp_path / "first"
    end = None
    with suppress(MespError):
        end = follow_and_fetch(phone, "first", folder, Beginning(1, 1, in_log=True), 0, {}, Console(quiet=True))
    assert end is None or end.status in ("done", "killed")
    assert phone.calls >= at or at > 9
    assert json.loads((folder / "device.json").read_text())["run"] == "first"


def test_lines_are_read_once_and_whole() -> None:
    files = RunFiles(Phone(refused, 0), "first")
    assert [name for name, _ in files.look().events] == ["begin", "step"]
    place = len(json.dumps(STEP)) + 1
    assert f"P={place};" in files._commands()["steps"]
    assert [event for _, event in files._lines("step", f"{place} 999\n", "steps.jsonl")] == []
    assert files._lines("step", f'{place + 5000} 9999\n"cut": 1}}\n{{"step": 70}}\n', "steps.jsonl") == [
        ("step", {"step": 70})
    ]


def test_a_run_of_another_version_is_not_understood() -> None:
    with pytest.raises(Unreadable, match="the steps of the settings"):
        RunFiles(Phone(lambda command: '{"settings": {}}', 2), "first").look()


def test_what_android_says_of_a_service() -> None:
    assert in_foreground(ANSWERS["service"]) is True
    assert in_foreground("ACTIVITY MANAGER SERVICES (dumpsys activity services)\n  (nothing)\n") is False
    assert in_foreground("Permission Denial: can't dump ActivityManager") is None
