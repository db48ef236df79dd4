"""The schedule of a whole model, run eagerly in fp64, against transformers and PEFT: loss and every adapter gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mesp.export.architecture import PROJECTIONS, read_architecture
from mesp.export.programs import Plan, Tiling
from mesp.export.quantize import Fp32
from mesp.runtime.adapter import named
from torch import Tensor
from torch.nn import functional as F

from .checks import assert_close
from .models import LLAMA, LLAMA3_ROPE, QWEN2, EagerSession, example, in_double, save_checkpoint
from .tolerances import SCHEDULE_FP64


def peft_gradients(model: Any, session: EagerSession, data: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of PEFT's own LoRA layers with the session's adapter."""
    from peft import LoraConfig, get_peft_model

    lora = session.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0)
    tuned = get_peft_model(in_double(model), config)
    parameters = {name.replace(".default", ""): p for name, p in tuned.named_parameters() if p.requires_grad}
    adapter = named(lora, session.get("adapter"))
    assert parameters.keys() == adapter.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(adapter[name])
    logits = tuned(input_ids=data["input_ids"][None]).logits[0]
    loss = (F.cross_entropy(logits, data["targets"], reduction="none") * data["token_weight"][:, 0]).sum()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in parameters.items()}


def check_model(
    folder: Path, config: dict[str, Any], tokens: int, rank: int, targets: tuple[str, ...], tiling: Tiling
) -> None:
    model = save_checkpoint(folder / "checkpoint", **config)
    plan = Plan(read_architecture(model.config), tokens, rank, targets, Fp32(), tiling)
    session = EagerSession(plan, folder / "checkpoint", folder)
    data = example(tokens, config["vocab_size"])
    session.run("gradients", **data)
    loss, gradients = peft_gradients(model, session, data)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss")
    for name, ours in named(session.lora, session.get("gradients")).items():
        assert_close(ours, gradients[name], SCHEDULE_FP64, name)
    norm = sum(float(gradient.square().sum()) for gradient in gradients.values())
    assert_close(
        session.get("gradient_square_sum"),
        torch.tensor([[norm]], dtype=torch.float64),
        SCHEDULE_FP64,
        "squared norm of the gradient",
    )
    session.run("evaluate", **data)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss of evaluate")


EVEN = Tiling(query_rows=8, ffn=32, vocabulary=97)
ODD = Tiling(query_rows=5, ffn=40, vocabulary=30)  # leaves a rest of every kind
WHOLE = Tiling(query_rows=512, ffn=4096, vocabulary=4096)

CASES: dict[str, tuple[dict[str, Any], int, int, tuple[str, ...], Tiling]] = {
    "llama": (LLAMA, 16, 4, PROJECTIONS, EVEN),
    "llama-odd-length-and-tiles": (LLAMA, 13, 3, PROJECTIONS, ODD),
    "llama-one-tile": (LLAMA, 11, 1, PROJECTIONS, WHOLE),
    "llama-every-bias": ({**LLAMA, "attention_bias": True, "mlp_bias": True}, 13, 2, PROJECTIONS, ODD),
    "llama3-rope-untied": (
        {**LLAMA, "rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": False},
        33,
        4,
        PROJECTIONS,
        ODD,
    ),
    "llama-one-key-value-head": ({**LLAMA, "num_key_value_heads": 1}, 9, 4, PROJECTIONS, EVEN),
    "llama-all-heads": ({**LLAMA, "num_key_value_heads": 4}, 9, 4, PROJECTIONS, ODD),
    "qwen2": (QWEN2, 16, 4, PROJECTIONS, EVEN),
    "qwen2-odd-untied": ({**QWEN2, "tie_word_embeddings": False}, 7, 5, PROJECTIONS, ODD),
    "only-query-and-value": (QWEN2, 12, 4, ("q_proj", "v_proj"), EVEN),
    "only-output": (LLAMA, 12, 4, ("o_proj",), ODD),
    "only-down": (LLAMA, 12, 4, ("down_proj",), ODD),
    "only-gate": (LLAMA, 12, 4, ("gate_proj",), EVEN),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_transformers_and_peft(tmp_path: Path, case: tuple[Any, ...]) -> None:
    check_model(tmp_path, *case)
