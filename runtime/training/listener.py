"""What a run tells whoever listens: the progress bar, TensorBoard, a program that trains through the Python API."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.dataset import Dataset  # which imports torch
    from .threads import Trial


@dataclass(frozen=True)
class Step:
    """What a step came to: a line of steps.jsonl."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float
    peak_footprint_bytes: int
    major_faults: int


@dataclass(frozen=True)
class Evaluation:
    """The mean loss over the held-out targets: a line of eval.jsonl. Step 0 is before training."""

    step: int
    loss: float
    seconds: float


class Listener:
    """Hears of a run's progress; this one does nothing."""

    def idle(self, footprint_bytes: int) -> None:
        """What the process holds before the bundle is opened for training."""

    def warned(self, warning: str) -> None:
        """Something that is no reason not to train, and that the person should know before it begins."""

    def tried_threads(self, trials: "Sequence[Trial]", chosen: int) -> None:
        """Different numbers of threads were tried, and ``chosen`` was the fastest."""

    def begin(self, first: int, steps: int, dataset: "Dataset") -> None:
        """The data is read; ``first`` steps were done by the run that is resumed, 0 for a new one."""

    def evaluating(self, done: int, sequences: int) -> None:
        """So many of the held-out sequences are done."""

    def stepped(self, step: Step) -> None:
        """A step is done."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """A held-out loss is known."""

    def checkpointed(self, folder: Path) -> None:
        """A checkpoint is on the disk."""


class Listeners(Listener):
    """Several listeners as one."""

    def __init__(self, *listeners: Listener):
        self._listeners = listeners

    def idle(self, footprint_bytes: int) -> None:
        for listener in self._listeners:
            listener.idle(footprint_bytes)

    def warned(self, warning: str) -> None:
        for listener in self._listeners:
            listener.warned(warning)

    def tried_threads(self, trials: "Sequence[Trial]", chosen: int) -> None:
        for listener in self._listeners:
            listener.tried_threads(trials, chosen)

    def begin(self, first: int, steps: int, dataset: "Dataset") -> None:
        for listener in self._listeners:
            listener.begin(first, steps, dataset)

    def evaluating(self, done: int, sequences: int) -> None:
        for listener in self._listeners:
            listener.evaluating(done, sequences)

    def stepped(self, step: Step) -> None:
        for listener in self._listeners:
            listener.stepped(step)

    def evaluated(self, evaluation: Evaluation) -> None:
        for listener in self._listeners:
            listener.evaluated(evaluation)

    def checkpointed(self, folder: Path) -> None:
        for listener in self._listeners:
            listener.checkpointed(folder)
