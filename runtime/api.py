"""The Python API of what this package does: a run, and its report. ``mesp`` has these names.

Nothing here imports torch before everything that can be refused without it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .account import check_names
from .contract.run_files import ADAPTER, PAGE
from .engine.bundle import Bundle, open_bundle
from .errors import UsageError
from .memory.sampler import MemoryReport
from .report.pages import write_comparison, write_report
from .report.run_folder import read_run
from .training.config import settings_of
from .training.resume import resumed
from .training.settings import DEFINITIONS
from .training.start import check_start

if TYPE_CHECKING:
    from .training.listener import Listener


@dataclass(frozen=True)
class Run:
    """A run, from its folder.

    Args:
        path: the run folder
        status: done, stopped_early, interrupted, failed, or unfinished if it left no report
        steps: that were done
        loss_first, loss_last: of its first and last step; None without a step
        eval_loss_before, eval_loss_after: on held-out rows; None without them, or before the run is done
        best_step, best_eval_loss: whose adapter was kept, if there were evaluations in between
        step_seconds_median, tokens_per_second: None without a step
        memory: None for a run whose samples were refused, or that left no report
        adapter: a PEFT adapter; None before the run is done
        page: report.html
        reason: of a run that failed
    """

    path: Path
    status: str
    steps: int
    loss_first: float | None
    loss_last: float | None
    eval_loss_before: float | None
    eval_loss_after: float | None
    best_step: int | None
    best_eval_loss: float | None
    step_seconds_median: float | None
    tokens_per_second: float | None
    memory: MemoryReport | None
    adapter: Path | None
    page: Path
    reason: str | None = None


def open_run(path: str | Path) -> Run:
    """Reads a run folder, whether the run was finished or not.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    folder = Path(path)
    report, adapter = read_run(folder).report, folder / ADAPTER
    figures: dict[str, Any] = {field.name: report.get(field.name) for field in fields(Run)}
    figures["path"], figures["page"] = folder, folder / PAGE
    figures["memory"] = _memory(report["memory"])
    figures["adapter"] = adapter if adapter.is_dir() else None
    return Run(**figures)


def _memory(memory: Mapping[str, Any]) -> MemoryReport | None:
    known = {field.name: memory[field.name] for field in fields(MemoryReport) if field.name in memory}
    needed = {field.name for field in fields(MemoryReport) if field.default is MISSING}
    return MemoryReport(**known) if needed <= known.keys() else None


def train(
    bundle: str | Path | Bundle | None = None,
    output: str | Path = "run",
    *,
    resume: bool = False,
    listener: "Listener | None" = None,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Run:
    """Fine-tunes a bundle's adapter, as ``mesp train`` does.

    Args:
        bundle: what ``mesp.export`` made or returned; None for the one of the run that is resumed
        output: the run folder
        resume: go on with the run in that folder, with the settings that it was started with; ``steps`` may be more
        listener: hears of steps, evaluations and checkpoints
        stop: asked before every sequence; once it says yes, a checkpoint and a report are written, and the status is "interrupted"
        settings: the fields of ``mesp.TrainSettings``, which are the options of ``mesp train``; ``data`` is the one that is needed

    Raises:
        UsageError: a setting, bundle, adapter or data file that cannot be used, or a resumed run with other ones; nothing is changed.
        MespError: the loss is no longer finite, or the disk is full; logs and checkpoints until then are kept, and the report has the reason.
    """
    check_names(settings, DEFINITIONS, "mesp.train")
    folder = Path(output)
    if resume:
        before, chosen = resumed(folder, settings)
        bundle = before if bundle is None else bundle
    elif bundle is None:
        raise UsageError("mesp.train needs a bundle: what mesp.export returned, or its folder.")
    else:
        chosen = settings_of(settings)
    opened = check_start(bundle if isinstance(bundle, Bundle) else Path(bundle), folder, chosen, resume)
    from .training.loop import train as train_bundle

    train_bundle(opened, folder, chosen, listener, resume, stop)
    return open_run(folder)


def inspect(bundle: str | Path) -> Bundle:
    """Opens a bundle and checks its files: ``path`` and ``manifest``, which has all that is in it.

    Raises:
        UsageError: no bundle, one of a newer format, or one that was changed after it was written.
    """
    return open_bundle(Path(bundle))


def report(runs: str | Path | Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Draws a run's report.html anew, or several runs into one page.

    Args:
        output: of several runs, report.html if not given

    Returns:
        the page

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    paths = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if len(paths) == 1 and output is None:
        write_report(paths[0])
        return paths[0] / PAGE
    page = Path("report.html") if output is None else Path(output)
    write_comparison(paths, page)
    return page
