"""The adapter that a bundle starts with, and its description in the manifest."""

import torch
from torch import Tensor

from mesp.runtime.engine.manifest import AdapterTensor, Lora

from ..programs.plan import Plan

_PEFT = {"lora_a": "lora_A", "lora_b": "lora_B"}


def make_lora(plan: Plan) -> Lora:
    """The adapter as the manifest describes it."""
    arch, adapter = plan.architecture, plan.adapter
    tensors = tuple(
        AdapterTensor(
            f"base_model.model.{arch.module(layer, factor.projection)}.{_PEFT[factor.name]}.weight",
            adapter.start(layer) + factor.offset,
            (factor.rows, plan.rank),
            factor.name == "lora_a",
        )
        for layer in range(plan.first_layer, len(arch.layers))
        for factor in adapter.factors(arch.layers[layer])
    )
    layers = tuple(range(plan.first_layer, len(arch.layers))) if plan.first_layer else None
    return Lora(plan.rank, plan.settings.alpha, plan.settings.targets, layers, "adapter", tensors)


def initial_adapter(lora: Lora, seed: int) -> Tensor:
    """[elements]: A uniform as PEFT draws it (Kaiming with a = sqrt(5): bound 1 / sqrt(in)), B zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(lora.elements)
    for tensor in lora.tensors:
        if tensor.transposed:  # an A
            bound = tensor.shape[0] ** -0.5
            values[tensor.offset : tensor.offset + tensor.elements].uniform_(-bound, bound, generator=generator)
    return values
