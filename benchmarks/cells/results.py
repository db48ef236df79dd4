"""results.json: written so that a person can read it, and read back as the figures that are quoted of each cell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mesp.runtime.errors import UsageError
from mesp.runtime.files import write_text

from .parts import Samples

RESULTS = "results.json"
MB = 1e6


@dataclass(frozen=True)
class Measured:
    """A cell that was measured. All sizes are MB of a million bytes."""

    name: str
    row: str  # cells of a row differ only in their series
    series: str
    model: str
    tokens: int
    rank: int
    layers: int | None
    paper_mb: float | None
    goal_mb: float | None
    peaks_mb: list[float]  # over idle, of each repeat
    resident_mb: float | None  # at most, as top shows it: median of the repeats; None where it was not measured
    gap: tuple[
        float, str | None
    ]  # the longest without a sample in any repeat: seconds, and its phase where it is known
    step_seconds: float  # median; without the first step of each process, which reads the weights from the disk
    plan_mb: float | None
    parts_mb: dict[str, float] | None
    samples: dict[str, Samples] | None
    export: dict[str, Any] | None
    bundle_bytes: dict[str, int] | None
    baseline: dict[str, Any] | None

    @staticmethod
    def of(name: str, cell: dict[str, Any]) -> "Measured":
        """From a cell of results.json."""
        definition, plan, parts = cell["definition"], cell["plan"] or {}, cell["parts"]
        return Measured(
            name=name,
            row=cell["row"],
            series=definition["series"],
            model=definition["model"],
            tokens=definition["tokens"],
            rank=definition["rank"],
            layers=definition["layers"],
            paper_mb=cell["paper_mb"],
            goal_mb=cell["goal_mb"],
            peaks_mb=[repeat["memory"]["delta_footprint_bytes"] / MB for repeat in cell["repeats"]],
            resident_mb=_median_mb([repeat["memory"].get("vm_hwm_bytes") for repeat in cell["repeats"]]),
            gap=max((_gap(repeat["memory"]) for repeat in cell["repeats"]), key=lambda gap: gap[0]),
            step_seconds=median(repeat["step_seconds"]["median"] for repeat in cell["repeats"]),
            plan_mb=sum(plan.values()) / MB if plan else None,
            parts_mb={part: size / MB for part, size in parts.items()} if parts else None,
            samples=cell["samples"],
            export=cell["export"],
            bundle_bytes=cell["bundle_bytes"],
            baseline=cell["baseline"],
        )

    @property
    def peak_mb(self) -> float:
        """The median of the repeats."""
        return median(self.peaks_mb)

    @property
    def plan_error(self) -> float | None:
        """The prediction's distance from the peak, as a fraction of the peak."""
        return None if self.plan_mb is None else self.plan_mb / self.peak_mb - 1


def _median_mb(sizes: Sequence[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return median(known) / MB if known else None


def _gap(memory: Mapping[str, Any]) -> tuple[float, str | None]:
    return memory.get("longest_gap_seconds", 0.0), memory.get("longest_gap_phase")


@dataclass(frozen=True)
class Results:
    """A results.json."""

    title: str
    command: str
    environment: dict[str, Any]
    phone: dict[str, Any] | None  # of its runs' report.json; None where this machine trained
    series: list[str]
    cells: list[Measured]
    failed: dict[str, str]  # cell to reason
    elsewhere: dict[str, list[str]]  # cells by processor, of those that were measured on another one

    @property
    def shown_series(self) -> list[str]:
        """The series that have a measured cell."""
        return [name for name in self.series if any(cell.series == name for cell in self.cells)]


def read_results(path: Path) -> Results:
    """Reads results.json.

    Raises:
        UsageError: it cannot be read, or is not what ``write_results`` writes.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        cells = values["cells"]
        return Results(
            values["title"],
            values["command"],
            values["environment"],
            values.get("phone"),
            values["series"],
            [Measured.of(name, cell) for name, cell in cells.items() if cell["status"] == "done"],
            {name: cell["reason"] for name, cell in cells.items() if cell["status"] == "failed"},
            _elsewhere(cells, values["environment"]["processor"]),
        )
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}). Expected the {RESULTS} of: mesp bench.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is not what mesp bench writes ({error!r}). Run the bench again to write it anew."
        ) from error


def _elsewhere(cells: Mapping[str, Any], processor: str) -> dict[str, list[str]]:
    """Cells by processor, of those that were measured on another one: a bench may be continued on another machine."""
    found: dict[str, list[str]] = {}
    for name, cell in cells.items():
        other = cell.get("environment", {}).get("processor", processor)
        if other != processor and cell["status"] == "done":
            found.setdefault(other, []).append(name)
    return found


# --- Writing ----------------------------------------------------------------------------------------------------------


def write_results(path: Path, values: Mapping[str, Any]) -> None:
    """Writes results.json: an object or a list that has no others in it is on one line."""
    write_text(path, _indented(values, 1) + "\n")


def _indented(value: Any, depth: int) -> str:
    if isinstance(value, Mapping):
        inner, ends = [f"{json.dumps(name)}: {_indented(item, depth + 1)}" for name, item in value.items()], "{}"
    elif isinstance(value, list):
        inner, ends = [_indented(item, depth + 1) for item in value], "[]"
    else:
        return json.dumps(value)
    items = value.values() if isinstance(value, Mapping) else value
    if not any(isinstance(item, Mapping | list) and item for item in items):
        return f"{ends[0]}{', '.join(inner)}{ends[1]}"
    lines = f",\n{' ' * depth}".join(inner)
    return f"{ends[0]}\n{' ' * depth}{lines}\n{' ' * (depth - 1)}{ends[1]}"
