"""Flower's strategies, by the names of their classes."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
    Strategy,
)

from ..errors import UsageError
from ..files import replacing
from .records import ARRAYS, CONFIG, TARGETS
from .settings import Privacy

NAMES = (
    "FedAvg",
    "FedAvgM",
    "FedAdam",
    "FedAdagrad",
    "FedYogi",
    "FedMedian",
    "FedTrimmedAvg",
    "Krum",
    "MultiKrum",
    "Bulyan",
)
_REFUSED = {
    "FedProx": "its proximal term is a part of each step's gradient, and a bundle's programs do not have it. Take FedAvg, with fewer steps "
    "a round or a smaller learning rate",
    "QFedAvg": "it weights clients by the loss of the common adapter on their training rows, which a run does not compute",
    "FedXgbBagging": "it is for trees",
    "FedXgbCyclic": "it is for trees",
}
# What the fleet itself gives, and what is a function and so no configuration's.
_OWN = (
    "self",
    "arrayrecord_key",
    "configrecord_key",
    "weighted_by_key",
    "train_metrics_aggr_fn",
    "evaluate_metrics_aggr_fn",
    "selection_rule",
)
# What a strategy carries from one round to the next: lists or dictionaries of arrays.
_CARRIED = ("momentum_vector", "m_t", "v_t")


def make_strategy(name: str, options: Mapping[str, Any], privacy: Privacy) -> Strategy:
    """A strategy of Flower's, inside of what adds noise to it.

    Args:
        options: its arguments, by their names in Flower

    Raises:
        UsageError: none of this name, one that a fleet cannot have, or an argument that it does not take.
    """
    if name in _REFUSED:
        raise UsageError(f"The strategy {name} cannot be had: {_REFUSED[name]}.")
    if name not in NAMES:
        raise UsageError(f"There is no strategy {name}. There are {', '.join(NAMES)}.")
    class_ = getattr(flower, name)
    taken = [argument for argument in inspect.signature(class_.__init__).parameters if argument not in _OWN]
    for option in options:
        if option not in taken:
            shown = ", ".join(argument.replace("_", "-") for argument in taken)
            raise UsageError(f"The strategy {name} has no {option.replace('_', '-')}. It has {shown}.")
    fewest = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
    try:
        strategy = class_(
            arrayrecord_key=ARRAYS, configrecord_key=CONFIG, weighted_by_key=TARGETS, **{**fewest, **options}
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"The strategy {name} does not take its options: {error}.") from error
    return _noisy(strategy, privacy, max(1, strategy.min_train_nodes))


def _noisy(strategy: Strategy, privacy: Privacy, clients: int) -> Strategy:
    wrappers = {
        "central": DifferentialPrivacyServerSideFixedClipping,
        "central-clients": DifferentialPrivacyClientSideFixedClipping,
    }
    if privacy.mode not in wrappers:
        return strategy
    return wrappers[privacy.mode](strategy, privacy.noise_multiplier, privacy.clipping_norm, clients)


def inner(strategy: Strategy) -> Strategy:
    """The strategy without what is around it."""
    while isinstance(found := getattr(strategy, "strategy", None), Strategy):
        strategy = found
    return strategy


def write_state(strategy: Strategy, file: Path) -> None:
    """Writes what the strategy carries to the next round; an empty archive of one that carries nothing."""
    found: dict[str, np.ndarray] = {}
    for name in _CARRIED:
        value = getattr(inner(strategy), name, None)
        items = value.items() if isinstance(value, dict) else enumerate(value or ())
        found |= {f"{name}/{key}": array for key, array in items}
    with replacing(file) as beside, open(beside, "wb") as opened:
        np.savez(opened, **found)  # type: ignore[arg-type] # no array has the name of its other argument


def read_state(strategy: Strategy, file: Path) -> None:
    """Gives a strategy what ``write_state`` wrote of it."""
    with np.load(file) as archive:
        for name in _CARRIED:
            items = {key.partition("/")[2]: archive[key] for key in archive.files if key.startswith(f"{name}/")}
            if items:
                is_list = name == "momentum_vector"
                setattr(inner(strategy), name, [items[str(n)] for n in range(len(items))] if is_list else items)
