"""Adapters in PEFT's format, in and out.

In memory the adapter is one [layers, elements of a layer] tensor, each layer a vector of its A's [in, rank] and B's [out, rank]. PEFT's file
has a tensor for each, under transformers' module names, with A transposed: lora_A.weight [rank, in], lora_B.weight [out, rank].
"""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .bundle import AdapterTensor, Lora
from .errors import MespError, UsageError
from .files import replacing, write_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def _key(layer: int, tensor: AdapterTensor) -> str:
    module = "self_attn" if tensor.projection in _ATTENTION else "mlp"
    factor = {"lora_a": "lora_A", "lora_b": "lora_B"}[tensor.factor]
    return f"base_model.model.model.layers.{layer}.{module}.{tensor.projection}.{factor}.weight"


def view(lora: Lora, adapter: Tensor, layer: int, tensor: AdapterTensor) -> Tensor:
    """One tensor of the adapter (or of gradients in its layout) in place, [in or out, rank]."""
    return adapter[layer, tensor.offset : tensor.offset + math.prod(tensor.shape)].view(tensor.shape)


def named(lora: Lora, adapter: Tensor) -> dict[str, Tensor]:
    """The adapter's tensors (or gradients in its layout) under PEFT's names and in its shapes, as views."""
    tensors = {}
    for layer in range(lora.layers):
        for tensor in lora.tensors:
            part = view(lora, adapter, layer, tensor)
            tensors[_key(layer, tensor)] = part.t() if tensor.factor == "lora_a" else part
    return tensors


def write_adapter(path: Path, lora: Lora, adapter: Tensor) -> None:
    """Writes the adapter's tensors as one safetensors file.

    Raises:
        MespError: the disk is full, or the folder cannot be written.
    """
    tensors = {key: tensor.contiguous() for key, tensor in named(lora, adapter).items()}
    try:
        with replacing(path) as beside:
            save_file(tensors, beside, metadata={"format": "pt"})
    except SafetensorError as error:
        raise MespError(f"Could not write {path}: {error}.") from error


def read_adapter(path: Path, lora: Lora, adapter: Tensor) -> None:
    """Reads a safetensors file of ``write_adapter`` or of PEFT into the adapter, which changes only if all of it fits.

    Raises:
        UsageError: the file is not whole, or holds other tensors than this bundle trains.
    """
    places = named(lora, adapter)
    try:
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(places):
                raise UsageError(
                    f"{path} is an adapter of other projections or layers: {_difference(set(file.keys()), set(places))}"
                )
            for key, place in places.items():
                if tuple(file.get_slice(key).get_shape()) != tuple(place.shape):
                    raise UsageError(
                        f"{path}: {key} is {file.get_slice(key).get_shape()}, but this bundle's is {list(place.shape)}."
                    )
            for key, place in places.items():
                place.copy_(file.get_tensor(key))
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a whole safetensors file: {error}.") from error


def _difference(found: set[str], expected: set[str]) -> str:
    missing, extra = sorted(expected - found), sorted(found - expected)
    parts = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
    return "; ".join(parts + ([f"{len(extra)} that it does not train, such as {extra[0]}"] if extra else [])) + "."


def write_peft(folder: Path, lora: Lora, adapter: Tensor, alpha: float, base_model: str) -> None:
    """Writes a folder that peft.PeftModel.from_pretrained loads; its scale is alpha / rank."""
    folder.mkdir(parents=True, exist_ok=True)
    write_adapter(folder / WEIGHTS, lora, adapter)
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": lora.rank,
            "lora_alpha": alpha,
            "target_modules": list(lora.targets),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
            "use_dora": False,
            "modules_to_save": None,
            "inference_mode": True,
        },
    )


def read_peft(folder: Path, lora: Lora, adapter: Tensor) -> float:
    """Reads a PEFT adapter folder into the adapter and returns its scale, alpha / rank (alpha / sqrt(rank) for rsLoRA).

    Raises:
        UsageError: no adapter, one of another rank or of other targets, or of a kind that these programs do not compute.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is not a PEFT adapter: {CONFIG} cannot be read ({error}).") from error
    refuse = [
        name
        for name in (
            "use_dora",
            "fan_in_fan_out",
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "layers_to_transform",
        )
        if config.get(name)
    ]
    if config.get("bias", "none") != "none":
        refuse.append("bias")
    if config.get("peft_type") != "LORA" or refuse:
        raise UsageError(
            f"{file}: only plain LoRA adapters can be trained on, not {config.get('peft_type')} with {', '.join(refuse) or 'its settings'}."
        )
    if config["r"] != lora.rank:
        raise UsageError(
            f"{file}: rank {config['r']}, but this bundle was exported with rank {lora.rank}. Export with --rank {config['r']}."
        )
    read_adapter(folder / WEIGHTS, lora, adapter)
    return _scale(config)


def _scale(config: dict[str, Any]) -> float:
    rank: int = config["r"]
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
