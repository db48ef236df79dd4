"""Measures one cell: exports, plans, inspects and trains a bundle, each in a process of its own, or runs a baseline's module."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mesp.runtime.errors import MespError
from mesp.runtime.files import write_json
from mesp.runtime.report.run_folder import read_run

from ..child import command
from ..process import run
from .definition import Cell
from .parts import parts_of_peak, step_samples

LEARNING_RATE = 1e-3

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Trainer:
    """What trains a cell's bundle: this machine, or a phone.

    Args:
        command: of a bundle, the run folder to make, and the fields of TrainSettings: the command line of a process that trains
        on_phone: then the run's report names the phone, and baselines are refused
    """

    command: Callable[[Path, Path, Mapping[str, Any]], Sequence[str]]
    on_phone: bool


HERE = Trainer(
    lambda bundle, output, settings: command("train", bundle=bundle, output=output, settings=settings), on_phone=False
)


def run_cell(cell: Cell, folder: Path, keep_bundle: bool, trainer: Trainer, tell: Tell) -> dict[str, Any]:
    """Measures a cell.

    Args:
        folder: of the bench. The bundle is in its bundle/, runs are in run/, what processes wrote to standard error in logs/.
        keep_bundle: leave the bundle, and use one that was left, if its export settings are the same
        tell: told what is running now

    Returns:
        As JSON, without the definition. All sizes are bytes.
            baseline            what else a baseline writes of itself, such as weights_bytes; None for our runtime
            repeats             of each: memory as in report.json; step_seconds and losses (``_repeat``); seconds of the process
            export              seconds, peak_rss_bytes (process.Usage); None for a baseline, as is what follows
            bundle_bytes        by file
            plan                the predicted peak by part
            parts               of the median peak
            phone               what trained it, as in report.json; None for this machine
            samples             of the last repeat's first and last step: seconds of the step, phase, bytes over idle

    Raises:
        MespError: a process failed, or its memory report was refused: too few samples, or a peak that cannot be.
    """
    log = folder / "logs" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with _empty(folder / "run") as place:
        if cell.baseline:
            if trainer.on_phone:
                raise MespError(f"{cell.method} is a baseline of this machine: it does not run on a phone.")
            return _run_baseline(cell, cell.baseline, place, log, tell)
        with _bundle(cell, folder / "bundle" / cell.name, keep_bundle, log, tell) as (bundle, export):
            return {"baseline": None, "export": export, **_measure(cell, bundle, place, trainer, log, tell)}


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    """An empty folder while the ``with`` lasts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_baseline(cell: Cell, module: Sequence[str], place: Path, log: Path, tell: Tell) -> dict[str, Any]:
    name, *options = module
    output = place / "results.json"
    sizes = {"--tokens": cell.tokens, "--rank": cell.rank, "--steps": cell.steps}
    line = [sys.executable, "-m", name, "--model", str(cell.configuration)]
    line += [part for option, value in sizes.items() for part in (option, str(value))]
    repeats, written = [], {}
    for number in range(cell.repeats):
        tell(f"{cell.method}{_of(number, cell.repeats)}")
        usage, _ = run([*line, *options, "-o", str(output)], log)
        written = json.loads(output.read_text(encoding="utf-8"))
        repeats.append(_repeat(written["memory"], written["step_seconds"], written["losses"], usage.seconds))
        output.unlink()
    shared = ("memory", "step_seconds", "losses", "settings", "environment")
    return {
        "baseline": {name: value for name, value in written.items() if name not in shared},
        "export": None,
        "bundle_bytes": None,
        "plan": None,
        "repeats": repeats,
        "parts": None,
        "phone": None,
        "samples": None,
    }


# --- Our runtime ------------------------------------------------------------------------------------------------------


