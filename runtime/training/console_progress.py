"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .listener import Evaluation, Listener, Step

if TYPE_CHECKING:
    from ..data.dataset import Dataset  # which imports torch
    from .threads import Trial


class Progress(Listener):
    """Shows steps, losses, memory and the time that is left on a console."""

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[memory]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._console, self._bar = console, Bar(*columns, console=console, disable=not console.is_terminal)
        self._steps, self._first, self._began = 0, 0, 0.0
        self._idle_bytes = 0
        self._evaluation: TaskID | None = None

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def idle(self, footprint_bytes: int) -> None:
        self._idle_bytes = footprint_bytes

    def warned(self, warning: str) -> None:
        self._say(warning)

    def tried_threads(self, trials: "Sequence[Trial]", chosen: int) -> None:
        times = ", ".join(f"{trial.threads}: {trial.seconds:.2f} s" for trial in trials)
        self._say(f"{chosen} threads are the fastest (seconds a step: {times})")

    def begin(self, first: int, steps: int, dataset: "Dataset") -> None:
        self._steps, self._first, self._began = steps, first, time.monotonic()
        self._task = self._bar.add_task("starting", total=steps, completed=first, memory="")
        self._say(
            f"{len(dataset.examples)} sequences, {steps} steps" + (f", going on after step {first}" if first else "")
        )
        for note in dataset.notes:
            self._say(f"data: {note}")
        if dataset.cut_rows:
            self._say(f"{dataset.cut_rows} rows were longer than the sequence: {dataset.cut_tokens} tokens cut")
        if dataset.masked_rows:
            self._say(f"{dataset.masked_rows} rows had no target left, and were skipped")

    def evaluating(self, done: int, sequences: int) -> None:
        if self._evaluation is None:
            self._evaluation = self._bar.add_task("held-out rows", total=sequences, memory="")
        self._bar.update(self._evaluation, completed=done)

    def evaluated(self, evaluation: Evaluation) -> None:
        if self._evaluation is not None:
            self._bar.remove_task(self._evaluation)
            self._evaluation = None
        when = f"after step {evaluation.step}" if evaluation.step else "before training"
        self._say(f"held-out loss {when}: {evaluation.loss:.4f}")

    def checkpointed(self, folder: Path) -> None:
        self._say(f"checkpoint: {folder}")

    def stepped(self, step: Step) -> None:
        loss, over_idle = f"loss {step.loss:.4f}", (step.peak_footprint_bytes - self._idle_bytes) / 1e6
        memory = f"{over_idle:.1f} MB over idle"
        self._bar.update(self._task, completed=step.step, description=loss, memory=memory)
        often = max(1, self._steps // 20)
        if not self._console.is_terminal and (step.step % often == 0 or step.step in (1, self._steps)):
            left = self._seconds_a_step(step.step) * (self._steps - step.step)
            self._say(f"step {step.step}/{self._steps}  {loss}  {step.seconds:.2f} s  {memory}  {in_words(left)} left")

    def _seconds_a_step(self, step: int) -> float:
        """So far, with the evaluations in between."""
        return (time.monotonic() - self._began) / (step - self._first)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def in_words(seconds: float) -> str:
    """A time that is not known exactly: 40 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
