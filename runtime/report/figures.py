"""The figures of a report: which of a run's numbers are drawn, and how. One run in full, or several over one another."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..contract import BETWEEN_STEPS, LOAD, PHASES, phase_kind
from .charts import (
    COLOURS,
    FAINT,
    POINTS,
    SAMPLES,
    THIN,
    Line,
    bar_chart,
    line_chart,
    series,
    smooth,
    window_of,
)
from .run_folder import RunFolder

_COLOURS_OF_PHASES = ("#80868b", "#8e63ce", "#2b7de9", "#e8710a", "#1e9e4a", "#f2b600", "#d6249f", "#80868b")
PHASE_COLOURS = dict(zip(PHASES, _COLOURS_OF_PHASES, strict=True))
MB = 1e6
_LOSS = "loss (nats a token)"
_NORM_NOTE = "Of all of the adapter's gradients together, on a logarithmic scale."
_OVER_IDLE, _ABSOLUTE = "MB over idle", "footprint, MB"


@dataclass(frozen=True)
class Figure:
    """A drawing with what is written around it; ``legend`` is names and colours, for lines that the drawing does not name."""

    title: str
    svg: str
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()


def figures_of(run: RunFolder) -> list[Figure]:
    """The figures of one run, without those that it has no numbers for."""
    return [*_training(run), *_memory(run)]


def _training(run: RunFolder) -> Iterable[Figure]:
    if not run.steps:
        return
    yield _loss(run)
    yield _by_step("Learning rate", "learning rate", {"": run}, "lr", smoothed=False)
    yield _by_step("Gradient norm", "gradient norm", {"": run}, "grad_norm", note=_NORM_NOTE)
    yield _by_step("Tokens a second", "tokens a second", {"": run}, "rate")


def _loss(run: RunFolder) -> Figure:
    numbers, losses = series(run.steps, "step", "loss")
    lines = [
        Line(numbers, losses, COLOURS[0], "step", FAINT),
        Line(numbers, smooth(losses), COLOURS[0], f"mean of {window_of(losses)}"),
    ]
    sequences = run.settings.get("grad_accumulation") or 1
    note = f"Each step is {'one sequence' if sequences == 1 else f'{sequences} sequences'} of the training data."
    held_out = series(run.evaluations, "step", "loss")
    if held_out[0]:
        lines.append(Line(*held_out, COLOURS[1], "held out", POINTS))
        note += " Held-out data is not trained on; its loss at step 0 is before training."
    return Figure("Loss", line_chart("Loss", "step", _LOSS, lines), note)


def comparison_figures(runs: Mapping[str, RunFolder]) -> list[Figure]:
    """The same numbers of several runs in one figure each; a run that lacks them is not in it."""
    trained = {name: run for name, run in runs.items() if run.steps}
    held_out = {name: run for name, run in runs.items() if run.evaluations}
    measured = {name: run for name, run in runs.items() if run.samples and _baseline(run) is not None}
    colours = dict(zip(runs, COLOURS, strict=False))
    figures = []
    if trained:
        note = "Each line is a mean over a tenth of its run's steps."
        figures.append(_by_step("Loss", _LOSS, trained, "loss", colours, note=note))
    if held_out:
        lines = [
            Line(*series(run.evaluations, "step", "loss"), colours[name], style=POINTS)
            for name, run in held_out.items()
        ]
        svg = line_chart("Held-out loss", "step", _LOSS, lines)
        figures.append(Figure("Held-out loss", svg, "At step 0, before training.", _legend(held_out, colours)))
    if trained:
        figures += [
            _by_step("Learning rate", "learning rate", trained, "lr", colours, smoothed=False),
            _by_step("Gradient norm", "gradient norm", trained, "grad_norm", colours, note=f"{_NORM_NOTE} {note}"),
            _by_step("Tokens a second", "tokens a second", trained, "rate", colours, note=note),
        ]
    if measured:
        lines = [Line(*_footprints(run, run.samples), colours[name], style=THIN) for name, run in measured.items()]
        svg = line_chart("Memory over the run", "seconds", _OVER_IDLE, lines, from_zero=True)
        figures.append(Figure("Memory over the run", svg, _MEMORY_NOTE, _legend(measured, colours)))
    return figures


def _legend(runs: Iterable[str], colours: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, colours[name]) for name in runs]


def _by_step(
    title: str,
    y_label: str,
    runs: Mapping[str, RunFolder],
    key: str,
    colours: Mapping[str, str] | None = None,
    smoothed: bool = True,
    note: str = "",
) -> Figure:
    """One number of the steps, a line a run. Without colours there is one run, and what is smoothed is drawn faintly too."""
    lines = []
    for name, run in runs.items():
        numbers, values = series([_with_rate(step) for step in run.steps], "step", key)
        colour = colours[name] if colours else COLOURS[0]
        if smoothed and not colours:
            lines.append(Line(numbers, values, colour, "step", FAINT))
        label = f"mean of {window_of(values)}" if smoothed and not colours else ""
        lines.append(Line(numbers, smooth(values) if smoothed else values, colour, label))
    svg = line_chart(title, "step", y_label, lines, log=key == "grad_norm", from_zero=key in ("lr", "rate"))
    return Figure(title, svg, note, _legend(runs, colours) if colours else ())


def _with_rate(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "rate": step["tokens"] / step["seconds"] if step["seconds"] else math.nan}


# --- Memory -----------------------------------------------------------------------------------------------------------

_MEMORY_NOTE = (
    "Footprint: anonymous and swapped memory and dirty file pages. The mapped weights are clean pages and do not count. "
    "A point is the largest sample of a phase."
)
_OUTSIDE_NOTE = " Outside is what the kernel says of the app's process to another one, read every second or two."
_STEP_NOTE = (
    "By phase; each forward and backward point is one layer. What a phase takes stays with the process, "
    "so only the first step shows what needs it."
)
_PHASES_NOTE = "The largest sample of each kind of phase until the end of the first step."


def _memory(run: RunFolder) -> Iterable[Figure]:
    """Over idle where the idle footprint is known; absolute for a run that was killed; none if the measurement was refused."""
    if not run.samples or "refused" in run.report["memory"]:
        return
    peak = run.report["memory"].get("delta_footprint_bytes")
    known, peak = _baseline(run) is not None, peak / MB if peak is not None else None
    unit = _OVER_IDLE if known else _ABSOLUTE
    outside = _outside(run)
    lines = [Line(*_footprints(run, run.samples), PHASE_COLOURS["backward"], "inside the app" if outside else "", THIN)]
    if outside:
        lines.append(Line(*_footprints(run, outside), COLOURS[1], "outside", POINTS))
    svg = line_chart("Memory over the run", "seconds", unit, lines, peak=peak)
    yield Figure("Memory over the run", svg, _MEMORY_NOTE + (_OUTSIDE_NOTE if outside else ""))
    before, step = first_step(run.samples)
    if not step:
        return
    lines = [
        Line(
            [s["seconds"] - step[0]["seconds"] for s in part],
            _footprints(run, part)[1],
            PHASE_COLOURS[kind],
            kind,
            SAMPLES,
        )
        for kind, part in _by_kind(step)
    ]
    svg = line_chart("Memory of the first step", "seconds of the step", unit, lines, peak=peak)
    yield Figure("Memory of the first step", svg, _STEP_NOTE)
    if known:
        loading = [sample for sample in before if sample["phase"] == LOAD]
        bars = {kind: max(_footprints(run, part)[1]) for kind, part in _by_kind(loading + step)}
        svg = bar_chart("Peak by phase", unit, bars, PHASE_COLOURS)
        yield Figure("Peak by phase", svg, _PHASES_NOTE)


def _outside(run: RunFolder) -> list[dict[str, Any]]:
    """The samples from outside, their seconds since the run's own begin. None of a run that was resumed: its own seconds begin anew."""
    seconds = [sample["seconds"] for sample in run.samples]
    if run.sampled_since is None or seconds != sorted(seconds):
        return []
    known = [sample for sample in run.outside if sample["footprint_bytes"] is not None]
    moved = [{**sample, "seconds": sample["seconds"] - run.sampled_since} for sample in known]
    return [sample for sample in moved if 0 <= sample["seconds"] <= seconds[-1] + 1]


def _baseline(run: RunFolder) -> int | None:
    value: int | None = run.report["memory"].get("baseline_footprint_bytes")
    return value


def _footprints(run: RunFolder, samples: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Seconds, and MB over idle; absolute MB where idle is not known."""
    base = _baseline(run) or 0
    return [s["seconds"] for s in samples], [(s["footprint_bytes"] - base) / MB for s in samples]


def _by_kind(samples: Sequence[dict[str, Any]]) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    for kind in PHASE_COLOURS:
        part = [sample for sample in samples if phase_kind(sample["phase"]) == kind]
        if part:
            yield kind, part


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
