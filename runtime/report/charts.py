"""Charts as SVG that stands in a page. Text and axes take the page's text colour, so they are legible on light and dark; the colours of
the data are legible on both."""

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

# Of the lines of a chart, in order.
COLOURS = ("#2b7de9", "#e8710a", "#1e9e4a", "#d6249f", "#8e63ce", "#0f9d9d", "#b8860b", "#e5484d")
PEAK = "#e5484d"

FAINT = {"alpha": 0.45, "linewidth": 0.8}
POINTS = {"marker": "o", "markersize": 4, "linestyle": "--", "linewidth": 1.0}
SAMPLES = {"marker": ".", "markersize": 4, "linewidth": 0.8}
THIN = {"linewidth": 0.8}

# A line is drawn with at most this many points: more than the pixels of a phone, and a file of some tens of kilobytes a line.
MOST_POINTS = 1000
# Stands for the page's text colour until the SVG is written.
_TEXT = "#010203"


@dataclass(frozen=True)
class Line:
    """What is drawn as one line; ``style`` is one of the above, ``label`` is for the chart's own legend."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    label: str = ""
    style: Mapping[str, Any] = field(default_factory=dict)


def series(lines: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """Two fields of a log's lines, without the lines where the second is not a finite number."""
    kept = [line for line in lines if line.get(y) is not None and math.isfinite(line[y])]
    return [line[x] for line in kept], [line[y] for line in kept]


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, a tenth of all at most."""
    window, total, means = window_of(values), 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means


def window_of(values: Sequence[float]) -> int:
    """How many values ``smooth`` takes the mean of."""
    return max(1, len(values) // 10)


def thin(x: Sequence[float], y: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """At most ``MOST_POINTS`` of a line's points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(y) <= MOST_POINTS:
        return x, y
    kept = []
    stretches = MOST_POINTS // 2
    for i in range(stretches):
        stretch = range(i * len(y) // stretches, (i + 1) * len(y) // stretches)
        kept += sorted({min(stretch, key=y.__getitem__), max(stretch, key=y.__getitem__)})
    return [x[i] for i in kept], [y[i] for i in kept]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    log: bool = False,
    from_zero: bool = False,
    peak: float | None = None,
) -> str:
    """Lines over a number; ``peak`` is marked and labelled in MB."""
    from matplotlib.ticker import MaxNLocator

    with _axes(title) as (axes, svg):
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log:
            _log_scale(axes, lines)
        else:
            axes.yaxis.set_major_formatter("{x:g}")
        for line in lines:
            x, y = thin(line.x, line.y)
            style = line.style if len(y) > 1 else {**line.style, "marker": "o", "markersize": 4}
            axes.plot(x, y, color=line.colour, label=line.label or "_", **style)
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=x_label == "step"))
        if peak is not None:
            _mark_peak(axes, peak)
        if any(line.label for line in lines):
            axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return svg.getvalue()


def bar_chart(title: str, x_label: str, bars: Mapping[str, float], colours: Mapping[str, str]) -> str:
    """Horizontal bars from the top down, each with its value."""
    with _axes(title, height=0.8 + 0.36 * len(bars)) as (axes, svg):
        axes.set_xlabel(x_label)
        axes.grid(visible=False, axis="y")
        drawn = axes.barh(list(bars), list(bars.values()), color=[colours[name] for name in bars], height=0.65)
        axes.bar_label(drawn, fmt="{:.1f}", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
    return svg.getvalue()


def _log_scale(axes: "Axes", lines: Sequence[Line]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    if not any(value > 0 for line in lines for value in line.y):
        return  # nothing that a logarithmic axis could show
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark_peak(axes: "Axes", peak: float) -> None:
    axes.axhline(peak, color=PEAK, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, peak * 1.18)
    axes.annotate(f"peak {peak:.1f} MB", (0.02, peak * 1.03), xycoords=("axes fraction", "data"), color=PEAK)


@contextmanager
def _axes(title: str, height: float = 3.6) -> "Iterator[tuple[Axes, io.StringIO]]":
    """A small figure with large type, legible at the width of a phone, and the text that it becomes at the end."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), _TEXT),
        "grid.color": _TEXT,
        "grid.alpha": 0.15,
        "font.family": "sans-serif",
        "font.size": 11,
        "svg.fonttype": "none",
        "svg.hashsalt": "mesp",
    }
    with matplotlib.rc_context(settings):
        figure, svg = Figure(figsize=(5.4, height), layout="constrained", facecolor="none"), io.StringIO()
        axes = figure.add_subplot(facecolor="none")
        axes.grid()
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes, svg
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": title})
    text = drawn.getvalue()
    svg.write(text[text.index("<svg") :].replace(_TEXT, "currentColor"))
