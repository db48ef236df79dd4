"""``mesp bench``: measures the cells of a table one after the other, and writes the results. Cells that are done are not measured again.

FOLDER/cells/NAME.json    a cell, done or failed, with its definition
FOLDER/bundle/            the bundle of the cell that runs
FOLDER/logs/NAME.log      what a cell's processes wrote to standard error
FOLDER/results.json       all cells, the figures to compare with, versions and machine
FOLDER/results.md, plots/ the same for a person
"""

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

from .cell import HERE, Tell, Trainer, run_cell
from .definition import Cell, Table
from .plots import draw
from .reader import read_table
from .results import RESULTS, Measured, write_results


@dataclass(frozen=True)
class BenchOptions:
    """What a person chooses, apart from the table.

    Args:
        cells: names of those to run; none for all
        repeats: instead of the table's
        keep_bundles: leave every cell's bundle for the next time, and use one that was left, if its export settings are the same
        trainer: this machine, or a phone
        program: the words before the table on the command line, for the results
    """

    cells: tuple[str, ...] = ()
    repeats: int | None = None
    keep_bundles: bool = False
    trainer: Trainer = HERE
    program: str = "mesp bench"

    def command(self, table: Path, folder: Path) -> str:
        """The command line of this bench."""
        words = [*shlex.split(self.program), str(table), "-o", str(folder)]
        words += [word for name in self.cells for word in ("--cell", name)]
        words += ["--repeats", str(self.repeats)] if self.repeats is not None else []
        return shlex.join(words + ["--keep-bundles"] * self.keep_bundles)


def bench(path: Path, folder: Path, options: BenchOptions, console: Console) -> bool:
    """Runs a table's cells and writes the results of all that are done. Returns whether all cells that were asked for are done.

    Raises:
        UsageError: a definition or an option that cannot be used; nothing is run.
    """
    table = read_table(path)
    if options.repeats is not None:
        if options.repeats < 1:
            raise UsageError(f"--repeats {options.repeats} must be at least 1.")
        table = table.repeated(options.repeats)
    chosen = table.chosen(options.cells)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    done = [_run(cell, folder, options, f"[{number}/{len(chosen)}]", console) for number, cell in enumerate(chosen, 1)]
    write_results(folder / RESULTS, _results(table, folder, options.command(path, folder)))
    page, *plots = draw(folder / RESULTS)
    console.print(f"{folder / RESULTS}, {page.name} and {len(plots)} plots", highlight=False, soft_wrap=True)
    return all(done)


def _run(cell: Cell, folder: Path, options: BenchOptions, number: str, console: Console) -> bool:
    """Runs a cell unless it is done, and writes its JSON. Returns whether it is done."""

    def say(text: str) -> None:
        console.print(f"{number} {cell.name}  {text}", highlight=False, markup=False, soft_wrap=True)

    before = _read(folder, cell)
    definition = cell.definition()
    if before and before["definition"] != definition:
        old = before["definition"]
        changed = sorted(name for name in old.keys() | definition.keys() if old.get(name) != definition.get(name))
        say(f"was measured with another {', '.join(changed)}: it is run again")
    elif before and before["status"] == "done":
        if len(before["repeats"]) >= cell.repeats:
            say(f"{_line(cell, before)}, measured before")
            return True
        say(f"was measured {len(before['repeats'])} of {cell.repeats} times: it is run again")
    start = time.monotonic()
    result: dict[str, Any] = {"definition": definition, "status": "done", "reason": None}
    try:
        with _elapsed(console, say) as tell:
            result |= run_cell(cell, folder, options.keep_bundles, options.trainer, tell)
    except MespError as error:
        result |= {"status": "failed", "reason": str(error)}
    result |= {"seconds": time.monotonic() - start, "environment": environment()}
    write_json(_place(folder, cell), result)
    say(f"{_line(cell, result)}, {result['seconds']:.0f} s in all")
    return bool(result["status"] == "done")


@contextmanager
def _elapsed(console: Console, say: Tell) -> Iterator[Tell]:
    """On a terminal, shows what is running and for how long. Elsewhere prints a line when it begins."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: list[Any] = []

        def tell(what: str) -> None:
            if tasks:
                shown.remove_task(tasks.pop())
            tasks.append(shown.add_task(what))
            if not console.is_terminal:
                say(what)

        yield tell


def _line(cell: Cell, result: dict[str, Any]) -> str:
    """A cell's figures in a line."""
    if result["status"] == "failed":
        return f"failed: {result['reason']}"
    measured = Measured.of(cell.name, _with_figures(cell, result))
    peak = measured.peak_mb
    words = [f"{peak:.1f} MB over idle"]
    if measured.resident_mb is not None:
        words.append(f"{measured.resident_mb:,.0f} as top shows it")
    if cell.paper_mb:
        words.append(f"the paper's {cell.paper_mb:g} × {peak / cell.paper_mb:.2f}")
    if cell.goal_mb:
        words.append(
            f"goal {cell.goal_mb:g} {'met' if peak <= cell.goal_mb else f'missed by {peak - cell.goal_mb:.1f}'}"
        )
    if measured.plan_error is not None:
        words.append(f"planned {measured.plan_mb:.1f} ({measured.plan_error:+.1%})")
    return ", ".join([*words, f"{measured.step_seconds:.2f} s a step"])


def _place(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def _read(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """A cell's JSON, None if there is none.

    Raises:
        UsageError: it is damaged.
    """
    path = _place(folder, cell)
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {**value, "definition": dict(value["definition"]), "status": str(value["status"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error!r}). Remove it to have the cell run again.") from error


def _with_figures(cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "row": cell.row, "paper_mb": cell.paper_mb, "goal_mb": cell.goal_mb}


def _results(table: Table, folder: Path, command: str) -> dict[str, Any]:
    """The contents of results.json: the cells whose JSON has the table's definition, in the table's order."""
    cells = {}
    for cell in table.cells:
        result = _read(folder, cell)
        if result and result["definition"] == cell.definition():
            cells[cell.name] = _with_figures(cell, result)
    return {
        "title": table.title,
        "command": command,
        "environment": environment(),
        "phone": next((cell["phone"] for cell in cells.values() if cell.get("phone")), None),
        "series": table.series,
        "cells": cells,
    }
