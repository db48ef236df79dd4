"""Writes the folder of a run: logs that grow by lines, and everything else complete or absent. contract/run_folder.schema.json has its fields.

    run.json          every setting, the bundle's and the data's hashes, versions: written first
    steps.jsonl       a line a step           (listener.Step)
    eval.jsonl        a line an evaluation    (listener.Evaluation)
    memory.jsonl      a line a phase's largest sample    (sampler.Sample), fewer lines of later steps (thinning)
    checkpoints/      step-N (checkpoints)
    best/             PEFT: the adapter of the best evaluation so far
    adapter/          PEFT: what the run came to
    report.json, report.html

When a run is resumed, its logs are cut to where they were at the checkpoint, so a step that is done again is not there twice.
The folder is locked while it is written to: of two processes the second is refused. The lock ends with its process, however that ends.
"""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from ..contract.run_files import CHECKPOINTS, LOGS, PAGE, REPORT, RUN, TEXTS
from ..errors import MespError, UsageError
from ..files import make_folders, write_json

_LONGEST_LINE = 1 << 16  # bytes, of a log

# Of run.json: what a resumed run must agree with.
_IDENTITY = {"settings", "bundle", "data", "eval_data", "adapter_sha256"}


def resume_command(path: Path) -> str:
    """The command that goes on with a run."""
    return f"mesp train --resume {shlex.quote(str(path))}"


def how_to_go_on(path: Path) -> str:
    """What to do when the disk is full."""
    return f"The checkpoints before are complete: free some space, and go on with: {resume_command(path)}"


class RunWriter:
    """A run folder that is written to, until the end of its ``with``."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self._logs: dict[str, TextIO] = {}
        self._open = ExitStack()
        self._locked = False

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises UsageError if there is something at the place of a new folder; what a run left that never began does not count."""
        if path.exists() and (not path.is_dir() or any(not item.name.startswith(".") for item in path.iterdir())):
            hint = f"Go on with it: {resume_command(path)}. Or choose" if (path / RUN).exists() else "Choose"
            raise UsageError(f"{path} exists already. {hint} another output, or remove it first.")

    @staticmethod
    def create(path: Path, run_json: Mapping[str, Any]) -> "RunWriter":
        """Makes the folder.

        Raises:
            UsageError: there is something at its place already.
        """
        RunWriter.check_free(path)
        make_folders(path)
        writer = RunWriter(path)
        writer._lock()
        try:
            RunWriter.check_free(path)  # another process may have been here before the lock
            write_json(path / RUN, run_json)
        except BaseException:
            writer._open.close()
            raise
        return writer

    @staticmethod
    def reopen(path: Path) -> "RunWriter":
        """Opens the folder of a run that was interrupted.

        Raises:
            UsageError: there is no run.
        """
        if not (path / RUN).is_file():
            raise UsageError(f"There is no run to resume at {path}: it has no {RUN}. Start it without --resume.")
        return RunWriter(path)

    @staticmethod
    def check_resumable(path: Path) -> None:
        """Raises UsageError if there is no run to resume, or another process goes on with it."""
        with RunWriter.reopen(path) as writer:
            writer.read_run()

    @staticmethod
    def started(path: Path) -> datetime | None:
        """When a run was started, by its machine's clock; None if it was by a version that did not say so."""
        text = RunWriter.reopen(path).read_run().get("started")
        return datetime.fromisoformat(text) if text is not None else None

    def read_run(self) -> dict[str, Any]:
        """What the run was started with: run.json.

        Raises:
            UsageError: it is damaged.
        """
        run = self.read_json(RUN) or {}
        try:
            datetime.fromisoformat(run.get("started", "2000-01-01"))
            parts = (run["settings"]["steps"], int), (run["settings"], dict), (run["bundle"]["sha256"], dict)
            if run.keys() >= _IDENTITY and all(isinstance(value, type_) for value, type_ in parts):
                return run
        except (KeyError, TypeError, ValueError):
            pass
        raise UsageError(f"{self.path / RUN} is damaged: it lacks what the run was started with. Start another run.")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """One of the folder's JSON files, None if it is not there.

        Raises:
            UsageError: it is damaged.
        """
        file = self.path / name
        if not file.is_file():
            return None
        try:
            contents = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is damaged ({error}). Start another run.") from error
        if not isinstance(contents, dict):
            raise UsageError(f"{file} is damaged: it is no object. Start another run.")
        return contents

    def open_logs(self, nbytes: Mapping[str, int]) -> None:
        """Opens the logs for appending, each cut to ``nbytes`` (of a checkpoint), and removes what was left half written.

        Raises:
            UsageError: a log lacks what it had at the checkpoint.
        """
        for place in (self.path, self.checkpoints):
            for leftover in place.glob(".*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for name in LOGS:
            file = self._logs[name] = self._open.enter_context(open(self.path / name, "a", encoding="utf-8"))  # noqa: SIM115
            length = nbytes.get(name, 0)
            if os.fstat(file.fileno()).st_size < length:
                raise UsageError(f"{self.path / name} is shorter than it was at the checkpoint. Start another run.")
            file.truncate(length)

    def remove_reports(self) -> None:
        """Removes what the run was said to have come to, when it goes on."""
        for name in (REPORT, PAGE, TEXTS):
            (self.path / name).unlink(missing_ok=True)

    def __enter__(self) -> "RunWriter":
        if not self._locked:
            self._lock()
        return self

    def _lock(self) -> None:
        """Takes the folder for this process.

        Raises:
            UsageError: another one has it.
        """
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(folder)
            raise UsageError(
                f"Another process is training in {self.path}. Wait for it or end it, or choose another output."
            ) from error
        self._open.callback(os.close, folder)
        self._locked = True

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take was reported when it was written
            self._open.close()

    def log(self, name: str, item: Any) -> None:
        """Appends a dataclass as a line.

        Raises:
            MespError: the disk is full or cannot be written.
        """
        try:
            self._logs[name].write(json.dumps(asdict(item)) + "\n")
            self._logs[name].flush()
        except OSError as error:
            raise MespError(
                f"Could not write {self.path / name}: {error.strerror}. {how_to_go_on(self.path)}"
            ) from error

    def log_bytes(self) -> dict[str, int]:
        """The length of each log, after it is safe on the device."""
        for file in self._logs.values():
            os.fsync(file.fileno())
        return {name: os.fstat(file.fileno()).st_size for name, file in self._logs.items()}

    def last_line(self, name: str) -> dict[str, Any] | None:
        """The last line of a log, None of an empty one. No more than the end of the file is read.

        Raises:
            UsageError: it is damaged.
        """
        file = self.path / name
        try:
            with file.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LONGEST_LINE))
                last = log.read().splitlines()[-1:]
            item = json.loads(last[0]) if last else None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is damaged ({error}). Start another run.") from error
        if item is not None and not isinstance(item, dict):
            raise UsageError(f"{file} is damaged: a line is no object. Start another run.")
        return item

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a log.

        Raises:
            UsageError: it is damaged.
        """
        file = self.path / name
        try:
            items = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is damaged ({error}). Start another run.") from error
        if not all(isinstance(item, dict) for item in items):
            raise UsageError(f"{file} is damaged: a line is no object. Start another run.")
        return items
