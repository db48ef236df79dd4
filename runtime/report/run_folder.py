"""A run folder read back, whether the run was finished or not. contract/run_folder.schema.json tells what is in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.run_files import DEVICE, EVALUATIONS, MEMORY, OUTSIDE, REPORT, RUN, STEPS, TEXTS
from ..errors import UsageError
from .outcome import outcome


@dataclass(frozen=True)
class RunFolder:
    """What the files of a run say. An absent log is empty."""

    path: Path
    start: dict[str, Any]  # run.json
    settings: dict[str, Any]
    report: dict[str, Any]  # of report.json; for a run without one, what its logs tell
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    sampled_since: float | None  # when the samples' seconds begin, by the clock of the machine that trained, since 1970
    texts: list[dict[str, Any]]
    device: dict[str, Any] | None
    outside: list[dict[str, Any]]


def check_run_folder(path: Path) -> None:
    """Raises UsageError if a folder is no run's."""
    if not (path / RUN).is_file():
        raise UsageError(f"{path} is not a run folder: it has no {RUN}. Expected the output of: mesp train BUNDLE")


def read_run(path: Path) -> RunFolder:
    """Reads a run folder.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    check_run_folder(path)
    start, steps = _object(path / RUN), _lines(path / STEPS)
    evaluations = _lines(path / EVALUATIONS)
    if (path / REPORT).is_file():
        report = _object(path / REPORT)
    else:
        report = _report_of_logs(start, steps, evaluations)
    settings = start.get("settings", {})
    return RunFolder(
        path,
        start,
        settings,
        {**report, "steps_planned": settings.get("steps")},
        steps,
        evaluations or _evaluations_of(report),
        _lines(path / MEMORY),
        start.get("sampled_since_epoch_seconds"),
        _lines(path / TEXTS),
        _object(path / DEVICE) if (path / DEVICE).is_file() else None,
        _lines(path / OUTSIDE),
    )


def _report_of_logs(
    start: dict[str, Any], steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> dict[str, Any]:
    """What report.json would say of a run that left none, as far as that is known."""
    best = min(evaluations, key=lambda line: line["loss"], default={"step": None})["step"]
    return {
        **outcome("unfinished", steps, evaluations, best),
        "memory": {key: start[key] for key in ("baseline_footprint_bytes",) if key in start},
        "bundle": start["bundle"],
        "environment": start.get("versions", {}),
    }


def _evaluations_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations that a report knows of, for a run without eval.jsonl."""
    ends = ((0, report.get("eval_loss_before")), (report.get("steps"), report.get("eval_loss_after")))
    return [{"step": step, "loss": loss} for step, loss in ends if loss is not None]


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} is damaged: expected a JSON object.")
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    """A log's lines. A last line that was cut short, as when the run was killed while it wrote, is left out."""
    if not path.is_file():
        return []
    *whole, last = path.read_text(encoding="utf-8").split("\n")
    lines = []
    for number, line in enumerate([*whole, last] if _is_json(last) else whole, 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}, is damaged: {error}.") from error
    return lines


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
