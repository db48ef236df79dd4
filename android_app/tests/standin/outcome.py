"""What a run came to, as runtime/report/outcome.py has it; that package is not there for the phone's commands."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .contract import schema

Lines = Sequence[Mapping[str, Any]]
FINISHED = schema("names")["$defs"]["finished_status"]["enum"]


def outcome(status: str, steps: Lines, evaluations: Lines, best_step: int | None = None) -> dict[str, Any]:
    """The first fields of report.json."""
    losses = {line["step"]: line["loss"] for line in evaluations}
    finished = status in FINISHED and steps
    seconds = [line["seconds"] for line in steps]
    return {
        "status": status,
        "steps": len(steps),
        "loss_first": steps[0]["loss"] if steps else None,
        "loss_last": steps[-1]["loss"] if steps else None,
        "eval_loss_before": losses.get(0),
        "eval_loss_after": losses.get(best_step or steps[-1]["step"]) if finished else None,
        "best_step": best_step,
        "best_eval_loss": losses.get(best_step) if best_step else None,
        "step_seconds_median": median(seconds) if steps else None,
        "step_major_faults_median": median(line["major_faults"] for line in steps) if steps else None,
        "tokens_per_second": sum(line["tokens"] for line in steps) / sum(seconds) if steps else None,
    }
