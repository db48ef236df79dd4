"""Which token comes next: transformers' own filters leave the same tokens with the same probabilities, and a seed always draws the same."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process

from mesp.runtime.contract import schema
from mesp.runtime.errors import MespError
from mesp.runtime.generation.options import DEFINITIONS, GenerateOptions
from mesp.runtime.generation.sampling import draw, exp, next_token, penalized, weights

from .contract import problems

DRAWN = [
    {},
    {"temperature": 0.3},
    {"temperature": 5.0},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 5000},
    {"top_p": 0.9},
    {"top_p": 0.01},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
    {"temperature": 2.0, "top_k": 20, "top_p": 0.7, "min_p": 0.2},
]
IDS = [3, 5, 5, 211, 900]


def random_logits(seed: int, scale: float = 4.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, 1000).astype(np.float32)


def by_transformers(logits: np.ndarray, options: GenerateOptions) -> np.ndarray:
    """Probabilities, fp64 [V], after the filters in the order of ``generate``."""
    filters: list[Any] = [logits_process.RepetitionPenaltyLogitsProcessor(options.repetition_penalty)]
    filters.append(logits_process.TemperatureLogitsWarper(float(options.temperature)))
    if options.top_k:
        filters.append(logits_process.TopKLogitsWarper(options.top_k))
    if options.top_p < 1:
        filters.append(logits_process.TopPLogitsWarper(options.top_p))
    filters.append(logits_process.MinPLogitsWarper(options.min_p))
    scores = torch.from_numpy(logits)[None]
    for step in filters:
        scores = step(torch.tensor([IDS]), scores)
    probabilities: np.ndarray = torch.softmax(scores[0].double(), -1).numpy()
    return probabilities


@pytest.mark.parametrize("chosen", DRAWN, ids=str)
def test_the_tokens_that_are_left_and_their_probabilities_are_transformers(chosen: dict[str, Any]) -> None:
    options = GenerateOptions(**{"temperature": 1.0, **chosen})
    for seed in range(5):
        logits = random_logits(seed)
        found = weights(penalized(logits, IDS, options.repetition_penalty), options)
        reference = by_transformers(logits, options)
        assert np.array_equal(found > 0, reference > 0)
        assert np.allclose(found / found.sum(), reference, rtol=1e-5, atol=1e-12)


def test_without_temperature_the_likeliest_token_is_taken_and_of_equal_ones_the_lower_id() -> None:
    logits = random_logits(0)
    assert next_token(logits, IDS, GenerateOptions()) == logits.argmax()
    logits[[30, 700]] = 100
    assert next_token(logits, IDS, GenerateOptions(seed=9)) == 30
    assert next_token(logits, [30], GenerateOptions(repetition_penalty=2.0)) == 700
    equal = np.zeros(50, np.float32)
    equal[::2] = -0.0
    only = weights(equal, GenerateOptions(temperature=1.0, top_k=3))
    assert only.nonzero()[0].tolist() == [0, 1, 2]


def test_e_to_the_x_is_within_two_units_of_the_last_place() -> None:
    x = np.concatenate([-np.logspace(-12, math.log10(699), 5000), [0.0, -700.0, -0.5 * math.log(2)]])
    exact = np.array([math.exp(value) for value in x])
    assert (np.abs(exp(x) - exact) <= 2 * np.spacing(exact)).all()
    assert exp(np.array([0.0, -0.0, -700.1, -np.inf])).tolist() == [1, 1, 0, 0]


def test_what_is_drawn_is_drawn_as_often_as_it_is_likely() -> None:
    found = np.array([0.0, 1.0, 0.5, 0.0, 0.25, 0.0])
    drawn = [draw(found, 5, position) for position in range(20_000)]
    shares = np.bincount(drawn, minlength=6) / len(drawn)
    assert np.allclose(shares, found / found.sum(), atol=0.012)
    assert not shares[found == 0].any()


def test_a_seed_and_a_position_draw_the_same_token_each_time() -> None:
    logits, options = random_logits(1, 1.0), [GenerateOptions(temperature=1.0, seed=seed) for seed in (0, 1, -1, 2**40)]
    drawn = [[next_token(logits, [7] * count, chosen) for count in range(30)] for chosen in options]
    assert drawn == [[next_token(logits, [7] * count, chosen) for count in range(30)] for chosen in options]
    assert len({tuple(tokens) for tokens in drawn}) == 4 and len(set(drawn[0])) > 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad: float, temperature: float) -> None:
    logits = random_logits(0)
    logits[17] = bad
    with pytest.raises(MespError, match="logits are not finite"):
        next_token(logits, [], GenerateOptions(temperature=temperature))


def test_odd_options_leave_a_token() -> None:
    logits = random_logits(2)
    odd: tuple[dict[str, Any], ...] = (
        {"temperature": 1e-320},
        {"temperature": 1e300},
        {"temperature": 1.0, "top_p": 5e-324},
    )
    for chosen in odd:
        assert 0 <= next_token(logits, IDS, GenerateOptions(**chosen)) < 1000
    with pytest.raises(MespError, match="not finite"):
        next_token(logits, IDS, GenerateOptions(repetition_penalty=1e-300))


def test_options_have_the_fields_and_defaults_of_the_contract() -> None:
    assert [(field.name, field.default) for field in fields(GenerateOptions)] == [
        (name, definition["default"]) for name, definition in DEFINITIONS.items()
    ]
    assert not problems("generation", vars(GenerateOptions(temperature=1.0, top_k=3, min_p=0.5)))
    assert problems("generation", {"top_k": -1}) and schema("text")["properties"]["settings"]["$ref"]
