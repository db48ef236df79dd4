"""Adapters in PEFT's format, in and out.

In memory the adapter is one flat tensor. The manifest says where in it each of PEFT's tensors lies, and which of them PEFT's file has
transposed: lora_A.weight is [rank, in] there and [in, rank] here.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..contract import adapters_table
from ..engine.manifest import AdapterTensor, Lora
from ..engine.schedule import TensorSpec
from ..engine.tensor_file import TensorFile
from ..errors import UsageError
from ..files import refuse_pointer, replacing, write_json
from .adapter_config import CONFIG, read_plain_lora

if TYPE_CHECKING:
    from torch import Tensor  # what an adapter's configuration says is read, and refused, without torch

WEIGHTS, OLD_WEIGHTS = "adapter_model.safetensors", "adapter_model.bin"
_DTYPES = ("F32", "F16", "BF16")
# What names have for a number format (Q4_1, q8_0, IQ3_XXS, f16, unsloth-bnb-4bit, AWQ), and the Meta- that the Hub dropped from Llama.
_NOT_IN_NAMES = re.compile(adapters_table()["not_in_names"])


@dataclass(frozen=True)
class Scaling:
    """What an adapter is scaled by: alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski, 2023)."""

    alpha: float
    rslora: bool = False

    def at(self, rank: int) -> float:
        return self.alpha / (math.sqrt(rank) if self.rslora else rank)


def view(adapter: "Tensor", tensor: AdapterTensor) -> "Tensor":
    """One tensor of the adapter (or of gradients in its layout) in place, in its shape in memory."""
    return adapter.view(-1)[tensor.offset : tensor.offset + tensor.elements].view(tensor.shape)


def named(lora: Lora, adapter: "Tensor") -> "dict[str, Tensor]":
    """The adapter's tensors (or gradients in its layout) under PEFT's names and in its shapes, as views."""
    return {tensor.name: _in_peft(tensor, adapter) for tensor in lora.tensors}


def _in_peft(tensor: AdapterTensor, adapter: "Tensor") -> "Tensor":
    part = view(adapter, tensor)
    return part.t() if tensor.transposed else part


def write_adapter(path: Path, lora: Lora, adapter: "Tensor") -> None:
    """Writes the adapter's tensors as one safetensors file, one at a time: the run's peak is not to be here."""
    shapes = {tensor.name: tensor.shape[::-1] if tensor.transposed else tensor.shape for tensor in lora.tensors}
    specs = {name: TensorSpec(shape) for name, shape in shapes.items()}
    with replacing(path) as beside, TensorFile(beside, specs, metadata={"format": "pt"}) as file:
        for tensor in lora.tensors:
            file.write(tensor.name, _in_peft(tensor, adapter))


def read_adapter(path: Path, lora: Lora, adapter: "Tensor") -> None:
    """Reads a safetensors file of ``write_adapter`` or of PEFT into the adapter, which changes only if all of it fits.

    Raises:
        UsageError: the file is not whole, or holds other tensors than this bundle trains.
    """
    places = named(lora, adapter)
    check_weights_file(path)
    try:
        with safe_open(path, "pt") as file:
            check_tensors(path, {key: file.get_slice(key).get_dtype() for key in file.keys()})
            if set(file.keys()) != set(places):
                raise UsageError(
                    f"{path} is an adapter of other projections or layers: {_difference(set(file.keys()), set(places))}"
                )
            for key, place in places.items():
                stored = file.get_slice(key)
                if tuple(stored.get_shape()) != tuple(place.shape):
                    raise UsageError(
                        f"{path}: {key} is {stored.get_shape()}, but this bundle's is {list(place.shape)}."
                    )
            for key, place in places.items():
                place.copy_(file.get_tensor(key))
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a whole safetensors file: {error}.") from error


def check_weights_file(path: Path) -> None:
    """Raises UsageError for an adapter whose tensors are not there, or not in safetensors."""
    old = path.with_name(OLD_WEIGHTS)
    if path.is_file():
        refuse_pointer(path)
    elif old.is_file():
        raise UsageError(
            f"{path.parent} has its tensors in PyTorch's own format. Convert them once: python -c \"import torch; from safetensors.torch import "
            f"save_file; save_file(torch.load('{old}', weights_only=True), '{path}')\""
        )


def check_tensors(path: Path, stored: Mapping[str, str]) -> None:
    """Refuses an adapter's file whose tensors are no floats, or have the names that they have inside of PEFT and not in its files.

    Args:
        stored: safetensors' name of each tensor's type

    Raises:
        UsageError: names the tensor.
    """
    for name, dtype in stored.items():
        if re.search(r"\.lora_\w+\.(?!weight$|bias$)\w+\.weight$", name):
            raise UsageError(
                f"{path}: {name} has the adapter's name in it, so it was saved with state_dict(). Save it with PEFT's save_pretrained."
            )
        if dtype not in _DTYPES:
            raise UsageError(f"{path}: {name} is stored as {dtype}; expected {', '.join(_DTYPES)}.")


def _difference(found: set[str], expected: set[str]) -> str:
    missing, extra = sorted(expected - found), sorted(found - expected)
    parts = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
    return "; ".join(parts + ([f"{len(extra)} that it does not train, such as {extra[0]}"] if extra else [])) + "."


def write_peft(folder: Path, lora: Lora, adapter: "Tensor", scaling: Scaling, base_model: str) -> None:
    """Writes into a folder what peft.PeftModel.from_pretrained loads.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    layers = lora.layers_to_transform
    write_adapter(folder / WEIGHTS, lora, adapter)
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": lora.rank,
            "lora_alpha": scaling.alpha,
            "target_modules": list(lora.targets),
            "layers_to_transform": None if layers is None else list(layers),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": scaling.rslora,
            "use_dora": False,
            "modules_to_save": None,
            "inference_mode": True,
        },
    )


