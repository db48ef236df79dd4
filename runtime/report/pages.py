"""Reports to look at, each one self-contained file: report.html of a run, and several runs beside each other."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..contract.run_files import PAGE
from ..errors import UsageError
from ..files import write_text
from . import comparison
from .charts import COLOURS, UNITS
from .figures import loss_chart, other_charts
from .headline import cards
from .memory_bar import bars
from .phone_rows import phone_rows
from .run_folder import RunFolder, read_run
from .words import settings_rows, summary, weights_in_words

if TYPE_CHECKING:
    from jinja2 import Environment

_PHONE = "Phone, and its memory from outside of the app"
_MEMORY_NOTE = (
    "Over the idle process: what training adds. The weights are read in place from the mapped file: the kernel can drop their pages at any "
    "time, and they are not counted here. top counts them, and the libraries."
)


def write_report(run: Path, output: Path | None = None) -> Path:
    """Draws a run from the files of its folder, also one that was not finished.

    Args:
        output: the page; report.html in the folder if not given

    Returns:
        The page's path.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged; an output that is not an .html file.
    """
    page, folder = _page(output or run / PAGE), read_run(run)
    drawn, ticks = bars({"": folder})
    values = {
        "title": f"Fine-tuning of {_model(folder) or 'a model'}",
        "about": _about(folder),
        "reason": folder.report.get("reason"),
        "cards": cards(folder),
        "loss": loss_chart(folder),
        "memory": drawn.get(""),
        "memory_ticks": ticks,
        "memory_note": _MEMORY_NOTE,
        "texts": folder.texts,
        "charts": other_charts(folder),
        "tables": {
            "All figures": _one(summary(folder.report)),
            _PHONE: _one(phone_rows(folder.device)),
            "Settings": _one(settings_rows(folder.settings)),
        },
    }
    render(page, "run.html.jinja", values)
    return page


def write_comparison(runs: Sequence[Path], output: Path) -> None:
    """Draws several runs into one page: what differs, what came of it, a line a run in the charts.

    Raises:
        UsageError: too few runs, too many, one twice, or one that is not a run folder; an output that is not an .html file.
    """
    _page(output)
    if not 2 <= len(runs) <= COLOURS:
        raise UsageError(f"{len(runs)} runs cannot be compared: expected 2 to {COLOURS}, one for each colour.")
    folders = {name: read_run(run) for name, run in zip(unique_names(runs), runs, strict=True)}
    drawn, ticks = bars(folders)
    values = {
        "title": f"{len(runs)} fine-tuning runs",
        "names": list(folders),
        "differences": comparison.differences(folders),
        "results": comparison.results(folders),
        "losses": comparison.loss_charts(folders),
        "memory": drawn,
        "memory_ticks": ticks,
        "memory_legend": {part.name: part.colour for bar in drawn.values() for part in bar.parts},
        "memory_note": _MEMORY_NOTE,
        "charts": comparison.other_charts(folders),
        "tables": {
            "What is the same": comparison.same(folders),
            "All figures": comparison.everything(folders),
            _PHONE: comparison.columns([phone_rows(folder.device) for folder in folders.values()]),
        },
    }
    render(output, "comparison.html.jinja", values)


def _page(output: Path) -> Path:
    if output.suffix != ".html":
        raise UsageError(f"{output} must be a file that ends in .html: a report is a page.")
    return output


def unique_names(runs: Sequence[Path]) -> list[str]:
    """The runs' folder names, with as many of the folders around them as it takes to tell them apart.

    Raises:
        UsageError: a run that is named twice.
    """
    paths = [run.resolve() for run in runs]
    if twice := next((run for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1), None):
        raise UsageError(f"{twice} is named twice. Name each run once.")
    names = [path.name for path in paths]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        names = [
            "/".join(path.parts[-depth:]) if names.count(name) > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return names


def _model(run: RunFolder) -> str | None:
    """The last part of its name: of a path, and of an id on the Hub. None of a run that was refused before it was known."""
    bundle = run.report["bundle"] or run.start.get("bundle")
    return PurePath(bundle["model"]).name if bundle else None


def _about(run: RunFolder) -> str:
    """Which run it is, and how it trained, in a line."""
    bundle, settings, words = (
        run.report["bundle"] or run.start.get("bundle"),
        run.settings,
        ["/".join(run.path.resolve().parts[-2:])],
    )
    if bundle:
        plan = bundle["plan"]
        words += [f"{' or '.join(map(str, plan['seq_len']))} tokens", f"weights {weights_in_words(plan)}"]
        words.append(f"{plan['method']}, rank {plan['rank']}")
    if "optimizer" in settings:
        words.append(f"{settings['optimizer']}, learning rate {settings['lr']:g}")
    return " · ".join(words)


def _one(rows: Sequence[tuple[str, str | None]]) -> dict[str, list[str]]:
    return {label: [value] for label, value in rows if value is not None}


def render(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Writes a page from one of the templates in this folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _environment().get_template(template).render(**values, units=UNITS))


@cache
def _environment() -> "Environment":
    """Of the templates in this folder: what they are given is text, unless it says that it is markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
