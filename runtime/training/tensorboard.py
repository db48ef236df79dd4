"""A run's figures as TensorBoard event files, in RUN/tensorboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.run_files import TENSORBOARD
from ..errors import UsageError
from .listener import Evaluation, Listener, Step

if TYPE_CHECKING:
    from ..data.dataset import Dataset


class TensorBoard(Listener):
    """Writes scalars as the run goes on; close it by leaving its ``with``.

    Args:
        run: the run folder

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, run: Path):
        # Imported before the run begins, so that it is part of the idle process and not of the memory that training takes.
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("--tensorboard needs TensorBoard. Install it: pip install 'mesp[tensorboard]'") from error
        self._make, self._run = SummaryWriter, run
        self._writer: Any = None

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def begin(self, first: int, steps: int, dataset: "Dataset") -> None:
        # A run that is resumed does the steps after its checkpoint again: what was drawn of them is to be dropped.
        self._writer = self._make(str(self._run / TENSORBOARD), purge_step=first + 1 if first else None)

    def stepped(self, step: Step) -> None:
        scalars = {
            "train/loss": step.loss,
            "train/learning_rate": step.lr,
            "train/gradient_norm": step.grad_norm,
            "train/tokens_per_second": step.tokens / step.seconds,
            "memory/peak_footprint_mb": step.peak_footprint_bytes / 1e6,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step.step)

    def evaluated(self, evaluation: Evaluation) -> None:
        self._writer.add_scalar("eval/loss", evaluation.loss, evaluation.step)
