"""What a cell's peak consists of, and what its first and its last step held phase by phase."""

from collections.abc import Mapping, Sequence
from typing import Any

from mesp.runtime.contract import BETWEEN_STEPS, LOAD
from mesp.runtime.engine.planned import WORDS
from mesp.runtime.errors import MespError

Samples = list[list[Any]]  # [seconds since the step's first, phase, bytes over idle]


def parts_of_peak(contents: Mapping[str, Any], optimizer: str, tokens: int, peak: int) -> dict[str, int]:
    """Where every byte of a peak over idle is.

    Args:
        contents: what is in the bundle, by runtime.report.inspect
        peak: in bytes. What is not planned of it is XNNPACK's workspace, and the interpreter with its programs.
    """
    schedule = f"train.{optimizer}.{tokens}"
    if schedule not in contents["memory_plan"]:
        raise MespError(f"The bundle has no schedule {schedule}, which a step runs.")
    parts = {WORDS.get(name, name): size for name, size in contents["memory_plan"][schedule].items()}
    return {**parts, "workspace and interpreter": peak - sum(parts.values())}


def step_samples(samples: Sequence[Mapping[str, Any]], baseline: int) -> dict[str, Samples]:
    """The first and the last step's samples, a few of each kind of phase.

    What a phase takes stays with the process: the first step shows what takes it, and the last what it comes to.

    Args:
        samples: of memory.jsonl, the largest of each phase
        baseline: bytes of the idle process
    """
    steps: list[list[Mapping[str, Any]]] = [[]]
    for sample in samples:
        if sample["phase"] == BETWEEN_STEPS:
            steps.append([])
        elif sample["phase"] != LOAD:
            steps[-1].append(sample)
    steps = [step for step in steps if step]
    return {name: thinned(_over_idle(step, baseline)) for name, step in (("first", steps[0]), ("last", steps[-1]))}


def _over_idle(step: Sequence[Mapping[str, Any]], baseline: int) -> Samples:
    start = step[0]["seconds"]
    return [
        [round(sample["seconds"] - start, 4), sample["phase"], sample["footprint_bytes"] - baseline] for sample in step
    ]


def thinned(step: Samples) -> Samples:
    """Of each kind of phase, such as the blocks' forward, four samples: the first, the smallest, the largest and the last."""
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(step):
        places.setdefault(kind_of_phase(sample), []).append(place)
    kept: set[int] = set()
    for own in places.values():
        by_size = sorted(own, key=lambda place: step[place][2])
        kept |= {own[0], by_size[0], by_size[-1], own[-1]}
    return [step[place] for place in sorted(kept)]


def kind_of_phase(sample: Sequence[Any]) -> str:
    """A phase's name without the number of its block."""
    return str(sample[1]).rstrip("0123456789 ")
