"""Writes the folder of a run: logs that grow by lines, and everything else complete or absent. contract/run_folder.schema.json has its fields.

    run.json          every setting, the bundle's and the data's hashes, versions: written first
    steps.jsonl       a line a step           (listener.Step)
    eval.jsonl        a line an evaluation    (listener.Evaluation)
    memory.jsonl      a line a phase's largest sample    (sampler.Sample)
    checkpoints/      step-N (checkpoints)
    best/             PEFT: the adapter of the best evaluation so far
    adapter/          PEFT: what the run came to
    report.json, report.html

When a run is resumed, its logs are cut to where they were at the checkpoint, so a step that is done again is not there twice.
"""

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ..contract.run_files import CHECKPOINTS, LOGS, PAGE, REPORT, RUN, TEXTS
from ..errors import MespError, UsageError
from ..files import write_json


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
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / RUN, run_json)
        return RunWriter(path)

    @staticmethod
    def reopen(path: Path) -> "RunWriter":
        """Opens the folder of a run that was interrupted.

        Raises:
            UsageError: there is no run.
        """
        if not (path / RUN).is_file():
            raise UsageError(f"There is no run to resume at {path}: it has no {RUN}. Start it without --resume.")
        return RunWriter(path)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """One of the folder's JSON files, None if it is not there.

        Raises:
            UsageError: it is damaged.
        """
        file = self.path / name
        try:
            json_: dict[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
        except ValueError as error:
            raise UsageError(f"{file} is damaged ({error}). Start another run.") from error
        return json_

    def open_logs(self, nbytes: Mapping[str, int]) -> None:
        """Opens the logs for appending, each cut to ``nbytes`` (of a checkpoint), and removes what was left half written.

        Raises:
            UsageError: a log lacks what it had at the checkpoint.
        """
        for place in (self.path, self.checkpoints):
            for leftover in place.glob(".*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for name in LOGS:
            file = self._logs[name] = self._open.enter_context(open(self.path / name, "a"))  # noqa: SIM115
            length = nbytes.get(name, 0)
            if os.fstat(file.fileno()).st_size < length:
                raise UsageError(f"{self.path / name} is shorter than it was at the checkpoint. Start another run.")
            file.truncate(length)

    def remove_reports(self) -> None:
        """Removes what the run was said to have come to, when it goes on."""
        for name in (REPORT, PAGE, TEXTS):
            (self.path / name).unlink(missing_ok=True)

    def __enter__(self) -> "RunWriter":
        return self

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

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a log."""
        return [json.loads(line) for line in (self.path / name).read_text().splitlines()]
