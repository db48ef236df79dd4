"""With how many threads a run's programs run: as it was chosen, one a core, or what is the fastest here; Threads.kt has the app's."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Dataset
from ..engine.bundle import Bundle
from ..engine.sizes import smallest
from .settings import TrainSettings
from .stepper import Stepper

_STEPS = 2  # the first one of a session also makes views and takes pages


@dataclass(frozen=True)
class Trial:
    """The seconds of a step with so many threads."""

    threads: int
    seconds: float


def default_threads() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0))


def try_threads(
    bundle: Bundle, settings: TrainSettings, data: Dataset, stop: Callable[[], bool], scratch: Path
) -> list[Trial]:
    """Takes steps with 1, 2, 4, … threads up to one a core, in sessions of their own, with an adapter of zeros that is thrown away.

    Returns:
        in the order of the threads; the seconds are those of the faster step. Fewer where ``stop`` says yes in between
    """
    cores = default_threads()
    examples = data.examples[: settings.grad_accumulation]
    available = bundle.manifest.sizes()
    used = sorted({smallest(available, example.tokens, example.predictions) for example in examples})
    optimizer = settings.make_optimizer(settings.steps_of(len(data.examples)))
    trials = []
    for threads in sorted({cores, *(2**power for power in range(cores.bit_length()))}):
        if stop():
            break
        stepper = Stepper(bundle, settings, threads, optimizer, used, False, _unobserved, _unstopped, scratch)
        seconds = []
        for _ in range(_STEPS):
            began = time.perf_counter()
            stepper.step(1, examples)
            seconds.append(time.perf_counter() - began)
        trials.append(Trial(threads, round(min(seconds), 6)))
        del stepper  # its memory is given back before the next one takes as much
    return trials


def _unobserved(phase: str | None) -> None:
    pass


def _unstopped() -> bool:
    return False
