"""Which token comes next, by the logits: the same in both runtimes, bit for bit.

The filters and their order are transformers': repetition penalty, temperature, top-k, top-p, min-p. The penalty is applied in float32, as
there; all that follows is float64. What must not differ by a bit between numpy and Java is spelled out:

    order    by the penalized logit, the largest first; of equal ones the lower id
    exp      a polynomial, of additions and products alone: neither library promises the last bit of its own
    sums     one term after the other: of the weights by id, for top-p in the order above
    draw     SplitMix64's output number p + 1 from the seed, for the token at position p; its upper 53 bits / 2^53 of the weights' sum

A token's weight is exp((logit - largest) / temperature), so the likeliest one's is 1; the weights are not divided by their sum.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..engine.random_signs import words
from ..errors import MespError
from .options import GenerateOptions

_LOG2_E = 1.4426950408889634
# ln 2 in two parts. The first has 32 zeros at its end, so that its product with a small whole number is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LEAST = -700.0  # below it a weight is 0: none is near float64's smallest numbers
_COEFFICIENTS = [1.0 / math.factorial(n) for n in range(13, -1, -1)]


def next_token(logits: np.ndarray, ids: Sequence[int], options: GenerateOptions) -> int:
    """The token that follows.

    Args:
        logits: of the last position, fp32 [V]
        ids: the tokens so far, the prompt's among them

    Raises:
        MespError: logits that are not finite.
    """
    scores = penalized(logits, ids, options.repetition_penalty)
    if not np.isfinite(scores).all():
        raise MespError("The model's logits are not finite, so no token can be chosen. The adapter may have diverged.")
    if options.temperature == 0:
        return int(np.argmax(scores))
    return draw(weights(scores, options), options.seed, len(ids))


def penalized(logits: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """The logits with those of the tokens that were there moved towards -infinity by a factor (Keskar et al., 2019), fp32 [V]."""
    if penalty == 1:
        return logits
    scores, factor = logits.copy(), np.float32(penalty)
    there = np.unique(np.asarray(ids, np.int64))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what is not finite then is refused
        scores[there] = np.where(scores[there] < 0, scores[there] * factor, scores[there] / factor)
    return scores


def weights(scores: np.ndarray, options: GenerateOptions) -> np.ndarray:
    """What each token's probability is proportional to, 0 where a filter takes it out, fp64 [V]."""
    with np.errstate(over="ignore"):  # -infinity for a temperature near 0
        found = exp((scores.astype(np.float64) - float(scores.max())) / options.temperature)
    if options.top_k or options.top_p < 1:
        order = np.argsort(-scores, kind="stable")[: options.top_k or None]
        found = _only(found, order)
        if options.top_p < 1:
            before = np.concatenate(([0.0], np.cumsum(found[order])[:-1]))  # the weights of the likelier ones
            kept = before < options.top_p * _sum(found)
            found = _only(found, order[kept])
    return np.where(found >= options.min_p, found, 0.0)


def draw(found: np.ndarray, seed: int, position: int) -> int:
    """The token that the seed gives for a position, with probabilities in proportion to the weights."""
    share = float(words(seed, position, 1)[0] >> np.uint64(11)) * 2.0**-53
    ends = np.cumsum(found)
    return int(np.searchsorted(ends, share * ends[-1], side="right"))


def exp(x: np.ndarray) -> np.ndarray:
    """e^x for x <= 0, within 2 units of the last place, and 0 below -700: e^(x - k ln 2) by its series to the 13th power, times 2^k."""
    near = np.maximum(x, _LEAST)
    k = np.floor(near * _LOG2_E + 0.5)
    r = (near - k * _LN2_HIGH) - k * _LN2_LOW
    value = np.full_like(r, _COEFFICIENTS[0])
    for coefficient in _COEFFICIENTS[1:]:
        value = value * r + coefficient
    return np.where(x < _LEAST, 0.0, np.ldexp(value, k.astype(np.int32)))


def _only(found: np.ndarray, kept: np.ndarray) -> np.ndarray:
    rest = np.zeros_like(found)
    rest[kept] = found[kept]
    return rest


def _sum(found: np.ndarray) -> float:
    """One term after the other; numpy's own sum has an order of its own."""
    return float(np.cumsum(found)[-1])
