"""The charts of one run: which of its numbers are drawn, and how."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ..contract import BETWEEN_STEPS, LOAD, PHASES, phase_kind
from ..memory.thinning import WHOLE_STEPS
from .charts import Chart, Line, line_chart, series, smooth, window_of
from .run_folder import RunFolder
from .words import MB

# The classes of the style sheet.
PHASE_COLOURS = {phase: f"p{place}" for place, phase in enumerate(PHASES)}
LOSS = "loss, nats a token"
OVER_IDLE, ABSOLUTE = "MB over idle", "footprint, MB"
# From so many steps on, the mean of a tenth of them is drawn, and the steps themselves are faint.
_SMOOTHED_FROM = 40


def loss_chart(run: RunFolder) -> Chart | None:
    """The training loss and the held-out one; None of a run without a step."""
    if not run.steps:
        return None
    lines = list(_smoothed(run.steps, "loss", "training"))
    sequences = run.settings.get("grad_accumulation") or 1
    note = f"A step trains on {'one sequence' if sequences == 1 else f'{sequences} sequences'}."
    held_out = series(run.evaluations, "step", "loss")
    if held_out[0]:
        lines.append(Line(*held_out, "c1", "held out", "points", values=True))
        note += " Nothing is trained on what is held out; its loss at step 0 is before training."
    return line_chart("Loss", "step", LOSS, lines, note=note)


def other_charts(run: RunFolder) -> list[Chart]:
    """What else there is to look at, without what the run has no numbers for, or what is the same in every step."""
    return [*_by_step(run), *_memory(run)]


def _by_step(run: RunFolder) -> Iterator[Chart]:
    if not run.steps:
        return
    if len({step["lr"] for step in run.steps}) > 1:
        rates = Line(*series(run.steps, "step", "lr"), "c0")
        yield line_chart("Learning rate", "step", "learning rate", [rates], from_zero=True)
    note = "Of the whole adapter's gradient, before clipping."
    yield line_chart(
        "Gradient norm", "step", "norm", list(_smoothed(run.steps, "grad_norm", "norm")), log=True, note=note
    )
    speeds = [with_speed(step) for step in run.steps]
    yield line_chart(
        "Speed", "step", "tokens a second", list(_smoothed(speeds, "speed", "tokens a second")), from_zero=True
    )


def with_speed(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step's line with its tokens a second."""
    return {**step, "speed": step["tokens"] / step["seconds"] if step["seconds"] else math.nan}


def _smoothed(steps: Sequence[Mapping[str, Any]], key: str, label: str) -> Iterator[Line]:
    """A number of each step, faint under its mean where there are many steps."""
    numbers, values = series(steps, "step", key)
    many = len(values) >= _SMOOTHED_FROM
    yield Line(numbers, values, "c0", f"{label}, each step" if many else label, "faint" if many else "line")
    if many:
        yield Line(numbers, smooth(values), "c0", f"mean of {window_of(values)}")


# --- Memory -----------------------------------------------------------------------------------------------------------

_MEMORY_NOTE = (
    "A point is the largest sample of a phase. Footprint: anonymous and swapped memory, and dirty file pages; "
    "the mapped weights are clean pages and do not count."
)
_THINNED_NOTE = f" After {WHOLE_STEPS} steps a point is the largest sample of a step, or of several."
_OUTSIDE_NOTE = " Outside is what the kernel says of the app's process to another one, every second or two."
_STEP_NOTE = "A bar of forward and backward is a layer. What a phase takes stays with the process: the first step shows what needs it."


def _memory(run: RunFolder) -> Iterator[Chart]:
    """Over idle where the idle footprint is known; absolute for a run that was killed; none if the measurement was refused."""
    if not run.samples or "refused" in run.report["memory"]:
        return
    peak = run.report["memory"].get("delta_footprint_bytes")
    unit = OVER_IDLE if baseline(run) is not None else ABSOLUTE
    level: dict[str, Any] = {} if peak is None else {"level": peak / MB, "level_text": f"peak {peak / MB:.1f} MB"}
    _, step = first_step(run.samples)
    if step:
        phases = list(_phases(run, step))
        yield line_chart("Memory of the first step", "seconds", unit, phases, from_zero=True, note=_STEP_NOTE, **level)
    outside = _outside(run)
    lines = [Line(*footprints(run, run.samples), "c0", "inside the app" if outside else "", "thin")]
    if outside:
        lines.append(Line(*footprints(run, outside), "c1", "outside", "points"))
    thinned = bool(run.steps) and run.steps[-1]["step"] > WHOLE_STEPS
    note = _MEMORY_NOTE + (_THINNED_NOTE if thinned else "") + (_OUTSIDE_NOTE if outside else "")
    yield line_chart("Memory over the run", "seconds", unit, lines, from_zero=True, note=note, **level)


def _phases(run: RunFolder, step: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """A bar from each sample to the next, in the colour of its kind of phase."""
    seconds, heights = footprints(run, step)
    starts = [moment - seconds[0] for moment in seconds]
    ends = [*starts[1:], starts[-1] + starts[-1] / len(starts)]
    kinds = [phase_kind(sample["phase"]) for sample in step]
    for kind in PHASES:
        own = [place for place, found in enumerate(kinds) if found == kind]
        if own:
            bars = ([values[place] for place in own] for values in (starts, heights, ends))
            x, y, until = bars
            yield Line(x, y, PHASE_COLOURS[kind], kind, "area", ends=until)


def _outside(run: RunFolder) -> list[dict[str, Any]]:
    """The samples from outside, their seconds since the run's own begin. None of a run that was resumed: its own seconds begin anew."""
    seconds = [sample["seconds"] for sample in run.samples]
    if run.sampled_since is None or seconds != sorted(seconds):
        return []
    known = [sample for sample in run.outside if sample["footprint_bytes"] is not None]
    moved = [{**sample, "seconds": sample["seconds"] - run.sampled_since} for sample in known]
    return [sample for sample in moved if 0 <= sample["seconds"] <= seconds[-1] + 1]


def baseline(run: RunFolder) -> int | None:
    """The idle footprint in bytes, where it is known."""
    value: int | None = run.report["memory"].get("baseline_footprint_bytes")
    return value


def footprints(run: RunFolder, samples: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Seconds, and MB over idle; absolute MB where idle is not known."""
    base = baseline(run) or 0
    return [s["seconds"] for s in samples], [(s["footprint_bytes"] - base) / MB for s in samples]


def first_step(samples: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The samples before the first step of training, which is the first with a backward pass, and that step's own."""
    before: list[dict[str, Any]] = []
    for between, part in groupby(samples, key=lambda sample: sample["phase"] == BETWEEN_STEPS):
        step = list(part)
        if not between and any(phase_kind(sample["phase"]) == "backward" for sample in step):
            own = [sample for sample in step if sample["phase"] != LOAD]
            return before + [sample for sample in step if sample["phase"] == LOAD], own
        before += step
    return before, []
