"""The definition of a table, TOML, to its cells.

    title = "…"
    [defaults]                  of every sweep: rank, layers, weights, group_size, steps, repeats, methods
    [models]
    NAME = "FOLDER"             with a config.json; relative to the definition
    [methods]                   the columns that are more than the name of a method of `mesp export`
    NAME = { method = "mesp", offload = "inputs" }     also block_inputs = "float16", and optimizer = "adamw" (SGD is the default)
    [[sweeps]]                  the rows
    model = "NAME"              one of model, tokens, rank and layers may be a list, the sweep's axis
    tokens = [128, 256]
    paper.mesp = [110.7, 136.2] the paper's figure in MB, and with `goals` ours: one for each entry of the axis

Every row has a cell for each of the sweep's methods. A cell's name is made of what it is: 0.5b-256-r8-mesp.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesp.runtime.errors import UsageError

from .definition import BASELINES, Cell, Table

AXES = ("model", "tokens", "rank", "layers")
_DEFAULTS: dict[str, Any] = {
    "rank": 8,
    "layers": None,
    "weights": "int4",
    "group_size": 32,
    "steps": 3,
    "repeats": 1,
    "methods": ["mesp"],
}
# What a column may have beside its method: more of ExportSettings' fields, and the optimizer.
_EXPORT_OPTIONS = {"block_inputs": ("float32", "float16"), "offload": ("inputs",)}
_OPTIONS = {**_EXPORT_OPTIONS, "optimizer": ("sgd", "adamw")}
_NUMBERS = ("tokens", "rank", "layers", "group_size", "steps", "repeats")
_TEXTS = ("model", "weights")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_table(path: Path) -> Table:
    """Reads a definition.

    Raises:
        UsageError: it cannot be used; says where and why.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no table: {error}. Expected a TOML file as benchmarks/tables/paper.toml."
        ) from error
    try:
        return _Reader(path.parent, values).table()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


