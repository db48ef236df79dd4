"""Optimizers: the scalars that a bundle's optimizer programs take in a step. The update itself is a program of the bundle."""

from dataclasses import dataclass
from typing import Literal

Name = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class Optimizer:
    """SGD or AdamW with a constant learning rate."""

    name: Name = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def schedule(self) -> str:
        """The bundle's schedule that takes a step with this optimizer."""
        return f"train.{self.name}"

    def scalars(self, step: int) -> dict[str, float]:
        """What the update of step ``step`` (from 1) is given. The bias corrections are AdamW's (Loshchilov and Hutter, 2019)."""
        if self.name == "sgd":
            return {"lr": self.lr, "weight_decay": self.weight_decay}
        return {
            "lr_weight_decay": self.lr * self.weight_decay,
            "one_minus_beta1": 1 - self.beta1,
            "one_minus_beta2": 1 - self.beta2,
            "step_size": self.lr / (1 - self.beta1**step),
            "rsqrt_correction2": (1 - self.beta2**step) ** -0.5,
            "eps": self.eps,
        }
