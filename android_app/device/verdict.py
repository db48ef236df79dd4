"""What a run on a phone came to: how it ended, and whether what was measured inside and outside of the app is the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mesp.runtime.contract import FINISHED
from mesp.runtime.contract.run_files import CRASH, MEMORY, OUTSIDE, REPORT
from mesp.runtime.errors import UsageError
from mesp.runtime.files import read_json_object

from .dumpsys import Exit

TOLERANCE = 0.05
FEWEST_SAMPLES = 5
MB = 1e6


@dataclass(frozen=True)
class End:
    """How a run ended: ``status`` is the app's own (done, stopped_early, interrupted, failed), or refused, killed, crashed, detached."""

    status: str
    reason: str = ""

    @property
    def exit_status(self) -> int:
        return {**dict.fromkeys(FINISHED, 0), "refused": 2, "interrupted": 130, "detached": 130}.get(self.status, 1)

    @property
    def can_be_resumed(self) -> bool:
        return self.status in ("killed", "crashed", "interrupted", "failed")


# android.app.ApplicationExitInfo's reasons (Android 11 and later). Android's names of them differ between its versions.
_SIGNALED, _LOW_MEMORY, _CRASH, _CRASH_NATIVE = 2, 3, 4, 5
_EXITS = {
    _SIGNALED: "the app was ended by a signal; on phones that do not report low memory, this is how it looks",
    _LOW_MEMORY: "Android ended the app because memory was short",
    _CRASH: f"the app crashed: the stack is in {CRASH}",
    _CRASH_NATIVE: f"the app's native code crashed: the tombstone's head is in {CRASH}",
    6: "the app did not answer, and Android ended it",
    9: "Android ended the app for what it used",
    10: "the app was stopped on the phone, or swiped away",
    16: "the app was updated while it trained",
}


def end_of_process(pid: int | None, exits: Sequence[Exit], crash: Sequence[str]) -> End:
    """How a process ended that is gone without a word.

    Args:
        pid: the last one that was seen; None if none was, and the app's last end is taken for this one
        exits: what Android says of the app's ended processes; empty before Android 11
        crash: the lines of a stack in the log
    """
    found = next((entry for entry in exits if pid in (None, entry.pid)), None)
    if found is None:
        if crash:
            return End("crashed", f"the app crashed: {crash[0].strip()} ({CRASH})")
        return End("killed", "the app's process is gone, and Android does not say why; most often memory was short")
    reason = f"{_EXITS.get(found.code, 'the app was ended')} ({found.reason})"
    description = f": {found.description}" if found.description else ""
    return End("crashed" if found.code in (_CRASH, _CRASH_NATIVE) else "killed", reason + description)


def compare(folder: Path, memory_bytes: int | None) -> dict[str, Any]:
    """Inside and outside of a run that was fetched.

    Args:
        folder: with report.json or, of a run that was killed, memory.jsonl, and outside.jsonl
        memory_bytes: the phone's

    Returns:
        For device.json: peaks in bytes, ``outside_over_inside``, ``agrees``, an ``explanation`` where they do not; or ``refused``, why outside
        says nothing.
    """
    samples = _lines(folder / OUTSIDE)
    pids = [sample["pid"] for sample in samples]
    samples = [sample for sample in samples if sample["pid"] == pids[-1]]
    inside = _inside(folder)
    if refused := _implausible(samples, memory_bytes):
        return {**inside, "samples": len(samples), "refused": refused}
    outside = {
        "outside_peak_footprint_bytes": max(sample["footprint_bytes"] for sample in samples),
        "outside_vm_hwm_bytes": max(sample["vm_hwm_bytes"] or 0 for sample in samples) or None,
        "outside_source": samples[-1]["footprint_source"],
        "samples": len(samples),
        "longest_gap_seconds": round(max(b["seconds"] - a["seconds"] for a, b in pairwise(samples)), 3),
        **_surroundings(samples),
    }
    return {**inside, **outside, **_judge(inside, outside)}


