"""What a run's folder tells while a trainer writes it, as the app's events."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .state import PACKAGE

Event = tuple[str, dict[str, Any]]


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints there are, oldest first."""
    found = {int(item.name[5:]): item for item in run.glob("checkpoints/step-*") if item.name[5:].isdigit()}
    return dict(sorted(found.items()))


class RunLog:
    """Reads what is new. Of a run that is resumed, what it had at its last checkpoint is not."""

    def __init__(self, run: Path, resume: bool):
        self._run = run
        self._on_phone = f"/storage/emulated/0/Android/data/{PACKAGE}/files/runs/{run.name}"
        known = checkpoints(run) if resume else {}
        self.first = max(known, default=0)
        self._checkpoints = set(known)
        self._places: dict[str, int] = (
            json.loads(_text(known[self.first], "trainer_state.json"))["log_bytes"] if known else {}
        )
        # Whose lines after the checkpoint are not yet cut off, by the time of the last change before that.
        self._uncut = {
            name: os.stat(run / name).st_mtime_ns
            for name in ("steps.jsonl", "eval.jsonl")
            if resume and (run / name).exists() and (run / name).stat().st_size > self._places.get(name, 0)
        }
        self._begun = False

    def events(self) -> list[Event]:
        """Since the last call, in the order in which the app writes them."""
        # The last to be written is looked for first: then what was written before it is found as well.
        new = [step for step in checkpoints(self._run) if step not in self._checkpoints]
        self._checkpoints.update(new)
        evaluations = list(self._lines("eval.jsonl"))
        steps = list(self._lines("steps.jsonl"))
        found = [
            *((line["step"], 0, "step", line) for line in steps),
            *((line["step"], 1, "evaluation", line) for line in evaluations),
            *((step, 2, "checkpoint", {"folder": f"{self._on_phone}/checkpoints/step-{step}"}) for step in new),
        ]
        events = [(name, fields) for _, _, name, fields in sorted(found, key=lambda item: item[:2])]
        if not self._begun and (events or (not self.first and (self._run / "run.json").exists())):
            self._begun = True
            events.insert(0, self._begin())
        return events

    def _begin(self) -> Event:
        run = json.loads((self._run / "run.json").read_text())
        planned, examples = run["settings"]["steps"], run["data"]["examples"]
        # How many rows were cut is not in the folder until the report.
        return "begin", {"first": self.first, "steps": planned, "examples": examples, "cut_rows": 0, "masked_rows": 0}

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self._run / name
        if not path.exists():
            return
        if name in self._uncut:
            if path.stat().st_mtime_ns == self._uncut[name]:
                return
            del self._uncut[name]
        with open(path, "rb") as file:
            file.seek(self._places.get(name, 0))
            for line in file:
                if line.endswith(b"\n"):
                    self._places[name] = self._places.get(name, 0) + len(line)
                    yield json.loads(line)


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text()
