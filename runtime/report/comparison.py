"""Several runs side by side: what differs between them, what came of it, and the charts that may have one axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import PurePath
from typing import Any

from ..engine.bundle import WEIGHTS
from .charts import Chart, Kind, Line, line_chart, series, smooth
from .figures import LOSS, OVER_IDLE, baseline, footprints, with_speed
from .headline import arrow, held_out, peak_over_idle, seconds_of
from .run_folder import RunFolder
from .words import (
    MB,
    PEAK,
    TOP,
    duration,
    machine_rows,
    megabytes,
    perplexity,
    report_rows,
    settings_rows,
    steps_in_words,
)

Runs = Mapping[str, RunFolder]
# Labels, and a value for each run; one alone where all have the same.
Table = dict[str, list[str]]


def differences(runs: Runs) -> Table:
    """What was chosen, and where it ran: the rows in which the runs differ."""
    return {label: values for label, values in _chosen(runs).items() if len(values) > 1}


def same(runs: Runs) -> Table:
    """What was chosen, and is the same for all."""
    return {label: values for label, values in _chosen(runs).items() if len(values) == 1}


def results(runs: Runs) -> Table:
    """The numbers that people look for first."""
    return _table([_result_rows(run) for run in runs.values()], shared=False)


def everything(runs: Runs) -> Table:
    """All of the reports."""
    return _table([report_rows(run.report) for run in runs.values()])


def columns(parts: Sequence[Sequence[tuple[str, str | None]]]) -> Table:
    """The rows of several runs side by side."""
    return _table(parts)


# A run has a seed too.
_PLAN = {"seed": "export's seed"}
_PATHS = ("data", "eval_data", "adapter")


def _chosen(runs: Runs) -> Table:
    return _table([_choices(run) for run in runs.values()])


def _choices(run: RunFolder) -> list[tuple[str, str | None]]:
    """What lies in files is known by its hash: the same file may have another path, and another file the same name."""
    bundle = run.start.get("bundle") or run.report["bundle"]
    exported = (
        settings_rows({_PLAN.get(name, name): value for name, value in bundle["plan"].items() if name != "tiling"})
        if bundle
        else []
    )
    named = {name: PurePath(value).name if name in _PATHS and value else value for name, value in run.settings.items()}
    return [
        ("model", PurePath(bundle["model"]).name if bundle else None),
        ("weights, sha256", _short((bundle or {}).get("sha256", {}).get(WEIGHTS))),
        *exported,
        *settings_rows(named),
        ("data, sha256 of its tokens", _short(_sha256(run, "data"))),
        ("eval data, sha256 of its tokens", _short(_sha256(run, "eval_data"))),
        ("adapter, sha256", _short(run.start.get("adapter_sha256"))),
        *machine_rows(run.report["environment"]),
    ]


def _sha256(run: RunFolder, key: str) -> str | None:
    """Of the tokens of a run's rows."""
    digest: str | None = (run.start.get(key) or {}).get("sha256")
    return digest


def _short(digest: str | None) -> str | None:
    return f"{digest[:12]}…" if digest else None


def _result_rows(run: RunFolder) -> list[tuple[str, str | None]]:
    before, after, _ = held_out(run)
    memory, peak, report = run.report["memory"], peak_over_idle(run), run.report
    step, hwm = report["step_seconds_median"], memory.get("vm_hwm_bytes")
    return [
        ("Status", report["status"].replace("_", " ")),
        ("Steps", steps_in_words(report)),
        ("Held-out loss", None if before is None else arrow(before, after, 3)),
        ("Held-out perplexity", None if before is None else arrow(perplexity(before), perplexity(after), 1)),
        ("Training loss, first and last step", arrow(report["loss_first"], report["loss_last"], 3)),
        (PEAK, megabytes(peak) if peak is not None else memory.get("refused", "not known")),
        (TOP, None if hwm is None else f"{hwm / MB:,.0f} MB"),
        ("Time a step, median", None if step is None else duration(step)),
        ("Time of all steps and evaluations", duration(seconds_of(run)) if run.steps else None),
        ("Reason", report.get("reason")),
    ]