class _Reader:
    """Checks a definition's values, and makes its cells of them."""

    def __init__(self, folder: Path, values: Mapping[str, Any]):
        _known("the table", values, {"title", "defaults", "models", "methods", "sweeps"})
        self.values = values
        self.defaults = {**_DEFAULTS, **self._section("defaults")}
        _known("[defaults]", self.defaults, set(_DEFAULTS))
        self.models = {name: self._model(folder, name, value) for name, value in self._section("models").items()}
        self.methods = {name: self._method(name, value) for name, value in self._section("methods").items()}

    def table(self) -> Table:
        sweeps = self.values.get("sweeps")
        if not isinstance(self.values.get("title"), str):
            raise UsageError('there is no title, which heads the results: title = "…".')
        if not isinstance(sweeps, list) or not sweeps or not all(isinstance(sweep, dict) for sweep in sweeps):
            raise UsageError("there are no [[sweeps]]: at least one is needed, with a model and tokens.")
        cells = [cell for number, sweep in enumerate(sweeps, 1) for cell in self._sweep(f"sweep {number}", sweep)]
        names = [cell.name for cell in cells]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{', '.join(twice)} is there twice. Have each cell in one sweep alone.")
        return Table(self.values["title"], tuple(cells))

    def _section(self, name: str) -> dict[str, Any]:
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            raise UsageError(f"{name} is {value!r}, and must be a section: [{name}].")
        return value

    def _model(self, folder: Path, name: str, value: Any) -> Path:
        _check_name("model", name)
        if not isinstance(value, str) or not (folder / value / "config.json").is_file():
            raise UsageError(
                f"model {name} is {value!r}, which must be a folder with a config.json, seen from the table."
            )
        return folder / value

    def _method(self, name: str, value: Any) -> tuple[str, dict[str, str]]:
        """A column's method and its options."""
        _check_name("method", name)
        if not isinstance(value, dict) or not isinstance(value.get("method"), str):
            raise UsageError(f'method {name} is {value!r}, and must be as {{ method = "mesp", offload = "inputs" }}.')
        _known(f"method {name}", value, {"method", *_OPTIONS})
        options = {option: chosen for option, chosen in value.items() if option != "method"}
        for option, chosen in options.items():
            if chosen not in _OPTIONS[option]:
                raise UsageError(
                    f"method {name}: {option} is {chosen!r}, and must be one of: {', '.join(_OPTIONS[option])}."
                )
        if value["method"] in BASELINES:
            raise UsageError(f"method {name}: the baseline {value['method']} takes no options. Use it by its own name.")
        return value["method"], options

    def _sweep(self, where: str, sweep: Mapping[str, Any]) -> Iterator[Cell]:
        _known(where, sweep, {"model", "tokens", "paper", "goals", *_DEFAULTS})
        for name in ("model", "tokens"):
            if name not in sweep:
                raise UsageError(f"{where} has no {name}.")
        values = {**self.defaults, **sweep}
        axis, length = _axis(where, values)
        methods = values["methods"]
        if not isinstance(methods, list) or not methods or not all(isinstance(name, str) for name in methods):
            raise UsageError(f"{where}: methods is {methods!r}, and must be a list of names.")
        figures = {
            kind: _figures(f"{where}: {kind}", values.get(kind, {}), methods, length) for kind in ("paper", "goals")
        }
        for i in range(length):
            row = {**values, axis: values[axis][i]} if axis else values
            for series in methods:
                yield self._cell(
                    where, row, series, *(figures[kind].get(series, [None] * length)[i] for kind in figures)
                )

    def _cell(
        self, where: str, row: Mapping[str, Any], series: str, paper_mb: float | None, goal_mb: float | None
    ) -> Cell:
        _check_name("method", series)
        for name in _NUMBERS:
            if not (_is_number(row[name]) or (name == "layers" and row[name] is None)):
                raise UsageError(f"{where}: {name} is {row[name]!r}, and must be a whole number of at least 1.")
        for name in _TEXTS:
            if not isinstance(row[name], str):
                raise UsageError(f"{where}: {name} is {row[name]!r}, and must be a text.")
        if row["model"] not in self.models:
            raise UsageError(f"{where}: there is no model {row['model']!r}. [models] has: {', '.join(self.models)}.")
        method, options = self.methods.get(series, (series, {}))
        if method in BASELINES and row["layers"] is not None:
            raise UsageError(f"{where}: the baseline {method} has adapters in all layers. Leave out layers.")
        own = {name: row[name] for name in (*_NUMBERS, *_TEXTS)}
        return Cell(
            **own,
            series=series,
            configuration=self.models[row["model"]],
            method=method,
            options={name: value for name, value in options.items() if name in _EXPORT_OPTIONS},
            optimizer=options.get("optimizer", "sgd"),
            paper_mb=paper_mb,
            goal_mb=goal_mb,
        )


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _known(where: str, values: Mapping[str, Any], names: set[str]) -> None:
    if unknown := sorted(set(values) - names):
        raise UsageError(
            f"{where} has {', '.join(unknown)}, which is not known there. Known: {', '.join(sorted(names))}."
        )


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{kind} {name!r} is no name: letters, digits, '.', '_' and '-' are, as it becomes a file's.")


def _axis(where: str, values: Mapping[str, Any]) -> tuple[str | None, int]:
    """The sweep's axis and its length; None and 1 for a single row."""
    axes = [name for name in AXES if isinstance(values[name], list)]
    if len(axes) > 1:
        raise UsageError(f"{where}: {' and '.join(axes)} are lists. One can be: make a sweep of each.")
    if axes and not values[axes[0]]:
        raise UsageError(f"{where}: {axes[0]} is an empty list.")
    return (axes[0], len(values[axes[0]])) if axes else (None, 1)


def _figures(where: str, given: Any, methods: Sequence[str], length: int) -> dict[str, list[float]]:
    """MB by method: one for each row."""
    if not isinstance(given, dict):
        raise UsageError(
            f"{where} is {given!r}, and must have a method's figures each, as {where.split()[-1]}.mesp = 45."
        )
    figures = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    for name, values in figures.items():
        if name not in methods:
            raise UsageError(f"{where}.{name} is of no method of the sweep, which has: {', '.join(methods)}.")
        if len(values) != length or not all(_is_size(value) for value in values):
            raise UsageError(f"{where}.{name} is {given[name]!r}, and must be MB above 0, {length} of them.")
    return figures