@contextmanager
def _bundle(cell: Cell, bundle: Path, keep: bool, log: Path, tell: Tell) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The cell's bundle while the ``with`` lasts, and what its export took. A file beside it notes how it was exported."""
    note = bundle.with_name(f"{bundle.name}.json")
    asked = {"settings": cell.export_settings(), "configuration": cell.definition()["configuration_sha256"]}
    try:
        if keep and bundle.is_dir() and note.is_file():
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept["asked"] == asked:
                yield bundle, kept["export"]
                return
        _remove(bundle, note)
        bundle.parent.mkdir(exist_ok=True)
        tell("exporting")
        line = command("export", checkpoint=cell.configuration, output=bundle, settings=cell.export_settings())
        export = asdict(run(line, log)[0])
        write_json(note, {"asked": asked, "export": export})
        yield bundle, export
    finally:
        if not keep:
            _remove(bundle, note)
            if bundle.parent.is_dir() and not any(bundle.parent.iterdir()):
                bundle.parent.rmdir()


def _remove(bundle: Path, note: Path) -> None:
    note.unlink(missing_ok=True)  # first: a bundle without it is not taken for a whole one
    shutil.rmtree(bundle, ignore_errors=True)
    for part in bundle.parent.glob(f".{bundle.name}.*"):  # of an export that was ended
        shutil.rmtree(part, ignore_errors=True)


def _measure(cell: Cell, bundle: Path, place: Path, trainer: Trainer, log: Path, tell: Tell) -> dict[str, Any]:
    tell("planning")
    line = command("plan", checkpoint=cell.configuration, settings=cell.export_settings(), optimizer=cell.optimizer)
    plan = json.loads(run(line, log)[1])
    contents = json.loads(run(command("inspect", bundle=bundle), log)[1])
    data = place / "row.jsonl"
    data.write_text(random_row(cell.tokens, cell.configuration_values()["vocab_size"]))
    repeats, samples, report = [], {}, {}
    for number in range(cell.repeats):
        tell(f"training{_of(number, cell.repeats)}")
        output = place / f"{cell.name}-{number}"
        settings = {"data": str(data), "steps": cell.steps, "optimizer": cell.optimizer, "lr": LEARNING_RATE}
        usage, _ = run(trainer.command(bundle, output, settings), log)
        done = read_run(output)
        seconds, losses = ([step[name] for step in done.steps] for name in ("seconds", "loss"))
        repeats.append(_repeat(done.report["memory"], seconds, losses, usage.seconds))
        report, samples = done.report, step_samples(done.samples, repeats[-1]["memory"]["baseline_footprint_bytes"])
        shutil.rmtree(output)
    peak = median(repeat["memory"]["delta_footprint_bytes"] for repeat in repeats)
    return {
        "bundle_bytes": {
            str(path.relative_to(bundle)): path.stat().st_size for path in sorted(bundle.rglob("*")) if path.is_file()
        },
        "plan": plan,
        "repeats": repeats,
        "parts": parts_of_peak(contents, cell.optimizer, cell.tokens, int(peak)),
        "phone": report["environment"] if trainer.on_phone else None,
        "samples": samples,
    }


def _repeat(
    memory: Mapping[str, Any], step_seconds: Sequence[float], losses: Sequence[float], seconds: float
) -> dict[str, Any]:
    """One process's figures. ``median`` and ``min`` are of the steps after the first, which reads the weights from the disk.

    Raises:
        MespError: it does not know its peak.
    """
    if "delta_footprint_bytes" not in memory:
        raise MespError(memory.get("refused", f"The memory report has no delta_footprint_bytes: {dict(memory)}"))
    later = step_seconds[1:] or step_seconds
    return {
        "memory": dict(memory),
        "step_seconds": {"first": step_seconds[0], "median": median(later), "min": min(later)},
        "losses": {"first": losses[0], "last": losses[-1]},
        "seconds": seconds,
    }


def _of(number: int, repeats: int) -> str:
    return f", {number + 1} of {repeats}" if repeats > 1 else ""


def random_row(tokens: int, vocabulary: int) -> str:
    """A line of JSON: a row of random tokens, one more than the sequence has, the same each time."""
    generator = random.Random(0)
    ids = [generator.randrange(vocabulary) for _ in range(tokens + 1)]
    return json.dumps({"input_ids": ids, "labels": ids}) + os.linesep
