"""The vocabulary of a BPE tokenizer, in a safetensors file that a phone reads in place: tokenizer.json would take it its whole memory.

spellings  uint8: the bytes of all tokens, one after another, by id
starts     int32, [ids + 1]: where each id's bytes begin; an id that is no token of the model has none
merges     int32, [ids + 1]: where each id's merges begin in the two below
cuts       int32: where a merge's first token ends, in bytes from the token's start
ranks      int32: which merge it is; those of lower rank come first
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FILE = "vocabulary.safetensors"


def write_vocabulary(path: Path, tokens: Mapping[int, bytes], merges: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes the tokens, by id, and the merges of every two that become a third, the first ones first."""
    ids = range(max(tokens) + 1)
    id_of = {spelling: token for token, spelling in tokens.items()}
    of_token: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for rank, (first, second) in enumerate(merges):
        of_token[id_of[first + second]].append((len(first), rank))
    pairs = [pair for token in ids for pair in sorted(of_token.get(token, ()))]
    arrays = {
        "spellings": np.frombuffer(b"".join(tokens.get(token, b"") for token in ids), np.uint8),
        "starts": _starts(len(tokens.get(token, b"")) for token in ids),
        "merges": _starts(len(of_token.get(token, ())) for token in ids),
        "cuts": np.array([cut for cut, _ in pairs], np.int32),
        "ranks": np.array([rank for _, rank in pairs], np.int32),
    }
    save_file(arrays, path)


def _starts(lengths: Iterable[int]) -> np.ndarray:
    return np.array([0, *accumulate(lengths)], np.int32)
