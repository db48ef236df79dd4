"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .listener import Evaluation, Listener, Step

if TYPE_CHECKING:
    from ..data.dataset import Dataset  # which imports torch


class Progress(Listener):
    """Shows steps and losses on a console."""

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._console, self._bar = console, Bar(*columns, console=console, disable=not console.is_terminal)
        self._steps = 0

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, first: int, steps: int, dataset: "Dataset") -> None:
        self._steps = steps
        self._task = self._bar.add_task("starting", total=steps, completed=first)
        self._say(
            f"{len(dataset.examples)} sequences, {steps} steps" + (f", going on after step {first}" if first else "")
        )
        for note in dataset.notes:
            self._say(f"data: {note}")
        if dataset.cut_rows:
            self._say(f"{dataset.cut_rows} rows were longer than the sequence: {dataset.cut_tokens} tokens cut")
        if dataset.masked_rows:
            self._say(f"{dataset.masked_rows} rows had no target left, and were skipped")

    def evaluated(self, evaluation: Evaluation) -> None:
        when = f"after step {evaluation.step}" if evaluation.step else "before training"
        self._say(f"held-out loss {when}: {evaluation.loss:.4f}")

    def checkpointed(self, folder: Path) -> None:
        self._say(f"checkpoint: {folder}")

    def stepped(self, step: Step) -> None:
        text = f"loss {step.loss:.4f}"
        self._bar.update(self._task, advance=1, description=text)
        if not self._console.is_terminal and (
            step.step % max(1, self._steps // 20) == 0 or step.step in (1, self._steps)
        ):
            self._say(f"step {step.step}/{self._steps}  {text}  {step.seconds:.2f} s")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
