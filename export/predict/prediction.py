"""What training will take in memory, and which choices would make it less."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mesp.runtime.training.settings import TrainSettings

from ..bundle.make_plan import make_plan
from ..export_settings import ExportSettings
from ..model.families import read_architecture
from ..programs.plan import Plan
from .footprint import footprint, longest_within


@dataclass(frozen=True)
class Choices:
    """What a person chooses that memory depends on."""

    export: ExportSettings
    training: TrainSettings

    def memory(self, plan: Plan) -> dict[str, int]:
        """The peak over an idle process by part, in bytes."""
        optimizer = self.training.make_optimizer(steps=1).program
        return footprint(plan, optimizer, self.training.grad_accumulation > 1, self.training.clip_norm is not None)


@dataclass(frozen=True)
class Prediction:
    """A plan, and the peak over an idle process by part, in bytes."""

    plan: Plan
    parts: Mapping[str, int]

    @property
    def nbytes(self) -> int:
        return sum(self.parts.values())


def predict(config: Any, choices: Choices) -> Prediction:
    """What a model of this configuration will take."""
    plan = make_plan(config, choices.export)
    return Prediction(plan, choices.memory(plan))


def of_length(choices: Choices, tokens: int) -> Choices:
    """The same for a sequence of so many tokens alone."""
    fewer = tuple(rows for rows in choices.export.head_rows if rows < tokens)
    return replace(choices, export=replace(choices.export, seq_len=(tokens,), head_rows=fewer))


def predict_longest(config: Any, choices: Choices, budget: int) -> Prediction | None:
    """Of the longest sequence whose peak is at most ``budget`` bytes; None if not even the shortest's is."""
    longest = read_architecture(config).max_tokens
    plan = longest_within(
        budget, longest, lambda tokens: make_plan(config, of_length(choices, tokens).export), choices.memory
    )
    return None if plan is None else Prediction(plan, choices.memory(plan))


@dataclass(frozen=True)
class Saving:
    """A change of the choices, as options of the command line, and the peak that follows, in bytes."""

    options: str
    nbytes: int


def savings(config: Any, choices: Choices) -> list[Saving]:
    """What would take less, one change at a time, and then all of them together."""
    layers = read_architecture(config).layers
    found, all_changed, named = [], choices, []
    for options, change in _changes(choices, len(layers)):
        found.append(Saving(options, predict(config, change(choices)).nbytes))
        all_changed = change(all_changed)
        named.append(options)
    if len(found) > 1:
        found.append(Saving(" ".join(named), predict(config, all_changed).nbytes))
    return found


def _changes(choices: Choices, layers: int) -> Iterator[tuple[str, Callable[[Choices], Choices]]]:
    """Options that are not chosen yet, and what they do, the cheapest first: what changes no result, then what trains less."""

    def export(**changes: Any) -> Callable[[Choices], Choices]:
        return lambda chosen: replace(chosen, export=replace(chosen.export, **changes))

    if choices.export.offload is None and choices.export.method != "mezo":
        yield "--offload inputs", export(offload="inputs")
    if choices.training.optimizer != "sgd":
        plain = replace(choices.training, optimizer="sgd")
        yield "--optimizer sgd", lambda chosen: replace(chosen, training=plain)
    if choices.export.rank > 1:
        rank = choices.export.rank // 2
        yield f"--rank {rank}", export(rank=rank)
    top = choices.export.layers or layers
    if top > 1:
        yield f"--layers {top // 2}", export(layers=top // 2)
