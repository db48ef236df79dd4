"""Random signs that every runtime draws alike: the bits of SplitMix64 (Steele et al., 2014), addressed by number."""

import numpy as np

_GAMMA = 0x9E3779B97F4A7C15


def signs(seed: int, first: int, count: int) -> np.ndarray:
    """Signs number ``first`` to ``first + count - 1``, +1.0 for a bit that is set and -1.0 for one that is not, fp32 [count].

    Sign n is bit n % 64 of word n // 64; word w is SplitMix64's output number w + 1 from the state ``seed``, modulo 2^64.
    """
    drawn = words(seed, first // 64, (first + count + 63) // 64 - first // 64)
    bits = np.unpackbits(drawn.astype("<u8").view(np.uint8), bitorder="little")[first % 64 :][:count]
    return bits.astype(np.float32) * 2 - 1


def words(seed: int, first: int, count: int) -> np.ndarray:
    """SplitMix64's words number ``first`` to ``first + count - 1``, uint64 [count]."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    state = np.uint64(seed % 2**64) + (numbers + np.uint64(1)) * np.uint64(_GAMMA)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
