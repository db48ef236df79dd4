"""Charts as HTML: lines are SVG that is stretched to the width of the page, and all text beside them is the page's own, so that it has the same
size on a phone and on a wide screen. Colours are the style sheet's, one set for light and one for dark.

A chart is worked out here, in fractions of its plot; ``parts.html.jinja`` writes it down.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

# How many lines have a colour of their own: c0, c1, ... of the style sheet.
COLOURS = 8
# A line is drawn with at most this many points: more than the pixels of a phone, and a file of some tens of kilobytes a line.
MOST_POINTS = 1000
# Of the plot's width and height: the units that lines are written in.
UNITS = 1000

# From the left and from above, in units.
Place = tuple[float, float]
Kind = Literal["line", "faint", "thin", "points", "area"]


@dataclass(frozen=True)
class Line:
    """What is drawn as one line.

    Args:
        x, y: as many of each
        colour: a class of the style sheet
        label: for the legend; empty for none
        kind: ``points`` are joined by a thin dashed line; an ``area`` is a bar from each x to where it ends
        values: the first and the last y stand beside their points
        ends: of an area's bars, as many as x
    """

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    label: str = ""
    kind: Kind = "line"
    values: bool = False
    ends: Sequence[float] = ()


@dataclass(frozen=True)
class Tick:
    """A text beside an axis, or in the plot; places are percentages of it."""

    place: float
    text: str


@dataclass(frozen=True)
class Drawn:
    """A line as SVG, so that it is seen where it lies on another one.

    Args:
        dots: of points
        dash: a pattern in pixels and where it begins, which leaves room for those that it lies on
        under: how many lines have points over its own, which are larger then
    """

    path: str
    dots: str
    colour: str
    label: str
    kind: Kind
    dash: tuple[str, int] | None
    under: int


@dataclass(frozen=True)
class Mark:
    """A text in the plot: percentages from the left and from below, and to which side of the place it stands."""

    left: float
    bottom: float
    text: str
    colour: str
    side: Literal["left", "right"]


@dataclass(frozen=True)
class Chart:
    """A chart as the template writes it down. ``level`` is a line across the plot, with its text."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Drawn]
    marks: Sequence[Mark]
    level: Tick | None
    note: str

    @property
    def longest(self) -> str:
        """The text of y's axis that needs the most room."""
        return max((tick.text for tick in self.y_ticks), key=len, default="")


