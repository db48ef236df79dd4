"""One cell: its bundle exported, planned, inspected and trained, each in a process of its own; or a baseline's module run."""

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mesp.runtime.contract import BETWEEN_STEPS, LOAD
from mesp.runtime.errors import MespError
from mesp.runtime.files import write_json
from mesp.runtime.report.run_folder import read_run

from .process import MESP, run
from .table import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

LEARNING_RATE = "1e-3"
_PLANNED = re.compile(r"^ *(\d+\.\d+) MB  (.+)$", re.MULTILINE)
_SUM = "over an idle process"

# The command of mesp that trains on this machine.
HERE = ("train",)

Tell = Callable[[str], None]


def run_cell(cell: Cell, folder: Path, keep_bundle: bool, trainer: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Measures a cell.

    Args:
        folder: of the bench: the bundle is in its bundle/, runs are in run/, the processes' messages in logs/
        keep_bundle: leave the bundle, and take a bundle that was left with the same export settings
        trainer: the command of mesp that trains, with its options
        tell: told what is running now

    Returns:
        As JSON, without the definition. All sizes are bytes.
            baseline            what else a baseline writes of itself, such as weights_bytes; None for our runtime
            repeats             of each: memory as in report.json, step_seconds, losses, seconds of the process
            export              seconds, peak_rss_bytes (process.Usage); None for a baseline, as is what follows
            bundle_bytes        by file
            plan                what mesp plan predicts by part
            parts               of the median peak
            phone               what trained it, as in report.json; None for this machine
            samples             of the last repeat's first and last step: seconds of the step, phase, bytes over idle

    Raises:
        MespError: a process failed, or its memory report was refused.
    """
    log = folder / "logs" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with _empty(folder / "run") as place:
        if cell.baseline:
            if tuple(trainer) != HERE:
                raise MespError(f"{cell.method} is a baseline of this machine: it does not run on a phone.")
            return _run_baseline(cell, cell.baseline, place, log, tell)
        with _bundle(cell, folder / "bundle" / cell.name, keep_bundle, log, tell) as (bundle, export):
            return {"baseline": None, "export": export, **_measure(cell, bundle, place, trainer, log, tell)}


@contextmanager
def _empty(folder: Path) -> "Iterator[Path]":
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
    command = [sys.executable, "-m", name, "--model", str(cell.configuration)]
    command += [part for option, value in sizes.items() for part in (option, str(value))]
    repeats, written = [], {}
    for number in range(cell.repeats):
        tell(f"{cell.method}{_of(number, cell.repeats)}")
        usage, _ = run([*command, *options, "-o", str(output)], log)
        written = json.loads(output.read_text())
        repeats.append(_repeat(written["memory"], written["step_seconds"], written["losses"], usage.seconds))
        output.unlink()
    said = ("memory", "step_seconds", "losses", "settings", "environment")
    return {
        "baseline": {name: value for name, value in written.items() if name not in said},
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
def _bundle(cell: Cell, bundle: Path, keep: bool, log: Path, tell: Tell) -> "Iterator[tuple[Path, dict[str, Any]]]":
    """The cell's bundle while the ``with`` lasts, and what its export took. How it was exported is beside it, for the next time."""
    beside = bundle.with_name(f"{bundle.name}.json")
    asked = {"options": cell.export_options(), "configuration": cell.definition()["configuration_sha256"]}
    try:
        if keep and bundle.is_dir() and beside.is_file():
            kept = json.loads(beside.read_text())
            if kept["asked"] == asked:
                yield bundle, kept["export"]
                return
        _remove(bundle, beside)
        bundle.parent.mkdir(exist_ok=True)
        tell("exporting")
        command = [*MESP, "export", str(cell.configuration), "--random-init", *cell.export_options(), "-o", str(bundle)]
        export = asdict(run(command, log)[0])
        write_json(beside, {"asked": asked, "export": export})
        yield bundle, export
    finally:
        if not keep:
            _remove(bundle, beside)
            if bundle.parent.is_dir() and not any(bundle.parent.iterdir()):
                bundle.parent.rmdir()


def _remove(bundle: Path, beside: Path) -> None:
    beside.unlink(missing_ok=True)  # first: a bundle without it is not taken for a whole one
    shutil.rmtree(bundle, ignore_errors=True)
    for part in bundle.parent.glob(f".{bundle.name}.*"):  # of an export that was ended
        shutil.rmtree(part, ignore_errors=True)


def _measure(cell: Cell, bundle: Path, place: Path, trainer: Sequence[str], log: Path, tell: Tell) -> dict[str, Any]:
    tell("planning")
    plan = _plan(cell, log)
    contents = json.loads(run([*MESP, "inspect", "--json", str(bundle)], log)[1])
    data = place / "row.jsonl"
    data.write_text(random_row(cell.tokens, cell.configuration_values()["vocab_size"]))
    repeats, samples, report = [], {}, {}
    for number in range(cell.repeats):
        tell(f"training{_of(number, cell.repeats)}")
        output = place / f"{cell.name}-{number}"
        repeats.append(_train(cell, bundle, data, output, trainer, log))
        run_folder = read_run(output)
        report, baseline = run_folder.report, repeats[-1]["memory"]["baseline_footprint_bytes"]
        samples = step_samples(run_folder.samples, baseline)
        shutil.rmtree(output)
    peak = median(repeat["memory"]["delta_footprint_bytes"] for repeat in repeats)
    return {
        "bundle_bytes": {
            str(path.relative_to(bundle)): path.stat().st_size for path in sorted(bundle.rglob("*")) if path.is_file()
        },
        "plan": plan,
        "repeats": repeats,
        "parts": parts_of_peak(contents, cell.tokens, int(peak)),
        "phone": None if tuple(trainer) == HERE else report["environment"],
        "samples": samples,
    }


def _plan(cell: Cell, log: Path) -> dict[str, Any]:
    """Bytes by part, as mesp plan predicts them."""
    command = [*MESP, "plan", str(cell.configuration), *cell.export_options(), "--optimizer", "sgd"]
    _, text = run(command, log)
    parts = {name: round(float(megabytes) * 1e6) for megabytes, name in _PLANNED.findall(text)}
    if not any(name.startswith(_SUM) for name in parts):
        raise MespError(f"mesp plan wrote no sum that is {_SUM}: {text!r}")
    return {name: size for name, size in parts.items() if not name.startswith(_SUM)}


def _train(cell: Cell, bundle: Path, data: Path, output: Path, trainer: Sequence[str], log: Path) -> dict[str, Any]:
    settings = ["--steps", str(cell.steps), "--optimizer", "sgd", "--lr", LEARNING_RATE]
    usage, _ = run([*MESP, *trainer, str(bundle), "--data", str(data), *settings, "-o", str(output)], log)
    done = read_run(output)
    seconds = [step["seconds"] for step in done.steps]
    return _repeat(done.report["memory"], seconds, [step["loss"] for step in done.steps], usage.seconds)


def _repeat(
    memory: Mapping[str, Any], step_seconds: Sequence[float], losses: Sequence[float], seconds: float
) -> dict[str, Any]:
    """One process's figures.

    Raises:
        MespError: it does not know its peak.
    """
    if "delta_footprint_bytes" not in memory:
        raise MespError(memory.get("refused", f"The memory report has no delta_footprint_bytes: {dict(memory)}"))
    return {"memory": dict(memory), "step_seconds": list(step_seconds), "losses": list(losses), "seconds": seconds}


def _of(number: int, repeats: int) -> str:
    return f", {number + 1} of {repeats}" if repeats > 1 else ""


def random_row(tokens: int, vocabulary: int) -> str:
    """A line of JSON: a row of one token more than the sequence, the same ones each time."""
    generator = random.Random(0)
    ids = [generator.randrange(vocabulary) for _ in range(tokens + 1)]
    return json.dumps({"input_ids": ids, "labels": ids}) + os.linesep


def parts_of_peak(contents: Mapping[str, Any], tokens: int, peak: int) -> dict[str, int]:
    """Where every byte of a peak over idle is.

    Args:
        contents: what mesp inspect --json says of the bundle
        peak: in bytes; what is not planned of it is XNNPACK's workspace, and the interpreter with its programs
    """
    schedule = f"train.sgd.{tokens}"
    if schedule not in contents["memory_plan"]:
        raise MespError(f"The bundle has no schedule {schedule}, which a step of SGD runs.")
    plan = dict(contents["memory_plan"][schedule])
    arena, results = plan.pop("arena"), plan.pop("program results")
    kept = contents["schedules"][schedule]["arena"]["buffers"].get("block_inputs", {"nbytes": 0})["nbytes"]
    parts = {
        "block inputs": kept,
        **plan,
        "results of the programs": results,
        "other buffers": arena - kept,
    }
    return {**parts, "workspace and interpreter": peak - sum(parts.values())}


def step_samples(samples: Sequence[Mapping[str, Any]], baseline: int) -> dict[str, list[list[Any]]]:
    """The first and the last step's largest samples by phase: [seconds since its first, phase, bytes over idle].

    What a phase takes stays with the process, so the first step shows what takes it, and the last what it comes to.
    """
    steps: list[list[Mapping[str, Any]]] = [[]]
    for sample in samples:
        if sample["phase"] == BETWEEN_STEPS:
            steps.append([])
        elif sample["phase"] != LOAD:
            steps[-1].append(sample)
    steps = [step for step in steps if step]
    return {
        name: _over_idle(step, baseline) for name, step in zip(("first", "last"), (steps[0], steps[-1]), strict=True)
    }


def _over_idle(step: Sequence[Mapping[str, Any]], baseline: int) -> list[list[Any]]:
    start = step[0]["seconds"]
    return [
        [round(sample["seconds"] - start, 4), sample["phase"], sample["footprint_bytes"] - baseline] for sample in step
    ]
