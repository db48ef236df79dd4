"""What a phone knows, in one file: the shell's commands are processes, and the test sets the phone from another one."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "org.mesp.app"
START: dict[str, Any] = {
    "properties": {},  # that differ from the profile's
    "overrides": {},  # a command line: [its output, its exit status]
    "files": {},  # a profile's file: other text
    "skew": 0.0,  # seconds by which the phone's clock is ahead of this machine's
    "debuggable": False,
    "silent": False,  # the log takes nothing of the app's
    "installed": None,  # {"sha256": of the APK, "size": its bytes}
    "install_failure": None,
    "free": None,  # bytes that the storage still takes; None for what this machine has
    "hot": False,
    "plugged": True,
    "trainer": [],
    "trainer_environment": {},
    "app": None,  # of a run under way: {"pid", "run", "only_while_charging", "pauses", "waiting", "stopping"}
    "ending": None,  # why the app's process is about to end: an exit's fields
    "exits": [],  # newest first
}


class State:
    """The state of the phone in ``root``, whose folders are the phone's own, under ``sdcard``, ``data``, ``sys`` and ``proc``."""

    def __init__(self, root: Path):
        self.root = root
        self._file, self._lock = root / "state" / "state.json", root / "state" / "lock"

    @staticmethod
    def create(root: Path, profile: Path, **values: Any) -> "State":
        """Makes the folders of a new phone."""
        for folder in (
            "state",
            "bin",
            "sdcard/Android/data",
            "data/local/tmp",
            "data/data",
            "data/tombstones",
            "sys",
            "proc",
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
        state = State(root)
        state._file.write_text(json.dumps(START))
        with state.change() as now:
            now.update(values, profile=str(profile))
        return state

    def read(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._file.read_text())
        return value

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Yields the state to be changed; no other process changes it meanwhile."""
        with open(self._lock, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            now = self.read()
            yield now
            new = self._file.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(now))
            new.rename(self._file)

    def set(self, **values: Any) -> None:
        with self.change() as now:
            now.update(values)

    def text(self, name: str) -> str:
        """A file of the profile, or what the test set in its place."""
        now = self.read()
        file = Path(now["profile"]) / f"{name}.txt"
        text: str = now["files"].get(name) or (file.read_text() if file.exists() else "")
        return text

    def properties(self) -> dict[str, str]:
        """As getprop lists them."""
        found = {}
        for line in self.text("getprop").splitlines():
            if line.startswith("[") and "]: [" in line:
                name, _, value = line.strip()[1:-1].partition("]: [")
                found[name] = value
        return {**found, **self.read()["properties"]}

    def take_storage(self, nbytes: int) -> int:
        """How many of the bytes the storage takes."""
        with self.change() as now:
            if now["free"] is None:
                return nbytes
            taken: int = min(nbytes, now["free"])
            now["free"] -= taken
            return taken

    # --- Places -------------------------------------------------------------------------------------------------------

    @property
    def external(self) -> Path:
        """The app's external files, where adb's shell reads and writes."""
        return self.root / "sdcard" / "Android" / "data" / PACKAGE / "files"

    @property
    def internal(self) -> Path:
        """The app's own storage."""
        return self.root / "data" / "data" / PACKAGE / "files"
