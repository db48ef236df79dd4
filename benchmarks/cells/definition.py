"""A table as a value: its cells, and how each is made. ``reader`` reads it from a file."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mesp.runtime.errors import UsageError

# Columns that are measured outside of our runtime: the module that does it, and its own options.
BASELINES: dict[str, tuple[str, ...]] = {
    "eager": ("mesp.bench.baselines.eager", "--no-checkpointing"),
    "eager-checkpointing": ("mesp.bench.baselines.eager", "--checkpointing"),
    "executorch": ("mesp.bench.baselines.executorch_training",),
}


@dataclass(frozen=True)
class Cell:
    """One figure of a table: what to run for it, and what to compare it with.

    Args:
        series: the column, which has one colour in every plot
        configuration: the model's folder, with a config.json
        method: of ``mesp export``, or a baseline's name
        options: more of ExportSettings' fields; none for a baseline
        optimizer: of our training; a baseline's is SGD
        paper_mb, goal_mb: None where there is none
    """

    model: str
    tokens: int
    rank: int
    layers: int | None
    series: str
    configuration: Path
    method: str
    weights: str
    group_size: int
    steps: int
    repeats: int
    options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    paper_mb: float | None = None
    goal_mb: float | None = None

    @property
    def row(self) -> str:
        """The name of the cell's row: cells of a row differ only in their series."""
        layers = "" if self.layers is None else f"-l{self.layers}"
        return f"{self.model}-{self.tokens}-r{self.rank}{layers}"

    @property
    def name(self) -> str:
        return f"{self.row}-{self.series}"

    @property
    def baseline(self) -> tuple[str, ...] | None:
        """The module outside of our runtime that measures this cell, and its options."""
        return BASELINES.get(self.method)

    def configuration_values(self) -> dict[str, Any]:
        """The model's config.json."""
        values: dict[str, Any] = json.loads((self.configuration / "config.json").read_text(encoding="utf-8"))
        return values

    def definition(self) -> dict[str, Any]:
        """What the cell's figures depend on, as JSON. If it changes, the cell is run again."""
        text = json.dumps(self.configuration_values(), sort_keys=True)
        names = ("model", "tokens", "rank", "layers", "series", "method", "weights", "group_size", "steps", "optimizer")
        return {
            **{name: getattr(self, name) for name in names},
            "options": dict(self.options),
            "configuration_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }

    def export_settings(self) -> dict[str, Any]:
        """The fields of ExportSettings that make this cell."""
        return {
            "seq_len": [self.tokens],
            "rank": self.rank,
            "layers": self.layers,
            "weights": self.weights,
            "group_size": self.group_size,
            "method": self.method,
            **self.options,
        }


@dataclass(frozen=True)
class Table:
    """All cells of a definition."""

    title: str
    cells: tuple[Cell, ...]

    @property
    def series(self) -> list[str]:
        """The columns, in the order in which they appear."""
        return list(dict.fromkeys(cell.series for cell in self.cells))

    def chosen(self, names: Sequence[str]) -> list[Cell]:
        """The cells of these names, all for no names.

        Raises:
            UsageError: a name that the table does not have.
        """
        known = {cell.name: cell for cell in self.cells}
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
                raise UsageError(f"The table has no cell {name!r}. Some that it has: {', '.join(near)}.")
        return [cell for cell in self.cells if not names or cell.name in names]

    def repeated(self, repeats: int) -> "Table":
        """The same table with so many repeats of every cell."""
        return replace(self, cells=tuple(replace(cell, repeats=repeats) for cell in self.cells))
