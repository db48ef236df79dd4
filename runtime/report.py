"""report.html: what a run came to, to look at. One self-contained file, drawn from the files of the run folder."""

import io
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASE_COLOURS = {
    "load": "#9aa0a6",
    "embed": "#8e63ce",
    "forward": "#2b7de9",
    "head": "#e8710a",
    "backward": "#188038",
    "update": "#d01884",
    "between steps": "#9aa0a6",
}
_MB = 1e6


def write_report(run: Path) -> None:
    """Draws report.html from report.json, steps.jsonl and memory.jsonl of a run folder."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    report = json.loads((run / "report.json").read_text())
    steps, samples = _lines(run / "steps.jsonl"), _lines(run / "memory.jsonl")
    figures = []
    if steps:
        figures.append(("Loss", _svg(_draw_loss(steps, report)), "Each step is one sequence of the training text."))
    if samples and "refused" not in report["memory"]:
        figures.append(("Memory over the run", _svg(_draw_memory(samples, report["memory"])), _MEMORY_NOTE))
        figures.append(("Memory of the first step", _svg(_draw_step(samples, report["memory"])), _STEP_NOTE))
    page = Environment(loader=PackageLoader("mesp.runtime", ""), autoescape=select_autoescape(default=True))
    write_text(
        run / "report.html",
        page.get_template("report.html.jinja").render(report=report, rows=summary(report), figures=figures),
    )


_MEMORY_NOTE = (
    "Footprint over the idle process: anonymous and swapped memory and dirty file pages. The mapped weights are clean pages and do not count. "
    "A point is the largest sample of a phase."
)
_STEP_NOTE = (
    "By phase; each forward and backward point is one layer. What a phase takes stays with the process, "
    "so only the first step shows what needs it."
)


def summary(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a report as a person reads them."""
    memory, bundle = report["memory"], report["bundle"]
    rows = [
        ("Model", bundle["model"]),
        ("Sequence", f"{bundle['tokens']} tokens, batch 1"),
        ("Weights", " ".join(str(v) for v in bundle["weights"].values())),
    ]
    rows.append(
        (
            "Adapter",
            f"rank {bundle['lora']['rank']}, alpha {bundle['lora']['alpha']:g}, {', '.join(bundle['lora']['targets'])}",
        )
    )
    rows.append(("Steps", str(report["steps"])))
    if report["steps"]:
        rows.append(("Loss, first to last step", f"{report['loss_first']:.4f} to {report['loss_last']:.4f}"))
    if report["eval_loss_before"] is not None:
        rows.append(
            ("Held-out loss, before to after", f"{report['eval_loss_before']:.4f} to {report['eval_loss_after']:.4f}")
        )
    if report["steps"]:
        rows.append(("Time a step, median", f"{report['step_seconds_median']:.3f} s"))
        rows.append(("Tokens a second", f"{report['tokens_per_second']:.1f}"))
    if "refused" in memory:
        rows.append(("Memory", memory["refused"]))
    else:
        rows.append(
            ("Peak footprint over idle", f"{memory['delta_footprint_bytes'] / _MB:.1f} MB, in {memory['peak_phase']}")
        )
        rows.append(
            (
                "Footprint, idle and peak",
                f"{memory['baseline_footprint_bytes'] / _MB:.1f} MB and {memory['peak_footprint_bytes'] / _MB:.1f} MB",
            )
        )
        if memory["dirty_file_and_swap_bytes"] > _MB:
            rows.append(
                (
                    "Of it dirty file pages and swap",
                    f"{memory['dirty_file_and_swap_bytes'] / _MB:.1f} MB: was the bundle just written?",
                )
            )
        rows.append(("VmHWM, clean pages too", f"{memory['vm_hwm_bytes'] / _MB:.1f} MB"))
        rows.append(("Samples", f"{memory['samples']}, longest gap {memory['longest_gap_seconds'] * 1000:.0f} ms"))
    environment = report["environment"]
    rows.append(
        (
            "Machine",
            f"{environment['processor']}, {environment['cores']} cores, {environment['memory_bytes'] / 1e9:.0f} GB",
        )
    )
    rows.append(
        (
            "Versions",
            ", ".join(f"{name} {environment[name]}" for name in ("executorch", "torch", "transformers", "python")),
        )
    )
    return rows


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _figure(y_label: str, x_label: str) -> "tuple[Figure, Axes]":
    """A small figure with large type, so that it is legible at the width of a phone."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "mesp"}
    )
    figure, axes = pyplot.subplots(figsize=(5.4, 3.3), layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    from matplotlib import pyplot

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw_loss(steps: list[dict[str, Any]], report: dict[str, Any]) -> "Figure":
    figure, axes = _figure("loss (nats a token)", "step")
    numbers, losses = [step["step"] for step in steps], [step["loss"] for step in steps]
    axes.plot(numbers, losses, color="#2b7de9", alpha=0.35, label="step")
    window = max(1, len(losses) // 10)
    smooth = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    axes.plot(numbers, smooth, color="#2b7de9", label=f"mean of {window}")
    if report["eval_loss_before"] is not None:
        ends = [numbers[0], numbers[-1]]
        axes.plot(
            ends, [report["eval_loss_before"], report["eval_loss_after"]], "o--", color="#e8710a", label="held out"
        )
    axes.legend(frameon=False)
    return figure


def _draw_memory(samples: list[dict[str, Any]], memory: dict[str, Any]) -> "Figure":
    figure, axes = _figure("MB over idle", "seconds")
    base = memory["baseline_footprint_bytes"]
    axes.plot(
        [s["seconds"] for s in samples],
        [(s["footprint_bytes"] - base) / _MB for s in samples],
        color="#188038",
        linewidth=0.8,
    )
    _mark_peak(axes, memory)
    return figure


def _draw_step(samples: list[dict[str, Any]], memory: dict[str, Any]) -> "Figure":
    figure, axes = _figure("MB over idle", "seconds of the step")
    base, step = memory["baseline_footprint_bytes"], _first_step(samples)
    start = step[0]["seconds"]
    for kind, part in _by_kind(step):
        seconds = [s["seconds"] - start for s in part]
        axes.plot(
            seconds,
            [(s["footprint_bytes"] - base) / _MB for s in part],
            ".-",
            color=PHASE_COLOURS[kind],
            linewidth=0.8,
            markersize=4,
            label=kind,
        )
    _mark_peak(axes, memory)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, ncols=3, loc="lower right")
    return figure


def _mark_peak(axes: "Axes", memory: dict[str, Any]) -> None:
    peak = memory["delta_footprint_bytes"] / _MB
    axes.axhline(peak, color="#c5221f", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, peak * 1.18)
    axes.annotate(f"peak {peak:.1f} MB", (0.02, peak * 1.03), xycoords=("axes fraction", "data"), color="#c5221f")


def _kind(sample: dict[str, Any]) -> str:
    """The phase without its layer."""
    return str(sample["phase"]).rstrip("0123456789 ")


def _by_kind(samples: list[dict[str, Any]]) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    for kind in PHASE_COLOURS:
        part = [sample for sample in samples if _kind(sample) == kind]
        if part:
            yield kind, part


def _first_step(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples of the first run that has a backward pass."""
    runs = (
        list(part) for between, part in groupby(samples, key=lambda s: s["phase"] == "between steps") if not between
    )
    return next((run for run in runs if any(_kind(sample) == "backward" for sample in run)), [])
