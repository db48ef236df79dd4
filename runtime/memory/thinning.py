"""Which samples are logged: all of the first steps, and then fewer, so that a run of many thousand steps has a log of hundreds of kilobytes.

contract/memory_sample.schema.json has the rule, which the phone's runtime keeps too.
"""

from collections.abc import Iterable

from ..contract import schema
from .sampler import Sample

_RULE = schema("memory_sample")["$defs"]["thinning"]
WHOLE_STEPS: int = _RULE["whole_steps"]["const"]
EACH_STEP: int = _RULE["each_step"]["const"]


class Thinning:
    """Takes the samples of each step and of each held-out sequence, and gives back those to log."""

    def __init__(self) -> None:
        self._largest: Sample | None = None

    def step(self, step: int, samples: Iterable[Sample]) -> list[Sample]:
        """What to log of a step, counted from 1."""
        return self._some(samples, whole=_is_whole(step), told=_is_told(step))

    def sequence(self, step: int, done: int, sequences: int, samples: Iterable[Sample]) -> list[Sample]:
        """What to log of a sequence of the evaluation after a step; ``done`` of its ``sequences`` are done with it."""
        return self._some(samples, whole=step == 0 and done == 1, told=done == sequences and _is_told(step))

    def rest(self) -> list[Sample]:
        """The largest sample since the last one that was logged, if there is one."""
        rest, self._largest = self._largest, None
        return [rest] if rest else []

    def _some(self, samples: Iterable[Sample], whole: bool, told: bool) -> list[Sample]:
        if whole:
            return [*self.rest(), *samples]
        for sample in samples:
            if self._largest is None or sample.footprint_bytes > self._largest.footprint_bytes:
                self._largest = sample
        return self.rest() if told else []


def _is_whole(step: int) -> bool:
    return step <= WHOLE_STEPS or step & (step - 1) == 0


def _is_told(step: int) -> bool:
    every = 1
    while step > every * EACH_STEP:
        every *= 10
    return step % every == 0
