"""Draws a results.json: results.md, and plots as SVG. A series has the same colour in every plot."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.files import replacing, write_text

from .drawings import COLOURS, by_method, by_model, by_number, layers_of, parts, row_title, steps, style
from .page import markdown
from .results import RESULTS, Measured, Results, read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(path: Path) -> list[Path]:
    """Writes results.md and plots/ into the folder of a results.json. Returns the paths, the page first.

    Args:
        path: results.json, or its folder

    Raises:
        UsageError: it is no results.json.
    """
    path = path / RESULTS if path.is_dir() else path
    results = read_results(path)
    folder = path.parent / "plots"
    shutil.rmtree(folder, ignore_errors=True)
    written = []
    for name, title, figure in plots(results):
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{name}.svg") as new:
            figure.savefig(new, format="svg", metadata={"Date": None, "Title": title})
        written.append((title, folder / f"{name}.svg"))
    page = path.parent / "results.md"
    write_text(page, markdown(results, [(title, file.relative_to(path.parent)) for title, file in written]))
    return [page, *(file for _, file in written)]


def plots(results: Results) -> Iterator[tuple[str, str, "Figure"]]:
    """(file name, title, figure) of each plot that the results have numbers for."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(results.series)}
    with style():
        for cells in _sweeps(results.cells, "tokens"):
            first = cells[0]
            title = f"Memory by sequence length: {first.model}, rank {first.rank}{layers_of(first)}"
            yield (
                _name("tokens", first.model, f"r{first.rank}", first),
                title,
                by_number(cells, title, "tokens", colours),
            )
        for cells in _sweeps(results.cells, "rank"):
            first = cells[0]
            title = f"Memory by rank: {first.model}, {first.tokens:,} tokens{layers_of(first)}"
            yield _name("rank", first.model, str(first.tokens), first), title, by_number(cells, title, "rank", colours)
        for cells in _sweeps([cell for cell in results.cells if cell.layers is not None], "layers"):
            first = cells[0]
            title = f"Memory by layers with adapters: {first.model}, {first.tokens:,} tokens, rank {first.rank}"
            name = f"layers-{first.model}-{first.tokens}-r{first.rank}"
            yield name, title, by_number(cells, title, "layers", colours)
        for cells in _sweeps(results.cells, "model"):
            first = cells[0]
            title = f"Memory by model: {first.tokens:,} tokens, rank {first.rank}{layers_of(first)}"
            yield _name("model", str(first.tokens), f"r{first.rank}", first), title, by_model(cells, title, colours)
        for row, cells in _rows(results.cells):
            if len(cells) > 1 and any(cell.baseline for cell in cells):
                title = f"Memory by method: {row_title(cells[0])}"
                yield f"method-{row}", title, by_method(cells, title, colours)
        for series in results.shown_series:
            divided = [cell for cell in results.cells if cell.series == series and cell.parts_mb]
            if divided:
                title = f"Where every megabyte is: {series}"
                yield f"parts-{series}", title, parts(divided, title)
        for row, cells in _rows(results.cells):
            sampled = [cell for cell in cells if cell.samples]
            if sampled:
                title = f"Memory over a step: {row_title(sampled[0])}"
                yield f"step-{row}", title, steps(sampled, title)


# --- What belongs into one plot ---------------------------------------------------------------------------------------


def _sweeps(cells: Sequence[Measured], axis: str) -> Iterator[list[Measured]]:
    """Groups of cells that differ in one axis, and in their series. The axis has at least two values in each."""
    fixed = [name for name in ("model", "tokens", "rank", "layers") if name != axis]

    def key(cell: Measured) -> tuple[Any, ...]:
        return tuple(getattr(cell, name) for name in fixed)

    for value in dict.fromkeys(map(key, cells)):
        group = [cell for cell in cells if key(cell) == value]
        if len({getattr(cell, axis) for cell in group}) > 1:
            yield group


def _rows(cells: Sequence[Measured]) -> Iterator[tuple[str, list[Measured]]]:
    """(row, its cells): cells of a row differ only in their series."""
    for row in dict.fromkeys(cell.row for cell in cells):
        yield row, [cell for cell in cells if cell.row == row]


def _name(kind: str, one: str, two: str, cell: Measured) -> str:
    return f"{kind}-{one}-{two}" + ("" if cell.layers is None else f"-l{cell.layers}")
