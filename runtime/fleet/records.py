"""An adapter as one of Flower's records, under PEFT's names and in PEFT's shapes, and what goes with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from safetensors import safe_open

from ..engine.bundle import MANIFEST, Bundle
from ..engine.manifest import Lora
from ..errors import UsageError
from ..files import folder_that_appears_whole, sha256
from ..training.adapter import Scaling, named, write_peft

# Keys of a message: Flower's strategies are told the first two, and weight clients by the third.
ARRAYS, CONFIG, TARGETS = "arrays", "config", "targets"
METRICS, ABOUT = "metrics", "about"
# Of the configuration that the server sends.
ROUND, FLEET, BUNDLE, SETTINGS, SECONDS = "server-round", "fleet", "bundle", "settings", "round-seconds"


def bundle_id(bundle: Bundle) -> str:
    """What tells a bundle from another: the SHA-256 of its manifest, which has those of its files."""
    return sha256(bundle.path / MANIFEST)


def read_arrays(file: Path, lora: Lora) -> ArrayRecord:
    """An adapter's tensors, in the bundle's order, as fp32.

    Raises:
        UsageError: the file is not whole, or of another bundle.
    """
    with safe_open(file, "np") as tensors:
        found = {name: np.asarray(tensors.get_tensor(name), np.float32) for name in tensors.keys()}
    return checked({name: found[name] for name in _names(lora) if name in found} | found, lora, str(file))


def checked(arrays: Mapping[str, np.ndarray], lora: Lora, whose: str) -> ArrayRecord:
    """The arrays as a record, if they are an adapter of this bundle.

    Raises:
        UsageError: other names or shapes, other numbers than fp32, or one that is not finite.
    """
    expected = {tensor.name: tensor.shape[::-1] if tensor.transposed else tensor.shape for tensor in lora.tensors}
    if other := [*(arrays.keys() ^ expected.keys())]:
        raise UsageError(f"{whose} is an adapter of another kind: {len(other)} tensors differ, such as {min(other)}.")
    for name, shape in expected.items():
        array = arrays[name]
        if array.shape != tuple(shape) or array.dtype != np.float32:
            raise UsageError(
                f"{whose}: {name} is {array.dtype} of {list(array.shape)}, but must be float32 of {list(shape)}."
            )
        if not np.isfinite(array).all():
            raise UsageError(f"{whose}: {name} has a number that is not finite.")
    return ArrayRecord({name: Array(np.ascontiguousarray(arrays[name])) for name in expected})


def single(arrays: ArrayRecord) -> ArrayRecord:
    """The same in fp32: some of Flower's strategies work in fp64, and some noise is."""
    return ArrayRecord({name: Array(np.asarray(array.numpy(), np.float32)) for name, array in arrays.items()})


def write_arrays(folder: Path, arrays: ArrayRecord, bundle: Bundle) -> None:
    """Writes a record as a PEFT adapter, complete or absent.

    Raises:
        UsageError: it is no adapter of this bundle.
        MespError: the folder cannot be written.
    """
    lora, model = bundle.manifest.lora, bundle.manifest.model
    record = checked({name: array.numpy() for name, array in arrays.items()}, lora, "The adapter that came")
    flat = torch.empty(lora.elements)
    for name, place in named(lora, flat).items():
        place.copy_(torch.from_numpy(record[name].numpy().copy()))
    with folder_that_appears_whole(folder, replace=True) as new:
        write_peft(new, lora, flat, Scaling(lora.alpha), model.origin)


def request(fleet: str, bundle: str, settings: Mapping[str, Any], seconds: float) -> ConfigRecord:
    """What the server sends with every adapter."""
    text = json.dumps(dict(settings), sort_keys=True)
    return ConfigRecord({FLEET: fleet, BUNDLE: bundle, SETTINGS: text, SECONDS: seconds})


def failure(name: str, reason: str) -> Error:
    """What a client answers that could not: its name on a line of its own, then why."""
    return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{name}\n{reason}")


def failed(error: Error) -> tuple[str, str]:
    """The name, empty if it is not known, and the reason of a client that could not; or what Flower says of one that gave no answer."""
    first, line, rest = (error.reason or "").partition("\n")
    name, reason = (first, rest) if line else ("", first)
    return name.strip(), " ".join(reason.split())[:500] or f"Flower's error {error.code}"


def reply(arrays: ArrayRecord | None, figures: Mapping[str, float], about: Mapping[str, str]) -> RecordDict:
    """What a client sends back."""
    records = {METRICS: MetricRecord(dict(figures)), ABOUT: ConfigRecord(dict(about))}
    return RecordDict({ARRAYS: arrays, **records} if arrays is not None else records)


def _names(lora: Lora) -> list[str]:
    return [tensor.name for tensor in lora.tensors]