def _table(parts: Sequence[Sequence[tuple[str, str | None]]], shared: bool = True) -> Table:
    """Without the rows that no run has; where ``shared``, a value that all have is there once."""
    labels = dict.fromkeys(label for part in sorted(parts, key=len, reverse=True) for label, _ in part)
    table = {label: [dict(part).get(label) for part in parts] for label in labels}
    return {
        label: ["–" if value is None else value for value in _once(values, shared)]
        for label, values in table.items()
        if any(value is not None for value in values)
    }


def _once(values: list[str | None], shared: bool) -> list[str | None]:
    return values[:1] if shared and len(set(values)) == 1 else values


# --- Charts -----------------------------------------------------------------------------------------------------------


_MEAN_NOTE = "Each line is a mean over a tenth of its run's steps."
_OTHER_ROWS = " The other runs have other rows, so their losses are in charts of their own."
_BY_STEP: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("Learning rate", "lr", "learning rate", {"from_zero": True}),
    ("Gradient norm", "grad_norm", "norm", {"log": True, "note": _MEAN_NOTE}),
    ("Speed", "speed", "tokens a second", {"from_zero": True, "note": _MEAN_NOTE}),
)


def loss_charts(runs: Runs) -> list[Chart]:
    """Held-out losses, then those of training. Losses on different rows have no axis in common: a chart for each set of rows."""
    note = "Joined points are evaluations; at the left, before training."
    return [
        *_grouped(
            "Held-out loss", "eval_data", {name: run for name, run in runs.items() if run.evaluations}, runs, note
        ),
        *_grouped("Training loss", "data", {name: run for name, run in runs.items() if run.steps}, runs, _MEAN_NOTE),
    ]


def _grouped(title: str, key: str, shown: Runs, runs: Runs, note: str) -> Iterator[Chart]:
    groups: dict[str | None, dict[str, RunFolder]] = {}
    for name, run in shown.items():
        groups.setdefault(_sha256(run, key), {})[name] = run
    for own in groups.values():
        names = f" of {', '.join(own)}" if len(groups) > 1 else ""
        x_label, place = _places(own)
        if key == "data":
            lines = [
                _line(run.steps, "loss", place(run), _colour(runs, name), name, mean=True) for name, run in own.items()
            ]
        else:
            lines = [
                _line(run.evaluations, "loss", place(run), _colour(runs, name), name, "points")
                for name, run in own.items()
            ]
        yield line_chart(f"{title}{names}", x_label, LOSS, lines, note=note + (_OTHER_ROWS if names else ""))


Place = Callable[[RunFolder], Mapping[int, float]]


def _places(runs: Runs) -> tuple[str, Place]:
    """The axis of x: steps, or where a step is not as long in every run, the tokens that were trained on."""
    lengths = [sum(step["tokens"] for step in run.steps) / len(run.steps) for run in runs.values() if run.steps]
    if not lengths or max(lengths) <= 1.02 * min(lengths):
        return "step", lambda run: {step: float(step) for step in range(len(run.steps) + 1)}
    return "thousand tokens trained on", lambda run: {
        step: tokens / 1000 for step, tokens in enumerate(accumulate([0, *(line["tokens"] for line in run.steps)]))
    }


def _line(
    log: Sequence[Mapping[str, Any]],
    key: str,
    places: Mapping[int, float],
    colour: str,
    name: str,
    kind: Kind = "line",
    mean: bool = False,
) -> Line:
    numbers, values = series([line for line in log if line["step"] in places], "step", key)
    return Line([places[int(step)] for step in numbers], smooth(values) if mean else values, colour, name, kind)


def _colour(runs: Runs, name: str) -> str:
    return f"c{list(runs).index(name)}"


def other_charts(runs: Runs) -> list[Chart]:
    """Learning rate, gradient norm, speed, and memory over time."""
    trained = {name: run for name, run in runs.items() if run.steps}
    measured = {name: run for name, run in runs.items() if run.samples and baseline(run) is not None}
    charts = []
    if trained:
        x_label, place = _places(trained)
        for title, key, unit, options in _BY_STEP:
            lines = [
                _line(list(map(with_speed, run.steps)), key, place(run), _colour(runs, name), name, mean=key != "lr")
                for name, run in trained.items()
            ]
            charts.append(line_chart(title, x_label, unit, lines, **options))
    if measured:
        lines = [
            Line(*footprints(run, run.samples), _colour(runs, name), name, "thin") for name, run in measured.items()
        ]
        charts.append(line_chart("Memory over the run", "seconds", OVER_IDLE, lines, from_zero=True))
    return charts
