"""Checks a bundle against autograd: every adapter gradient of the lowered programs against that of transformers' own model,
with the same dequantized weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mesp.runtime.data.dataset import Example, inputs
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine.bundle import ADAPTER, Bundle, open_bundle
from mesp.runtime.engine.manifest import Lora
from mesp.runtime.engine.session import Session
from mesp.runtime.engine.sizes import Size
from mesp.runtime.errors import UsageError
from mesp.runtime.training import adapter as peft

from .transformers_model import reference_model

# The largest relative error in norm of a gradient that passes.
TOLERANCE = 1e-4
# The same of a bundle that keeps its block inputs in float16: seven times the worst tensor of SmolLM2-135M at 256 tokens, which
# benchmarks/questions/gradient_error.py found at 1.4e-3.
FLOAT16_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Check:
    """One tensor of the adapter: its gradient by the programs against autograd's."""

    size: Size
    name: str  # PEFT's
    norm: float  # of autograd's gradient
    relative_error: float  # |ours - autograd's| / |autograd's|
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.relative_error <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Both losses by size of sequence, and every tensor's check. Losses are exact whatever block inputs are kept in."""

    block_inputs: str  # the dtype in which they are kept
    losses: dict[Size, tuple[float, float]]  # by the programs, by autograd
    checks: list[Check]

    @property
    def passed(self) -> bool:
        close = all(abs(ours - autograd) <= TOLERANCE * abs(autograd) for ours, autograd in self.losses.values())
        return close and all(check.passed for check in self.checks)


@dataclass(frozen=True)
class BothWays:
    """The loss and the gradients of a sequence by the programs and by autograd, the tensors under PEFT's names."""

    size: Size
    loss: float
    gradients: dict[str, Tensor]  # views, valid until the next sequence
    autograd_loss: float
    autograd: dict[str, Tensor]


def verify(bundle: Bundle | Path, seed: int = 0) -> Verification:
    """Checks the gradients of ``both_ways``, tensor by tensor.

    Raises:
        UsageError: not a bundle, one that was changed, or one whose gradients are estimates.
    """
    bundle = open_bundle(bundle) if isinstance(bundle, Path) else bundle
    if bundle.manifest.plan["method"] == "mezo":
        raise UsageError(
            f"{bundle.path} was exported with --method mezo, whose gradients are estimates: there is nothing exact to compare "
            "with autograd. benchmarks/questions/mezo_estimate.py shows how close they are."
        )
    block_inputs = bundle.manifest.plan["block_inputs"]
    tolerance = FLOAT16_TOLERANCE if block_inputs == "float16" else TOLERANCE
    losses, checks = {}, []
    for found in both_ways(bundle, seed):
        losses[found.size] = found.loss, found.autograd_loss
        for name, gradient in found.autograd.items():
            error = (found.gradients[name] - gradient).double().norm() / gradient.double().norm().clamp_min(1e-30)
            checks.append(Check(found.size, name, float(gradient.norm()), float(error), tolerance))
    return Verification(block_inputs, losses, checks)


def both_ways(bundle: Bundle, seed: int = 0) -> Iterator[BothWays]:
    """A sequence of random tokens of each size both ways. The adapter's B is drawn too: with the initial zeros A would have no gradient."""
    lora, generator = bundle.manifest.lora, torch.Generator().manual_seed(seed)
    session = Session(bundle, [f"gradients.{size.name}" for size in bundle.manifest.sizes()])
    adapter, scale = session.state[lora.state], lora.alpha / lora.rank
    peft.read_adapter(bundle.path / ADAPTER, lora, adapter)
    for name, tensor in peft.named(lora, adapter).items():
        if "lora_B" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)
    model = reference_model(bundle)
    leaves = attach_lora(model, lora, adapter, scale)
    for size in bundle.manifest.sizes():
        example = _random_example(size, bundle.manifest.model.vocabulary, generator)
        given: dict[str, Tensor | float] = {**inputs(example, size, example.predictions), "lora_scale": scale}
        loss = float(session.run(f"gradients.{size.name}", given)["loss"])
        gradients = peft.named(lora, session.state["gradients"])
        yield BothWays(size, loss, gradients, *_autograd(model, leaves, example))


def _random_example(size: Size, vocabulary: int, generator: torch.Generator) -> Example:
    """Random tokens, with about four fifths of the targets that the size can have, and at least one."""
    ids = torch.randint(vocabulary, (size.tokens + 1,), generator=generator)
    places = torch.randperm(size.tokens, generator=generator)[: max(1, size.head * 4 // 5)]
    targets = torch.full((size.tokens,), MASKED)
    targets[places] = ids[1:][places]
    return Example(ids[:-1], targets)


def _autograd(model: Any, leaves: dict[str, Tensor], example: Example) -> tuple[float, dict[str, Tensor]]:
    logits = model(input_ids=example.input_ids[None]).logits[0]
    loss = nn.functional.cross_entropy(logits, example.targets, ignore_index=MASKED)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return float(loss.detach()), dict(zip(leaves, gradients, strict=True))


def attach_lora(model: nn.Module, lora: Lora, adapter: Tensor, scale: float) -> dict[str, Tensor]:
    """Adds y = W x + scale * B A x to a transformers model by hooks, and returns the leaves under PEFT's names."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in peft.named(lora, adapter).items()}
    for name in leaves:
        if ".lora_A." not in name:
            continue
        a, b = leaves[name], leaves[name.replace("lora_A", "lora_B")]
        module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            return output + scale * (inputs[0] @ a.t()) @ b.t()

        module.register_forward_hook(add)
    return leaves