def read_peft(folder: Path, lora: Lora, adapter: "Tensor", base_model: str | None = None) -> Scaling:
    """Reads a PEFT adapter folder into the adapter and returns its scaling.

    Args:
        base_model: the origin of the model that it must have been made for; None takes any

    Raises:
        UsageError: no adapter, one of another rank, of other targets or another model, or of a kind that these programs do not compute.
    """
    config, file = read_plain_lora(folder), folder / CONFIG
    if config.rank != lora.rank:
        raise UsageError(
            f"{file}: rank {config.rank}, but this bundle was exported with rank {lora.rank}. Export with --rank {config.rank}."
        )
    if base_model and not same_base(config.base, base_model):
        raise UsageError(
            f"{folder} is an adapter of {config.base}, but this bundle is of {base_model}. "
            "If they are the same weights under two names, pass --allow-other-base."
        )
    read_adapter(folder / WEIGHTS, lora, adapter)
    return Scaling(config.alpha, config.rslora)


def same_base(name_of_adapter: str | None, origin: str) -> bool:
    """Whether an adapter was made for a model, as far as names can say: ``Qwen/Qwen2.5-0.5B`` is ``models/qwen2.5-0.5b-q8_0.gguf``.

    Args:
        name_of_adapter: base_model_name_or_path of its configuration; one without a name is taken to fit
        origin: the model's folder, file or Hub id
    """
    return not name_of_adapter or _model_name(name_of_adapter) == _model_name(origin)


def _model_name(name: str) -> str:
    """The last part of a path or Hub id, without what does not tell models apart."""
    path = os.path.abspath(name.removesuffix(" (random weights)"))
    if cached := re.search(r"/models--[^/]+--([^/]+)/snapshots/[^/]+$", path):  # a Hub id in the Hub's cache
        return cached[1].lower()
    return _NOT_IN_NAMES.sub("", os.path.basename(path).lower().removesuffix(".gguf"))
