"""The phone's log: a file of records, which the app's process and whoever stands in for Android write, and logcat reads."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from . import clock
from .state import State

PRIORITIES = "VDIWEFS"
APP = "mesp"  # the app's tag


@dataclass(frozen=True)
class Record:
    """One call of Android's Log; ``time`` is of the phone's clock."""

    time: float
    pid: int
    priority: str
    tag: str
    text: str
    buffer: str


def file_of(state: State) -> str:
    """Where the records are."""
    return str(state.root / "state" / "log.jsonl")


def write(state: State, pid: int, priority: str, tag: str, text: str, buffer: str = "main") -> None:
    """Appends a record, whole: several processes write. A phone whose log is off, or whose maker silences apps, drops the app's own."""
    if tag == APP and _drops(state.read()):
        return
    line = json.dumps(asdict(Record(clock.now(state), pid, priority, tag, text, buffer))) + "\n"
    descriptor = os.open(file_of(state), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _drops(now: dict[str, Any]) -> bool:
    off = now["properties"].get("persist.log.tag") == "S" and f"log.tag.{APP}" not in now["properties"]
    return now["silent"] or off


def event(state: State, pid: int, name: str, run: str | None, **fields: Any) -> None:
    """A line of the app, as its Logcat.kt writes it."""
    named = {"event": name} if run is None else {"event": name, "run": run}
    write(state, pid, "I", APP, json.dumps({**named, **fields}, separators=(",", ":"), ensure_ascii=False))


def error(state: State, pid: int, name: str, run: str | None, reason: str) -> None:
    """The same for what went wrong."""
    named = {"event": name} if run is None else {"event": name, "run": run}
    write(state, pid, "E", APP, json.dumps({**named, "reason": reason}, separators=(",", ":"), ensure_ascii=False))


def line_of(record: Record, epoch: bool) -> str:
    """As logcat prints it; each line of the text with the same beginning."""
    milliseconds = int(record.time * 1000)
    if epoch:
        when = f"{milliseconds // 1000:19d}.{milliseconds % 1000:03d}"
    else:
        when = clock.stamp(milliseconds / 1000)[5:]
    start = f"{when} {record.pid:5d} {record.pid:5d} {record.priority} {record.tag:<8}: "
    return "".join(f"{start}{line}\n" for line in record.text.split("\n"))
