"""One optimizer step, and one evaluation, on a session: which schedules are run, with which inputs.

    lean    one sequence a step and no clipping: ``train.OPTIMIZER.T`` applies each layer's update as its gradient arrives
    kept    otherwise the gradients of all layers are kept: ``gradients.T`` for the first sequence, ``accumulate.T`` for the others,
            ``gradient_norm``, and ``update.OPTIMIZER`` with the gradient scaled as clipping asks for

The loss of a step is the mean over the targets of all of its sequences, however many each has, and its gradient is that mean's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data.dataset import Example, inputs
from ..engine.bundle import Bundle
from ..engine.session import Observer, Session
from ..engine.sizes import Size, schedule_names, smallest
from .optimizer import Optimizer, clip_scale
from .settings import TrainSettings


def noise(seed: int, step: int, place: int) -> dict[str, Tensor | float]:
    """The input from which a schedule draws, different for each sequence of a run. Most schedules have no use for it."""
    return {"noise_seed": torch.tensor(((seed << 42) + (step << 16) + place) % 2**63)}


def schedules_of(settings: TrainSettings, optimizer: Optimizer, used: Sequence[Size], evaluates: bool) -> list[str]:
    """Names of the schedules that a run uses."""
    accumulates, clips = settings.grad_accumulation > 1, settings.clip_norm is not None
    return schedule_names(optimizer.program, used, evaluates, accumulates, clips)


class Stopped(Exception):
    """The run was asked to stop; what was not finished is as if it had not begun."""


class Stepper:
    """Steps of one run.

    Args:
        bundle, settings, optimizer: of the run
        threads: of the programs
        used: the sizes that its examples need
        evaluates: whether it has held-out data
        observer: of the session
        stop: asked before every sequence; a lean step, once begun, is finished
        scratch: folder for what the bundle keeps in files
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: TrainSettings,
        threads: int,
        optimizer: Optimizer,
        used: Sequence[Size],
        evaluates: bool,
        observer: Observer,
        stop: Callable[[], bool],
        scratch: Path,
    ):
        self.optimizer, self.scale = optimizer, 1.0
        self._used, self._stop = used, stop
        self._kept, self._clip_norm, self._seed = settings.keeps_gradients, settings.clip_norm, settings.seed
        self.session = Session(bundle, schedules_of(settings, optimizer, used, evaluates), threads, observer, scratch)

    def step(self, number: int, examples: Sequence[Example]) -> tuple[float, float]:
        """Takes step ``number`` (from 1) and returns its loss and the norm of its gradient, before clipping.

        If one of them is not finite, the adapter is to be thrown away: a lean step has changed it by then.

        Raises:
            Stopped: nothing was changed.
        """
        take = self._kept_step if self._kept else self._lean_step
        return take(number, examples)

    def _lean_step(self, number: int, examples: Sequence[Example]) -> tuple[float, float]:
        (example,) = examples
        scalars = {**self.optimizer.scalars(number), **noise(self._seed, number, 0)}
        outputs = self._run(f"train.{self.optimizer.program}", example, example.predictions, scalars)
        return outputs["loss"], math.sqrt(outputs["gradient_square_sum"])

    def _kept_step(self, number: int, examples: Sequence[Example]) -> tuple[float, float]:
        predictions, loss = sum(example.predictions for example in examples), 0.0
        for place, example in enumerate(examples):
            drawn = noise(self._seed, number, place)
            loss += self._run("accumulate" if place else "gradients", example, predictions, drawn)["loss"]
        norm = math.sqrt(float(self.session.run("gradient_norm", {})["gradient_square_sum"]))
        if not math.isfinite(loss + norm):
            return loss, norm
        scalars = {"gradient_scale": clip_scale(norm, self._clip_norm), **self.optimizer.scalars(number)}
        self.session.run(f"update.{self.optimizer.program}", scalars)
        return loss, norm

    def evaluate(self, examples: Sequence[Example], after_each: Callable[[int], None]) -> float:
        """The mean loss over the examples' targets. ``after_each`` is told how many are done.

        Raises:
            Stopped: it was not finished.
        """
        predictions, loss = sum(example.predictions for example in examples), 0.0
        for done, example in enumerate(examples, 1):
            loss += self._run("evaluate", example, predictions)["loss"]
            after_each(done)
        return loss

    def _run(
        self, schedule: str, example: Example, predictions: int, scalars: Mapping[str, Tensor | float] | None = None
    ) -> dict[str, float]:
        if self._stop():
            raise Stopped
        size = smallest(self._used, example.tokens, example.predictions)
        given: dict[str, Tensor | float] = {
            **inputs(example, size, predictions),
            "lora_scale": self.scale,
            **(scalars or {}),
        }
        return {name: float(value) for name, value in self.session.run(f"{schedule}.{size.name}", given).items()}
