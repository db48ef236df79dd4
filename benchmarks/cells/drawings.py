"""The drawings: memory over a number, by model or by method, what a peak consists of, and a step phase by phase."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mesp.runtime.contract import PHASES

from .parts import Samples, kind_of_phase
from .results import MB, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the series, in order.
COLOURS = ("#2b7de9", "#e8710a", "#1e9e4a", "#d6249f", "#8e63ce", "#0f9d9d", "#b8860b", "#e5484d")
_OF_PHASES = ("#80868b", "#8e63ce", "#2b7de9", "#e8710a", "#1e9e4a", "#f2b600", "#d6249f", "#80868b")
PHASE_COLOURS = dict(zip(PHASES, _OF_PHASES, strict=True))
TEXT, QUIET, FAINT = "#202124", "#5f6368", "#c3c7cc"
PEAK = "peak over idle, MB"
_X_LABELS = {"tokens": "tokens of the sequence", "rank": "rank of the adapters", "layers": "layers with adapters"}
# The parts of a peak in the order in which they are stacked. A state other than the adapter gets OTHER_PART.
PART_COLOURS = {
    "block inputs": "#3b6fb6",
    "adapter": "#e9a23b",
    "results of the programs": "#7fb7a3",
    "other buffers": "#b79fd0",
    "workspace and interpreter": "#c3c7cc",
}
OTHER_PART = "#d98880"


def layers_of(cell: Measured) -> str:
    """The end of a title, for a cell that has adapters in some layers only."""
    return "" if cell.layers is None else f", {cell.layers} layers"


def row_title(cell: Measured) -> str:
    """What the cells of a row have in common, in words."""
    return f"{cell.model}, {cell.tokens:,} tokens, rank {cell.rank}{layers_of(cell)}"


def _of_series(cells: Sequence[Measured], colours: Mapping[str, str]) -> list[tuple[str, str, list[Measured]]]:
    """(series, colour, its cells) in the order of the table. Series with one cell are left out if others have several."""
    every = [(name, colour, [cell for cell in cells if cell.series == name]) for name, colour in colours.items()]
    return [item for item in every if len(item[2]) > 1] or [item for item in every if item[2]]


# --- Memory by something ----------------------------------------------------------------------------------------------


def by_number(cells: Sequence[Measured], title: str, axis: str, colours: Mapping[str, str]) -> "Figure":
    """A line for each series over tokens, rank or layers. The paper's figures are dashed, our goals diamonds."""
    figure, axes = _figure(title, 7.4, 4.8)
    values: list[float] = []
    shown = _of_series(cells, colours)
    for series, colour, own in shown:
        own = sorted(own, key=lambda cell: getattr(cell, axis))

        def points(
            figure_of: Callable[[Measured], float | None], own: Sequence[Measured] = own
        ) -> tuple[list[int], list[float]]:
            found = [(getattr(cell, axis), figure_of(cell)) for cell in own]
            known = [(x, y) for x, y in found if y is not None]
            values.extend(y for _, y in known)
            return [x for x, _ in known], [y for _, y in known]

        axes.plot(*points(lambda cell: cell.peak_mb), color=colour, marker="o", markersize=4.5, label=series, zorder=3)
        axes.plot(*points(lambda cell: cell.paper_mb), color=colour, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.scatter(*points(lambda cell: cell.goal_mb), **_goal(colour), zorder=4)
    numbers = sorted({getattr(cell, axis) for cell in cells})
    if axis != "layers":
        axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel(_X_LABELS[axis])
    axes.set_ylabel(PEAK)
    _log_megabytes(axes, values)
    _legend(figure, axes, [cell for _, _, own in shown for cell in own])
    return figure


def by_model(cells: Sequence[Measured], title: str, colours: Mapping[str, str]) -> "Figure":
    """A group of bars for each model, a bar for each series. The paper's figures are dashed lines, our goals diamonds."""
    figure, axes = _figure(title, 7.4, 4.8)
    models = list(dict.fromkeys(cell.model for cell in cells))
    shown = _of_series(cells, colours)
    width = 0.84 / len(shown)
    for i, (series, colour, own) in enumerate(shown):
        places = [models.index(cell.model) + (i - (len(shown) - 1) / 2) * width for cell in own]
        axes.bar(places, [cell.peak_mb for cell in own], width * 0.88, color=colour, label=series)
        for place, cell in zip(places, own, strict=True):
            at_foot: Any = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{cell.peak_mb:.0f}", (place, 0), **at_foot, fontsize=8, fontweight="bold", color="white")
            if cell.paper_mb is not None:
                ends = [place - width * 0.48, place + width * 0.48]
                axes.plot(ends, [cell.paper_mb] * 2, color=colour, linestyle=(0, (2.5, 1.5)), linewidth=1.8)
            if cell.goal_mb is not None:
                axes.scatter([place], [cell.goal_mb], **_goal(TEXT), zorder=4)
    axes.set_xticks(range(len(models)), models)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(PEAK)
    axes.set_ylim(bottom=0)
    _legend(figure, axes, [cell for _, _, own in shown for cell in own])
    return figure


def by_method(cells: Sequence[Measured], title: str, colours: Mapping[str, str]) -> "Figure":
    """A bar for each series of one row of the table, with its peak as a number at its end."""
    figure, axes = _figure(title, 7.4, 1.2 + 0.36 * len(cells))
    names = [cell.series for cell in cells]
    bars = axes.barh(names, [cell.peak_mb for cell in cells], 0.66, color=[colours[name] for name in names])
    axes.bar_label(bars, fmt="{:,.1f}", padding=5, fontsize=9.5)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(PEAK)
    return figure


def _goal(colour: str) -> dict[str, Any]:
    """The style of our goals."""
    return {"marker": "D", "s": 26, "facecolor": "white", "edgecolor": colour, "linewidth": 1.4}


def _log_megabytes(axes: "Axes", values: Sequence[float]) -> None:
    """A logarithmic axis whose ends are round numbers, with plain numbers on it."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_yscale("log")
    round_numbers = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 1.5, 2, 3, 5, 7)]
    low = max(number for number in round_numbers if number <= min(values) * 0.95)
    high = min(number for number in round_numbers if number >= max(values) * 1.05)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator([number for number in round_numbers if low <= number <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:,g}")


def _legend(figure: "Figure", axes: "Axes", cells: Sequence[Measured]) -> None:
    """The series, and what dashes and diamonds mean where there are any."""
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    if any(cell.paper_mb is not None for cell in cells):
        handles.append(Line2D([], [], color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2, label="the paper's, dashed"))
    if any(cell.goal_mb is not None for cell in cells):
        style: Any = {"marker": "D", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.4}
        handles.append(Line2D([], [], color=QUIET, linestyle="", label="our goal", **style))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)


# --- Inside of a cell -------------------------------------------------------------------------------------------------


def parts(cells: Sequence[Measured], title: str) -> "Figure":
    """A bar for each cell, stacked from the parts of its peak, with the peak as a number at its end."""
    figure, axes = _figure(title, 7.4, 1.9 + 0.36 * len(cells))
    names = list(dict.fromkeys([*PART_COLOURS, *(name for cell in cells for name in cell.parts_mb or {})]))
    rows = [row_title(cell) for cell in cells]
    left = [0.0] * len(cells)
    for name in names:
        widths = [(cell.parts_mb or {}).get(name, 0.0) for cell in cells]
        if any(widths):
            colour = PART_COLOURS.get(name, OTHER_PART)
            axes.barh(rows, widths, 0.66, left=left, color=colour, edgecolor="white", linewidth=0.6, label=name)
            left = [start + size for start, size in zip(left, widths, strict=True)]
    for row, cell in zip(rows, cells, strict=True):
        axes.annotate(
            f"{cell.peak_mb:.1f}", (cell.peak_mb, row), (5, 0), textcoords="offset points", va="center", fontsize=9.5
        )
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(PEAK)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def steps(cells: Sequence[Measured], title: str) -> "Figure":
    """A panel for each cell, all of the same height: the first step coloured by phase, and the last step dotted."""
    from matplotlib.lines import Line2D

    columns = min(len(cells), 3)
    lines = -(-len(cells) // columns)
    figure, grid = _panels(title, lines, columns)
    seen: dict[str, str] = {}
    for axes, cell in zip(grid, cells, strict=False):
        samples = cell.samples or {}
        axes.plot(*_step_points(samples["first"]), color=FAINT, linewidth=1.0, zorder=2)
        axes.plot(*_step_points(samples["last"]), color="#9aa0a6", linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=2)
        for kind, stretch in groupby(samples["first"], key=kind_of_phase):
            colour = seen.setdefault(kind, PHASE_COLOURS.get(kind, OTHER_PART))
            axes.plot(*_step_points(list(stretch)), color=colour, marker=".", markersize=5, linewidth=1.2, zorder=3)
        axes.set_title(f"{cell.series}, peak {cell.peak_mb:.1f} MB", fontsize=10.5, loc="left", color=TEXT)
        axes.set_xlabel("seconds of the step")
    for axes in grid[len(cells) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel("over idle, MB")
    grid[0].set_ylim(0, 1.08 * max(cell.peak_mb for cell in cells))
    handles = [Line2D([], [], color=colour, marker="o", markersize=4, label=kind) for kind, colour in seen.items()]
    handles.append(Line2D([], [], color="#9aa0a6", linestyle=(0, (1, 1.5)), linewidth=1.0, label="the last step"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6 if columns == 3 else 3, frameon=False)
    return figure


def _step_points(samples: Samples) -> tuple[list[float], list[float]]:
    return [sample[0] for sample in samples], [sample[2] / MB for sample in samples]


# --- Style ------------------------------------------------------------------------------------------------------------


@contextmanager
def style() -> Iterator[None]:
    """Dark on white, with a title: these plots stand alone."""
    import matplotlib

    settings: Any = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), TEXT),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e3e5e8",
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
        "font.family": "sans-serif",
        "font.size": 10.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "mesp",
    }
    with matplotlib.rc_context(settings):
        yield


def _figure(title: str, width: float, height: float) -> "tuple[Figure, Axes]":
    figure, (axes,) = _panels(title, 1, 1, (width, height))
    return figure, axes


def _panels(
    title: str, lines: int, columns: int, size: tuple[float, float] | None = None
) -> "tuple[Figure, list[Axes]]":
    """A figure with a title and so many panels of one height, line by line."""
    from matplotlib.figure import Figure

    width, height = size or (max(3.3 * columns, 6.0), 1.3 + 2.5 * lines)
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold", color=TEXT)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    return figure, list(grid.flat)
