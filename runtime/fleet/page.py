"""report.html of a fleet: loss by round and client, memory, time, and who took part."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..contract.run_files import PAGE, REPORT
from ..errors import UsageError
from ..files import read_json_object
from ..report.charts import COLOURS, Chart, Line, line_chart
from ..report.headline import Card, arrow
from ..report.pages import render
from ..report.words import MB, duration, megabytes, perplexity
from .folder import FLEET, FleetFolder, Part, Round

_TONES = {"done": "good", "failed": "bad"}


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Draws a fleet from the files of its folder, also one that was not finished; returns the page's path.

    Raises:
        UsageError: not a fleet's folder, or a file in it that is damaged.
    """
    if not (folder / FLEET).is_file():
        raise UsageError(f"{folder} is not a fleet's folder: it has no {FLEET}.")
    page, about = output or folder / PAGE, read_json_object(folder / FLEET, "what a fleet was started with")
    report = (
        read_json_object(folder / REPORT, "what a fleet came to")
        if (folder / REPORT).is_file()
        else {"status": "unfinished"}
    )
    rounds = FleetFolder(folder).rounds()
    values = {
        "title": f"A fleet with {Path(about['model']).name}",
        "about": _about(folder, about),
        "reason": report.get("reason"),
        "cards": _cards(report, rounds),
        "loss": _losses(rounds),
        "charts": list(_charts(rounds)),
        "rounds": [_round_row(round_) for round_ in rounds if round_.round],
        "clients": [_client_row(name, rounds) for name in _names(rounds)],
        "settings": {name: [_shown(value)] for name, value in about.items() if value not in ({}, None)},
    }
    render(page, "fleet.html.jinja", values)
    return page


def _about(folder: Path, about: dict[str, Any]) -> str:
    train, privacy = about["train"], about["privacy"]["mode"]
    words = [folder.resolve().name, about["strategy"], *(f"{name} {value}" for name, value in train.items())]
    return " · ".join(words if privacy == "none" else [*words, f"privacy: {privacy}"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)


def _names(rounds: Sequence[Round]) -> list[str]:
    return list(dict.fromkeys(part.name for round_ in rounds for part in round_.clients))


def _cards(report: dict[str, Any], rounds: Sequence[Round]) -> list[Card]:
    losses = [round_.loss for round_ in rounds if round_.loss is not None]
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    notes = (f"perplexity {arrow(perplexity(first), perplexity(last), 1)}", "over everybody's held-out rows")
    trained = [part.training for round_ in rounds for part in round_.clients if part.training]
    peak = max((figures.get("delta-footprint-bytes", 0.0) for figures in trained), default=0.0)
    seconds = sum(round_.seconds for round_ in rounds)
    done = sum(round_.round > 0 and round_.counted for round_ in rounds)
    return [
        Card(
            "Held-out loss, first to last round", arrow(first, last, 3), notes if losses else ("nobody held rows out",)
        ),
        Card("A client's peak over idle", megabytes(peak) if peak else "not known", ("the largest of all rounds",)),
        Card("Time", duration(seconds), (f"{len(_names(rounds))} clients",)),
        Card("Status", str(report["status"]), (f"{done} rounds count",), _TONES.get(str(report["status"]), "")),
    ]


def _losses(rounds: Sequence[Round]) -> Chart | None:
    """The common adapter's held-out loss: over all rows, and on each client's."""
    known = [round_ for round_ in rounds if round_.loss is not None]
    if not known:
        return None
    all_ = Line(
        [round_.round for round_ in known], [round_.loss or 0.0 for round_ in known], "c0", "all", "points", values=True
    )
    own = _lines(rounds, lambda part: (part.evaluation or {}).get("loss"))
    return line_chart(
        "Held-out loss of the common adapter",
        "round",
        "loss",
        [*own, all_],
        note="At the left, before the first round.",
    )


def _charts(rounds: Sequence[Round]) -> Iterator[Chart]:
    trained: list[tuple[str, str, str, float, bool]] = [
        ("Training loss, mean of the round", "loss", "loss", 1.0, False),
        ("Peak over idle", "delta-footprint-bytes", "MB", MB, True),
        ("Time of the steps", "seconds", "seconds", 1.0, True),
    ]
    for title, key, label, unit, from_zero in trained:
        lines = _lines(rounds, lambda part, key=key, unit=unit: _of(part, key, unit))  # type: ignore[misc]
        if lines:
            yield line_chart(title, "round", label, lines, from_zero=from_zero)
    after = [round_ for round_ in rounds if round_.round]
    if after:
        x = [float(round_.round) for round_ in after]
        peaks, seconds = [round_.server_peak_bytes / MB for round_ in after], [round_.seconds for round_ in after]
        yield line_chart(
            "Server's peak, resident", "round", "MB", [Line(x, peaks, "c0", kind="points")], from_zero=True
        )
        yield line_chart(
            "Time of the round", "round", "seconds", [Line(x, seconds, "c0", kind="points")], from_zero=True
        )


def _of(part: Part, key: str, unit: float) -> float | None:
    value = (part.training or {}).get(key)
    return None if value is None else value / unit


def _lines(rounds: Sequence[Round], value: Callable[[Part], float | None]) -> list[Line]:
    """A line for each client; those that find no colour are drawn faintly, and have no name."""
    lines = []
    for place, name in enumerate(_names(rounds), 1):
        pairs = [(round_.round, value(part)) for round_ in rounds for part in round_.clients if part.name == name]
        known = [(float(number), figure) for number, figure in pairs if figure is not None]
        if known:
            x, y = [number for number, _ in known], [figure for _, figure in known]
            few = place < COLOURS
            lines.append(
                Line(x, y, f"c{place if few else COLOURS - 1}", name if few else "", "line" if few else "faint")
            )
    return lines


def _round_row(round_: Round) -> dict[str, str]:
    reasons = [f"{part.name}: {part.reason}" for part in round_.clients if part.reason]
    return {
        "Round": str(round_.round),
        "Held-out loss": "" if round_.loss is None else f"{round_.loss:.4f}",
        "Adapters": f"{sum(part.training is not None for part in round_.clients)} of {len(round_.clients)}",
        "Time": duration(round_.seconds),
        "What went wrong": " ".join([*([f"Not counted: {round_.reason}."] if round_.reason else []), *reasons]),
    }


def _client_row(name: str, rounds: Sequence[Round]) -> dict[str, str]:
    parts = [part for round_ in rounds for part in round_.clients if part.name == name]
    trained = [part.training for part in parts if part.training]
    losses = [part.evaluation["loss"] for part in parts if part.evaluation]
    peak = max((figures.get("delta-footprint-bytes", 0.0) for figures in trained), default=0.0)
    return {
        "Client": name,
        "Where": next((part.where for part in parts if part.where), ""),
        "Rounds": str(len(trained)),
        "Targets": f"{sum(figures['targets'] for figures in trained):,.0f}",
        "Held-out loss": arrow(losses[0], losses[-1], 3) if losses else "",
        "Peak over idle": megabytes(peak) if peak else "",
        "Steps took": duration(sum(figures.get("seconds", 0.0) for figures in trained)),
    }
