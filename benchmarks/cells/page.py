"""results.md: the figures of a table, the paper's and our goals side by side."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mesp.runtime.report.words import LONG_GAP_SECONDS

from .results import MB, Measured, Results

_FIGURE = re.compile(r"[+-]?[\d.,]+%?( \(.*\))?")
_INTRODUCTION = (
    "MB is a million bytes. A peak is that of the footprint over an idle process: everything that training adds, without mapped weights, "
    "which are clean pages. With several repeats it is their median."
)
_BASELINES = (
    "Their weights are fp32. PyTorch reads them into its memory, so they are in its peak; ExecuTorch maps them, as we do, "
    "and they are not."
)
_PARTS = (
    "The parts of the peak in MB. All but the last are planned; the last is the rest of what was measured: XNNPACK's workspace, "
    "and the programs with what reads them."
)
_RESIDENT = (
    "VmHWM: all that was resident at most, so the idle process with its libraries and the weights' mapped pages too. "
    "Most tools publish this one."
)
_GAPS = (
    "Nothing was sampled for so long, as happens on a busy machine. What was taken and given back within that time is not in the peak "
    "over idle; it is in what top shows."
)
_TIMES = "The median step without each process's first, which reads the weights from the disk."
_EXPORT = "The largest resident size (wait4's ru_maxrss, clean pages too) of the export's process and of its child, not of both together."


def markdown(results: Results, plots: Sequence[tuple[str, Path]]) -> str:
    """The page as Markdown.

    Args:
        plots: title and path, relative to the page
    """
    return "\n\n".join(_paragraphs(results, plots)) + "\n"


def _paragraphs(results: Results, plots: Sequence[tuple[str, Path]]) -> Iterator[str]:
    yield f"# {results.title}"
    yield f"`{results.command}`"
    yield _INTRODUCTION
    machine = results.environment
    versions = ", ".join(f"{name} {machine[name]}" for name in ("executorch", "torch", "transformers", "python"))
    size = machine["memory_bytes"] / 1e9
    if results.phone:
        phone = results.phone
        name = " ".join(phone[key] for key in ("manufacturer", "model", "system") if key in phone)
        yield f"Trained on a phone: {name}. What follows exported and planned."
    yield f"Measured on {machine['processor']}, {machine['cores']} cores, {size:.0f} GB, {machine['system']}; {versions}."
    for processor, names in results.elsewhere.items():
        yield f"On {processor}: {', '.join(names)}."
    if results.failed:
        yield "## Failed"
        yield _table(["cell", "reason"], [[name, reason] for name, reason in results.failed.items()])
    if results.cells:
        yield from _figures(results)
    if plots:
        yield "## Plots"
        yield from (f"![{title}]({path})" for title, path in plots)


def _figures(results: Results) -> Iterator[str]:
    cells = results.cells
    yield "## Peak over idle, MB"
    yield _by_series(results, lambda cell: f"{cell.peak_mb:.1f}")
    if any(cell.resident_mb for cell in cells):
        yield "## Resident, as `top` shows it, MB"
        yield _RESIDENT
        yield _by_series(results, lambda cell: "" if cell.resident_mb is None else f"{cell.resident_mb:,.0f}")
    gaps = [cell for cell in cells if cell.gap[0] >= LONG_GAP_SECONDS]
    if gaps:
        yield "## Gaps in the samples"
        yield _GAPS
        yield _table(["cell", "seconds", "in"], [[cell.name, f"{cell.gap[0]:.1f}", cell.gap[1] or ""] for cell in gaps])
    compared = [cell for cell in cells if cell.paper_mb or cell.goal_mb]
    if compared:
        yield "## Beside the paper and our goals, MB"
        head = ["cell", "ours", "the paper", "ours / the paper", "goal", ""]
        yield _table(head, [_comparison(cell) for cell in compared])
    yield "## Seconds a step"
    yield _TIMES
    yield _by_series(results, lambda cell: f"{cell.step_seconds:.2f}")
    baselines = [cell for cell in cells if cell.baseline]
    if baselines:
        yield "## Baselines"
        yield _BASELINES
        yield _table(["cell", "peak over idle, MB", "frozen weights, MB"], [_baseline(cell) for cell in baselines])
    divided = [cell for cell in cells if cell.parts_mb]
    if divided:
        yield "## Where every megabyte is"
        yield _PARTS
        names = list(dict.fromkeys(name for cell in divided for name in cell.parts_mb or {}))
        yield _table(
            ["cell", *names, "peak"],
            [
                [cell.name, *(_number((cell.parts_mb or {}).get(name)) for name in names), f"{cell.peak_mb:.1f}"]
                for cell in divided
            ],
        )
        yield "## Predicted by `mesp plan`, MB"
        yield _table(["cell", "predicted", "measured", "difference"], [_prediction(cell) for cell in divided])
    exported = [cell for cell in cells if cell.export]
    if exported:
        yield "## Export"
        yield _EXPORT
        yield _table(["cell", "seconds", "resident, MB", "bundle, MB", "of it weights"], [_export(c) for c in exported])


def _by_series(results: Results, value: Callable[[Measured], str]) -> str:
    """A line for each row of the table, a column for each series."""
    found = {(cell.row, cell.series): cell for cell in results.cells}
    rows = {cell.row: cell for cell in results.cells}
    lines = [
        [
            *_what(rows[row]),
            *(value(found[row, series]) if (row, series) in found else "" for series in results.shown_series),
        ]
        for row in rows
    ]
    return _table(["model", "tokens", "rank", *results.shown_series], lines)


def _what(cell: Measured) -> list[str]:
    layers = "" if cell.layers is None else f", {cell.layers} layers"
    return [cell.model, f"{cell.tokens:,}", f"{cell.rank}{layers}"]


def _comparison(cell: Measured) -> list[str]:
    ours = f"{cell.peak_mb:.1f}"
    if len(cell.peaks_mb) > 1:
        ours += f" ({min(cell.peaks_mb):.1f} to {max(cell.peaks_mb):.1f})"
    paper = [f"{cell.paper_mb:g}", f"{cell.peak_mb / cell.paper_mb:.2f}"] if cell.paper_mb else ["", ""]
    if not cell.goal_mb:
        return [cell.name, ours, *paper, "", ""]
    over = cell.peak_mb - cell.goal_mb
    return [cell.name, ours, *paper, f"{cell.goal_mb:g}", "met" if over <= 0 else f"{over:.1f} too much"]


def _baseline(cell: Measured) -> list[str]:
    weights = (cell.baseline or {})["weights_bytes"] / MB
    return [cell.name, f"{cell.peak_mb:,.1f}", f"{weights:,.1f}"]


def _prediction(cell: Measured) -> list[str]:
    if cell.plan_error is None:
        return [cell.name, "", f"{cell.peak_mb:.1f}", ""]
    return [cell.name, _number(cell.plan_mb), f"{cell.peak_mb:.1f}", f"{cell.plan_error:+.1%}"]


def _export(cell: Measured) -> list[str]:
    export, files = cell.export or {}, cell.bundle_bytes or {}
    weights = files.get("weights.safetensors", 0)
    sizes = (export["peak_rss_bytes"], sum(files.values()), weights)
    return [cell.name, f"{export['seconds']:.0f}", *(f"{size / MB:,.1f}" for size in sizes)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table: words to the left, figures to the right."""
    lines = list(lines)
    right = [all(_is_figure(line[i]) for line in lines) for i in range(len(head))]
    rule = ["---:" if figures else "---" for figures in right]
    return "\n".join(f"| {' | '.join(_escaped(item) for item in line)} |" for line in (head, rule, *lines))


def _is_figure(text: str) -> bool:
    return not text or _FIGURE.fullmatch(text) is not None


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
