"""What goes on on a phone: which run, how far it is, and what it takes of the phone."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .adb import Device
from .logcat import since_forever
from .outside import Outside
from .phone import Phone, describe
from .run_files import Look, RunFiles, runs

# What is left is reckoned from the last steps: the phone may have become warm.
_LAST_STEPS = 20
_PAUSES = ("pausing", "paused", "going_on")


@dataclass(frozen=True)
class Status:
    """A phone and one of its runs.

    Args:
        run: its name; None where there is none
        state: training, paused, waiting to pause, preparing; of a run that is over its status, or unfinished where it left no report; idle
            where there is none
        reasons: of a pause, or of a failure
        step: the last that is done, of ``steps``; both None before the first
        seconds_left: without evaluations and pauses; None where there is no telling
        memory: what outside_sample.schema.json has, but for the services' figures; None where the app does not run
        runs: all there are, the last one first
    """

    phone: Phone
    run: str | None
    state: str
    reasons: list[str]
    step: int | None
    steps: int | None
    loss: float | None
    step_seconds: float | None
    seconds_left: float | None
    memory: dict[str, Any] | None
    runs: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def status(device: Device, run: str | None = None) -> Status:
    """Asks a phone.

    Args:
        run: the one to tell of; the last one if not given

    Raises:
        Disconnected: the phone was lost.
        Unreadable, ShellFailed: it answers something else.
    """
    names = runs(device)
    name = run or next(iter(names), None)
    look = device.patiently(RunFiles(device, name).look) if name else None
    state, reasons = _state(device, name, look, last=names[:1] == [name])
    steps = [event for kind, event in look.events if kind == "step"] if look else []
    begun = next((event for kind, event in look.events if kind == "begin"), None) if look else None
    planned = begun["steps"] if begun else None
    seconds = median(event["seconds"] for event in steps[-_LAST_STEPS:]) if steps else None
    going_on = state not in ("idle", "unfinished") and not (look and look.end)
    return Status(
        phone=describe(device),
        run=name,
        state=state,
        reasons=reasons,
        step=steps[-1]["step"] if steps else None,
        steps=planned,
        loss=steps[-1]["loss"] if steps else None,
        step_seconds=seconds,
        seconds_left=(planned - steps[-1]["step"]) * seconds if going_on and planned and seconds is not None else None,
        memory=device.patiently(
            lambda: Outside(device, Path(os.devnull), 0, lambda: None, lambda error: None).sample(services=False)
        ),
        runs=names,
    )


def _state(device: Device, run: str | None, look: Look | None, last: bool) -> tuple[str, list[str]]:
    if look is None:
        return "idle", []
    if look.end:
        return look.end.status, [look.end.reason] if look.end.reason else []
    if look.over or not last:
        return "unfinished", []
    if not look.events:
        return "preparing", []
    # Of pauses the log alone tells, where it tells anything.
    told = [line for line in since_forever(device) if line.name in _PAUSES and line.event and line.event["run"] == run]
    if not told or told[-1].name == "going_on" or not (reasons := (told[-1].event or {}).get("reasons")):
        return "training", []
    return "paused" if told[-1].name == "paused" else "waiting to pause", list(reasons)
