"""What a run came to, as runtime/outcome.py has it; that one's package is not there for the phone's commands."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Lines = Sequence[Mapping[str, Any]]


def outcome(status: str, steps: Lines, evaluations: Lines) -> dict[str, Any]:
    """The first fields of report.json."""
    losses = {line["step"]: line["loss"] for line in evaluations}
    finished = status == "done" and steps
    seconds = [line["seconds"] for line in steps]
    return {
        "status": status,
        "steps": len(steps),
        "loss_first": steps[0]["loss"] if steps else None,
        "loss_last": steps[-1]["loss"] if steps else None,
        "eval_loss_before": losses.get(0),
        "eval_loss_after": losses.get(steps[-1]["step"]) if finished else None,
        "best_step": None,
        "best_eval_loss": None,
        "step_seconds_median": median(seconds) if steps else None,
        "tokens_per_second": sum(line["tokens"] for line in steps) / sum(seconds) if steps else None,
    }