@dataclass(frozen=True)
class Scale:
    """From a value to a fraction of an axis."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int, whole: bool = False) -> list[Tick]:
        """Round numbers on the axis, ``most`` at most."""
        values = _decades(self.low, self.high, most) if self.log else round_numbers(self.low, self.high, most, whole)
        return [Tick(_percent(self.at(value)), number(value)) for value in values]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    log: bool = False,
    from_zero: bool = False,
    level: float | None = None,
    level_text: str = "",
    note: str = "",
) -> Chart:
    """Lines over a number.

    Args:
        log: a logarithmic axis, where the values differ by more than a factor of twenty
        from_zero: the axis of y begins there
        level: a value of y that is drawn as a line across the plot, beside ``level_text``
    """
    thinned = [_drawable(line, log) for line in lines]
    x_scale = _scale([value for line in thinned for value in (*line.x, *line.ends)], margin=0.0)
    values = [value for line in thinned for value in line.y] + ([level] if level is not None else [])
    wide = log and bool(values) and max(values) > 20 * min(values)
    y_scale = _scale(values, margin=0.06, log=wide, from_zero=from_zero)
    places = [_places(line, x_scale, y_scale) for line in thinned]
    drawn = [
        Drawn(*_paths(line, own, x_scale), line.colour, line.label, line.kind, dash, under)
        for line, own, dash, under in zip(
            thinned, places, _dashes(thinned, places), _under(thinned, places), strict=True
        )
    ]
    return Chart(
        title,
        x_label,
        y_label,
        x_scale.ticks(6, whole=x_label.startswith("step")),
        y_scale.ticks(6),
        drawn,
        [mark for line in thinned if line.values for mark in _ends(line, x_scale, y_scale)],
        None if level is None else Tick(_percent(y_scale.at(level)), level_text),
        note,
    )


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


# --- Axes -------------------------------------------------------------------------------------------------------------


def round_numbers(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between two numbers, ``most`` at most; of whole numbers alone if asked to."""
    least = max((high - low) / most, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(least))
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10)]
    step = next(step for step in steps if step >= least * (1 - 1e-9) and not (whole and step % 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times the powers of ten between two numbers, or the powers alone, or every second one of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
        found = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            break
    return found


def number(value: float) -> str:
    """As short as it can be: 0.0005, 12,000, 1e-05."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _scale(values: Sequence[float], margin: float, log: bool = False, from_zero: bool = False) -> Scale:
    """An axis that has all the values, with a margin on both ends, and some length where all are equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log:
        factor = (high / low) ** margin
        return Scale(low / factor, high * factor, log=True)
    low = min(low, 0.0) if from_zero else low
    if low == high:
        room = abs(low) / 10 or 1.0
        return Scale(low if from_zero and low == 0 else low - room, high + room)
    room = (high - low) * margin
    return Scale(low if from_zero and low == 0 else low - room, high + room)


# --- Lines ------------------------------------------------------------------------------------------------------------


def _drawable(line: Line, log: bool) -> Line:
    """With at most ``MOST_POINTS``, without what a logarithmic axis does not have; one point alone is a dot."""
    x, y = (line.x, line.y) if line.kind == "area" else thin(line.x, line.y)
    if log:
        x, y = [a for a, b in zip(x, y, strict=True) if b > 0], [b for b in y if b > 0]
    return replace(line, x=x, y=y, kind="points" if len(x) == 1 and line.kind != "area" else line.kind)


def _places(line: Line, x: Scale, y: Scale) -> list[Place]:
    return [(UNITS * x.at(a), UNITS * (1 - y.at(b))) for a, b in zip(line.x, line.y, strict=True)]


def _paths(line: Line, places: Sequence[Place], x: Scale) -> tuple[str, str]:
    """The path of a line, and its dots if it has some."""
    points = [f"{_units(a)} {_units(b)}" for a, b in places]
    if line.kind == "area":
        bars = zip(places, line.ends, strict=True)
        return "".join(
            f"M{_units(a)} {_units(b)}H{_units(UNITS * x.at(end))}V{UNITS}H{_units(a)}Z" for (a, b), end in bars
        ), ""
    dots = "".join(f"M{point}h0" for point in points) if line.kind == "points" else ""
    return f"M{'L'.join(points)}" if points else "", dots


def _units(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ends(line: Line, x: Scale, y: Scale) -> list[Mark]:
    """The first value to the right of its point, and the last to the left of it."""
    sides: list[tuple[int, Literal["left", "right"]]] = [(0, "right"), (len(line.y) - 1, "left")]
    return [
        Mark(_percent(x.at(line.x[i])), _percent(y.at(line.y[i])), f"{line.y[i]:.3f}", line.colour, side)
        for i, side in sides[: len(line.y)]
    ]


def _percent(fraction: float) -> float:
    return round(100 * fraction, 3)


# --- Lines that lie on each other -------------------------------------------------------------------------------------

_DASH = 7  # pixels
_NEAR = UNITS / 100


def _dashes(lines: Sequence[Line], places: Sequence[Sequence[Place]]) -> list[tuple[str, int] | None]:
    """For lines that lie on each other, dashes that leave room for each other's; None for lines that are alone."""
    groups: list[list[int]] = []
    for i, line in enumerate(lines):
        group = next(
            (group for group in groups if line.kind == lines[group[0]].kind and _coincide(places[i], places[group[0]])),
            None,
        )
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    dashes: list[tuple[str, int] | None] = [None] * len(lines)
    for group in groups:
        for place, i in enumerate(group if len(group) > 1 else []):
            dashes[i] = (f"{_DASH} {_DASH * (len(group) - 1)}", -_DASH * place)
    return dashes


def _coincide(one: Sequence[Place], other: Sequence[Place]) -> bool:
    """Whether the shorter of two lines lies on the beginning of the other."""
    common = list(zip(one, other, strict=False))
    return len(common) > 1 and all(_near(a, b) for a, b in common)


def _under(lines: Sequence[Line], places: Sequence[Sequence[Place]]) -> list[int]:
    """For each line of points, how many later ones have a point over one of its own."""
    dotted = [own if line.kind == "points" else [] for line, own in zip(lines, places, strict=True)]
    return [
        sum(any(_near(a, b) for a in own for b in later) for later in dotted[i + 1 :]) for i, own in enumerate(dotted)
    ]


def _near(one: Place, other: Place) -> bool:
    return abs(one[0] - other[0]) < _NEAR and abs(one[1] - other[1]) < _NEAR
