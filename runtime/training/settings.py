"""What a person chooses for a run, and the checks of it. Defaults, limits and choices are those of contract/settings.schema.json."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..contract import schema
from ..contract.limits import allows, types_of
from ..data.hub import spelled
from ..data.rows import read_columns
from ..errors import UsageError
from .optimizer import LearningRate, Name, Optimizer, Shape

DEFINITIONS: Mapping[str, Mapping[str, Any]] = schema("settings")["properties"]
PATHS = tuple(name for name, definition in DEFINITIONS.items() if definition.get("format") == "path")
# What the memory of a run depends on.
MEMORY = ("optimizer", "momentum", "grad_accumulation", "clip_norm")
DEFAULT_LR: Mapping[str, float] = DEFINITIONS["lr"]["default_by_optimizer"]


@dataclass(frozen=True)
class TrainSettings:
    """The choices of a run.

    Args:
        data: training rows: a file, or what ``data.hub`` reads from the Hugging Face Hub
        eval_data: held-out rows; or eval_split: the fraction of ``data`` that is held out
        map: what the rows call the keys of their kind: "prompt=question,completion=answer"
        adapter: a PEFT adapter folder to start from, instead of the bundle's initial one
        allow_other_base: take that adapter even if it names another base model
        steps: how many; None for ``epochs`` passes over the data
        momentum: of sgd
        lr: the learning rate after the warm-up; None for the optimizer's default, ``DEFAULT_LR``
        schedule: what becomes of the learning rate after the warm-up
        warmup: steps, or below 1 a fraction of all steps
        grad_accumulation: sequences of one step; its loss is the mean over all of their targets
        clip_norm: the largest norm of a step's gradient; None for no limit
        eval_every: steps between evaluations; None for the beginning and the end alone
        eval_sequences: at most so many held-out sequences in each, spread over all of them; None for all
        patience: evaluations in a row without a better loss after which the run stops; None to go on
        checkpoint_every: steps between checkpoints, 0 for none but the last
        keep_checkpoints: how many of the latest are kept
        packing: join texts and cut them into windows; else each is a sequence of its own
        seed: of the order of the rows, and of the split
        threads: of the programs; None for one a core
        find_threads: try different numbers of threads before the run, and take the fastest
    """

    data: Path
    eval_data: Path | None = None
    eval_split: float | None = None
    map: str | None = None
    adapter: Path | None = None
    allow_other_base: bool = False
    steps: int | None = None
    epochs: int = 1
    optimizer: Name = "adamw"
    momentum: float = 0.0
    lr: float | None = None
    schedule: Shape = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    grad_accumulation: int = 1
    clip_norm: float | None = None
    eval_every: int | None = None
    eval_sequences: int | None = None
    patience: int | None = None
    checkpoint_every: int = 50
    keep_checkpoints: int = 2
    packing: bool = True
    shuffle: bool = True
    seed: int = 0
    threads: int | None = None
    find_threads: bool = False

    def __post_init__(self) -> None:
        """Refuses what no run can have.

        Raises:
            UsageError: names the option, what it is and what it must be.
        """
        for name in PATHS:
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value))
        for name, value in _json_values(self).items():
            if not allows(DEFINITIONS[name], value):
                raise UsageError(f"{option(name)} {_shown(value)} must be {_expected(DEFINITIONS[name])}.")
        read_columns(self.map)
        if self.momentum and self.optimizer != "sgd":
            raise UsageError(f"--momentum is sgd's; {self.optimizer} has moments of its own.")
        if self.eval_data is not None and self.eval_split is not None:
            raise UsageError("--eval-data and --eval-split are two ways to hold rows out: give one of them.")
        if self.eval_every is not None and self.eval_data is None and self.eval_split is None:
            raise UsageError("--eval-every needs rows to evaluate on: give --eval-data or --eval-split.")
        if self.threads is not None and self.find_threads:
            raise UsageError("--threads is a number, or found by --find-threads: give one of them.")
        if self.patience is not None and self.eval_every is None:
            raise UsageError("--patience counts evaluations: give --eval-every too.")

    @property
    def keeps_gradients(self) -> bool:
        """A step needs every layer's gradient at once: several sequences add to it, or its norm is needed before the update."""
        return self.grad_accumulation > 1 or self.clip_norm is not None

    def steps_of(self, examples: int) -> int:
        """Steps of the run on this many examples."""
        return self.steps or math.ceil(self.epochs * examples / self.grad_accumulation)

    @property
    def _peak_lr(self) -> float:
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    def make_optimizer(self, steps: int) -> Optimizer:
        """The optimizer of a run of this many steps."""
        warmup = math.ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)
        if warmup > steps:
            raise UsageError(f"--warmup {warmup} is longer than the run of {steps} steps.")
        return Optimizer(
            self.optimizer, LearningRate(self._peak_lr, self.schedule, steps, warmup), self.weight_decay, self.momentum
        )

    def to_json(self) -> dict[str, Any]:
        """As run.json holds it, the learning rate's default filled in."""
        return _json_values(self) | {"lr": self._peak_lr}


def _json_values(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON has them, paths as text."""
    return {name: spelled(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}


def _shown(value: Any) -> str:
    """A value in a message of one line."""
    text = str(value)
    return text if text.isprintable() and len(text) <= 80 else repr(text)[:80]


def _expected(definition: Mapping[str, Any]) -> str:
    """What a value must be, in words."""
    if "enum" in definition:
        return " or ".join(definition["enum"])
    text: str = definition.get("expected") or f"a {' or '.join(t for t in types_of(definition) if t != 'null')}"
    return text


def option(name: str) -> str:
    """The command line's name of a setting."""
    return "--" + name.replace("_", "-")


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The settings that must be those of the run that is resumed, and are not.

    Paths may differ, because what they lead to is compared by its contents; so may what changes no result. A run may be given more steps.
    """
    fixed = [field.name for field in fields(TrainSettings) if not DEFINITIONS[field.name]["may_change_on_resume"]]
    changed = [name for name in fixed if name not in ("steps", "epochs") and now[name] != before.get(name)]
    if now["steps"] < before["steps"]:
        changed.insert(0, "steps")
    return [f"{option(name)} was {before.get(name)} and is now {now[name]}" for name in changed]
