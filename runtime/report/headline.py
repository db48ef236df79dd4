"""The four numbers that people look for first: held-out loss, peak memory, time, and whether the run is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .run_folder import RunFolder
from .words import LONG_GAP_SECONDS, MB, WHY_TOP_IS_MORE, duration, gap_in_words, megabytes, perplexity, steps_in_words

_TONES = {"done": "good", "stopped_early": "good", "failed": "bad"}


@dataclass(frozen=True)
class Card:
    """One of the numbers. ``tone`` is good, bad or nothing in particular."""

    label: str
    value: str
    notes: tuple[str, ...]
    tone: str = ""


def cards(run: RunFolder) -> list[Card]:
    """Those of one run, always four."""
    return [loss_card(run), memory_card(run), time_card(run), status_card(run)]


def loss_card(run: RunFolder) -> Card:
    """The held-out loss before and after, or what is known of it; else the training loss."""
    before, after, last = held_out(run)
    if before is None:
        first, end = run.report["loss_first"], run.report["loss_last"]
        return Card("Training loss, first to last step", arrow(first, end, 3), ("no rows were held out",))
    notes = [f"perplexity {arrow(perplexity(before), perplexity(after), 1)}"]
    if examples := (run.start.get("eval_data") or {}).get("examples"):
        notes.append(f"on {examples:,} held-out sequences")
    if last is not None and run.report["eval_loss_after"] is None:
        notes.append(f"as far as step {last}")
    elif run.report.get("best_step"):
        notes.append(f"the best evaluation, at step {run.report['best_step']}")
    return Card("Held-out loss, before and after", arrow(before, after, 3), tuple(notes))


def held_out(run: RunFolder) -> tuple[float | None, float | None, int | None]:
    """The held-out loss before training, the last that is known, and the step that it is of."""
    after, step = run.report["eval_loss_after"], run.report["steps"]
    if after is None and run.evaluations and run.evaluations[-1]["step"]:
        after, step = run.evaluations[-1]["loss"], run.evaluations[-1]["step"]
    return run.report["eval_loss_before"], after, None if after is None else step


def arrow(first: float | None, last: float | None, digits: int) -> str:
    """Two numbers, or what is known of them."""
    known = ["–" if value is None else f"{value:,.{digits}f}" for value in (first, last)]
    return " → ".join(known) if known != ["–", "–"] else "–"


def peak_over_idle(run: RunFolder) -> int | None:
    """In bytes. Of a run that did not live to say it, the largest of its samples."""
    memory = run.report["memory"]
    if "delta_footprint_bytes" in memory:
        return int(memory["delta_footprint_bytes"])
    idle = memory.get("baseline_footprint_bytes")
    if idle is None or "refused" in memory or not run.samples:
        return None
    return int(max(sample["footprint_bytes"] for sample in run.samples) - idle)


def memory_card(run: RunFolder) -> Card:
    """The peak over idle, and beside it what top shows."""
    memory, peak, label = run.report["memory"], peak_over_idle(run), "Peak memory over idle"
    if peak is None:
        return Card(label, "not known", (memory.get("refused", "nothing was sampled"),))
    if "vm_hwm_bytes" not in memory:
        return Card(label, megabytes(peak), ("the largest sample: the run was not finished",))
    notes = [
        f"in {memory['peak_phase']}",
        f"top shows {memory['vm_hwm_bytes'] / MB:,.0f} MB: {WHY_TOP_IS_MORE}",
    ]
    if memory["longest_gap_seconds"] >= LONG_GAP_SECONDS:
        notes.append(_gap(run, memory))
    return Card(label, megabytes(peak), tuple(notes))


def _gap(run: RunFolder, memory: Mapping[str, Any]) -> str:
    """What the longest gap may have hidden: the kernel's own mark of all that was resident has none."""
    seen = max((sample["rss_bytes"] for sample in run.samples), default=0)
    hidden = max(memory["vm_hwm_bytes"] - seen, 0)
    bound = f"at most {megabytes(hidden)} was missed" if seen and memory["vm_hwm_is_of_the_run"] else ""
    return ", ".join(part for part in (f"{gap_in_words(memory)}, without a sample", bound) if part)


def seconds_of(run: RunFolder) -> float:
    """Of all steps and evaluations."""
    return float(sum(line["seconds"] for line in run.steps) + sum(line.get("seconds", 0) for line in run.evaluations))


def time_card(run: RunFolder) -> Card:
    """The time of steps and evaluations, and the speed."""
    step, speed = run.report["step_seconds_median"], run.report["tokens_per_second"]
    if step is None:
        return Card("Time", "–", ("no step was finished",))
    notes = (f"{duration(step)} a step, median", f"{speed:,.0f} tokens a second")
    return Card("Time", duration(seconds_of(run)), notes)


def status_card(run: RunFolder) -> Card:
    """How the run ended, and how far it came."""
    status = run.report["status"]
    steps = steps_in_words(run.report)
    notes = [f"{steps} steps" if steps != "1" else "1 step"]
    if status in ("interrupted", "unfinished") and run.report["steps"]:
        notes.append("goes on from its last checkpoint with --resume")
    return Card("Status", status.replace("_", " "), tuple(notes), _TONES.get(status, "half"))
