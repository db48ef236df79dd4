"""What a run came to: report.json, worked out from the run's logs, so that an interrupted and resumed run is reported as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from ..contract import FINISHED
from ..errors import MespError
from ..memory.environment import environment

if TYPE_CHECKING:  # they import torch: reading a run takes no second
    from ..data.dataset import Dataset
    from ..engine.bundle import Bundle
    from ..memory.sampler import Sampler


def outcome(
    status: str,
    steps: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    best_step: int | None,
) -> dict[str, Any]:
    """The losses and the speed.

    Args:
        status: done, stopped_early, interrupted or failed
        steps: the lines of steps.jsonl
        evaluations: the lines of eval.jsonl
        best_step: whose adapter RUN/adapter holds, where that was chosen among several evaluations; None where it is the last
    """
    losses = {line["step"]: line["loss"] for line in evaluations}
    finished = status in FINISHED
    after = losses.get(best_step if best_step is not None else steps[-1]["step"]) if finished and steps else None
    return {
        "status": status,
        "steps": len(steps),
        "loss_first": steps[0]["loss"] if steps else None,
        "loss_last": steps[-1]["loss"] if steps else None,
        "eval_loss_before": losses.get(0),
        "eval_loss_after": after,
        "best_step": best_step,
        "best_eval_loss": losses.get(best_step) if best_step is not None else None,
        "step_seconds_median": median(line["seconds"] for line in steps) if steps else None,
        # Runs of an earlier version have none.
        "step_major_faults_median": median(line.get("major_faults", 0) for line in steps) if steps else None,
        "tokens_per_second": sum(line["tokens"] for line in steps) / sum(line["seconds"] for line in steps)
        if steps
        else None,
    }


def surroundings(bundle: "Bundle", data: "Dataset", sampler: "Sampler") -> dict[str, Any]:
    """The memory of this process, what was left out of the data, the machine, and the bundle."""
    return {
        "memory": _memory(sampler, bundle.manifest.lora.nbytes),
        "cut_rows": data.cut_rows,
        "cut_tokens": data.cut_tokens,
        "masked_rows": data.masked_rows,
        "environment": environment(),
        "bundle": bundle_json(bundle),
    }


def _memory(sampler: "Sampler", least_bytes: int) -> dict[str, Any]:
    """The memory report, or why there is none: training is not lost because its measurement is."""
    try:
        return asdict(sampler.report(least_bytes))
    except MespError as error:
        return {"refused": str(error)}


def bundle_json(bundle: "Bundle") -> dict[str, Any]:
    """What a bundle is, for run.json and report.json."""
    manifest = bundle.manifest
    return {
        "path": str(bundle.path.absolute()),
        "model": manifest.model.origin,
        "plan": dict(manifest.plan),
        "sha256": {name: item["sha256"] for name, item in manifest.files.items()},
    }