def _surroundings(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What else was seen: PSS as of the last time that Android counted it, and the worst of the rest. None for what a phone does not tell."""

    def known(key: str) -> list[Any]:
        return [sample[key] for sample in samples if sample.get(key) is not None]

    counted = next((sample for sample in reversed(samples) if sample.get("total_pss_bytes") is not None), None)
    return {
        **(_pss(counted) if counted else {"total_pss_bytes": None}),
        "most_swapped_bytes": max(known("swap_bytes"), default=None),
        "least_available_bytes": min(known("available_bytes"), default=None),
        "most_swap_used_bytes": max(known("swap_used_bytes"), default=None),
        "hottest_battery_celsius": max(known("battery_celsius"), default=None),
        "highest_thermal_status": max(known("thermal_status"), default=None),
        "slowest_fastest_core_khz": min((max(khz) for khz in known("cpu_khz") if khz), default=None),
    }


def _pss(sample: Mapping[str, Any]) -> dict[str, Any]:
    """PSS by class, refused where it is more than the kernel says is resident or swapped. Graphics memory is not the kernel's to count."""
    total, classes = sample["total_pss_bytes"], sample["pss_by_class_bytes"] or {}
    graphics = sum(size for name, size in classes.items() if name.endswith("mtrack") or name == "Gfx dev")
    present_bytes = sample["rss_bytes"] + (sample["swap_bytes"] or 0)
    if total - graphics > 1.1 * present_bytes:
        why = f"{(total - graphics) / MB:.1f} MB without graphics are more than the {present_bytes / MB:.1f} MB that are resident or swapped"
        return {"total_pss_bytes": None, "pss_refused": why}
    return {"total_pss_bytes": total, "pss_by_class_bytes": classes}


def _inside(folder: Path) -> dict[str, Any]:
    report = folder / REPORT
    memory = read_json_object(report, "a run's report").get("memory", {}) if report.is_file() else {}
    peak = memory.get("peak_footprint_bytes")
    if peak is None:
        peak = max((sample["footprint_bytes"] for sample in _lines(folder / MEMORY)), default=None)
    return {"inside_peak_footprint_bytes": peak, "inside_vm_hwm_bytes": memory.get("vm_hwm_bytes")}


def _implausible(samples: Sequence[Mapping[str, Any]], memory_bytes: int | None) -> str | None:
    """Why these samples cannot be a measurement."""
    if len(samples) < FEWEST_SAMPLES:
        return f"{len(samples)} samples from outside are too few to know a peak: expected {FEWEST_SAMPLES}"
    if any(sample["footprint_bytes"] is None for sample in samples):
        return "this phone's kernel (before 4.5) does not tell anonymous memory of a process"
    for sample in samples:
        high, resident = sample["vm_hwm_bytes"], sample["footprint_bytes"] - (sample["swap_bytes"] or 0)
        if high and resident > 1.02 * high:
            return f"a footprint of {resident / MB:.1f} MB in memory is above the kernel's own high-water mark of {high / MB:.1f} MB"
        if memory_bytes and sample["rss_bytes"] > memory_bytes:
            return (
                f"{sample['rss_bytes'] / MB:.1f} MB resident are more than the phone has ({memory_bytes / MB:.0f} MB)"
            )
    if any(b["seconds"] < a["seconds"] for a, b in pairwise(samples)):
        return "the phone's clock went back while it was sampled"
    return None


def _judge(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> dict[str, Any]:
    one, other = inside["inside_peak_footprint_bytes"], outside["outside_peak_footprint_bytes"]
    if one is None:
        return {"agrees": None, "explanation": "the app left no samples of its own"}
    ratio = other / one
    if abs(ratio - 1) <= TOLERANCE:
        return {"outside_over_inside": round(ratio, 4), "agrees": True}
    if ratio < 1:
        gap = outside["longest_gap_seconds"]
        why = (
            f"outside was read every {gap:.1f} s or more often, inside every 8 ms: a shorter peak is seen inside alone"
        )
    else:
        why = "the app held more before or after the run, when its own sampler does not look: its screen, or the start of the process"
    return {"outside_over_inside": round(ratio, 4), "agrees": False, "explanation": why}


def _lines(path: Path) -> list[dict[str, Any]]:
    """A log's lines, without a last one that was cut off.

    Raises:
        UsageError: another one is damaged.
    """
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}. Fetch the run again with: mesp device pull RUN") from error
