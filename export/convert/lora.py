"""A plain LoRA adapter as values, read from PEFT's files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from mesp.runtime.errors import UsageError
from mesp.runtime.training.adapter import WEIGHTS, Scaling, check_tensors, check_weights_file
from mesp.runtime.training.adapter_config import read_plain_lora

_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class Pair:
    """The two factors of a projection's adapter: it adds scale * B A to the weight.

    Args:
        a: [rank, in], fp32; b: [out, rank], fp32
    """

    a: np.ndarray
    b: np.ndarray


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter.

    Args:
        pairs: by transformers' path of the projection, in the order of the file
        scale: what B A is multiplied with
        base: the model that it was made for; None if it does not say
    """

    folder: Path
    pairs: Mapping[str, Pair]
    rank: int
    scale: float
    base: str | None


def read_lora(folder: Path) -> LoraAdapter:
    """Reads a PEFT adapter folder.

    Raises:
        UsageError: none, or one that is more than A and B of plain LoRA.
    """
    config, file = read_plain_lora(folder), folder / WEIGHTS
    check_weights_file(file)
    factors: dict[str, dict[str, np.ndarray]] = {}
    try:
        with safe_open(file, "pt") as opened:
            check_tensors(file, {key: opened.get_slice(key).get_dtype() for key in opened.keys()})
            for key in opened.keys():
                if not (found := _NAME.fullmatch(key)):
                    raise UsageError(f"{file}: {key} is no A or B of a projection. Use an adapter of plain LoRA.")
                factors.setdefault(found[1], {})[found[2]] = opened.get_tensor(key).float().numpy()
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file} is not a whole safetensors file: {error}.") from error
    pairs = {path: _pair(file, path, found, config.rank) for path, found in factors.items()}
    if not pairs:
        raise UsageError(f"{file} holds no tensors.")
    scale = Scaling(config.alpha, config.rslora).at(config.rank)
    return LoraAdapter(folder, pairs, config.rank, scale, config.base)


def _pair(file: Path, path: str, found: Mapping[str, np.ndarray], rank: int) -> Pair:
    if found.keys() != {"A", "B"}:
        raise UsageError(f"{file}: {path} has lora_{next(iter(found))} alone. Expected lora_A and lora_B of each.")
    a, b = found["A"], found["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise UsageError(f"{file}: {path} is {[*a.shape]} and {[*b.shape]}; expected [{rank}, in] and [out, {rank}].")
    return Pair(a, b)
