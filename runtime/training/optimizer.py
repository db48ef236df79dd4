"""Optimizers: the scalars that a bundle's optimizer programs take in a step. The update itself is a program of the bundle.

    sgd       p <- p - lr (g + weight_decay p); with momentum u <- momentum u + g + weight_decay p, p <- p - lr u
    adamw     Loshchilov and Hutter, 2019, with the defaults of torch.optim.AdamW

The learning rate of a step follows transformers' schedules of the same names, so that a run there and a run here can be compared:
with w warm-up steps and n steps in all, step s (from 0) has lr times

    s < w       s / w
    constant    1
    linear      (n - s) / (n - w)
    cosine      (1 + cos(pi (s - w) / (n - w))) / 2

The first step of a warm-up therefore has a learning rate of 0.
"""

import math
from dataclasses import dataclass
from typing import Literal

Name = Literal["sgd", "adamw"]
Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of each step.

    Args:
        peak: where the warm-up ends
        steps: of the whole run
        warmup: steps of it
    """

    peak: float
    shape: Shape = "constant"
    steps: int = 1
    warmup: int = 0

    def at(self, step: int) -> float:
        """Of step ``step``, counted from 1."""
        done = step - 1
        if done < self.warmup:
            return self.peak * done / self.warmup
        if self.shape == "constant":
            return self.peak
        left = max(1, self.steps - self.warmup)
        if self.shape == "linear":
            return self.peak * max(0.0, (self.steps - done) / left)
        return self.peak * max(0.0, 0.5 * (1.0 + math.cos(math.pi * (done - self.warmup) / left)))


@dataclass(frozen=True)
class Optimizer:
    """SGD, with momentum if it is not 0, or AdamW."""

    name: Name
    lr: LearningRate
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def program(self) -> str:
        """What the bundle's schedules ``train.PROGRAM.T`` and ``update.PROGRAM`` call it."""
        return "momentum" if self.name == "sgd" and self.momentum else self.name

    def scalars(self, step: int) -> dict[str, float]:
        """What the update of step ``step`` (from 1) is given; AdamW's bias corrections are worked out here, in double precision."""
        lr = self.lr.at(step)
        if self.name == "sgd":
            return {"lr": lr, "weight_decay": self.weight_decay, "momentum": self.momentum}
        return {
            "lr_weight_decay": lr * self.weight_decay,
            "one_minus_beta1": 1 - self.beta1,
            "one_minus_beta2": 1 - self.beta2,
            "step_size": lr / (1 - self.beta1**step),
            "rsqrt_correction2": (1 - self.beta2**step) ** -0.5,
            "eps": self.eps,
        }


def clip_scale(norm: float, clip_norm: float | None) -> float:
    """What a gradient of this norm is multiplied with so that its norm is at most ``clip_norm``, as torch.nn.utils.clip_grad_norm_."""
    return 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))
