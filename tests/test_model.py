"""The schedule of a whole model, run eagerly in fp64, against transformers and PEFT: loss and every adapter gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mesp.export.export_settings import Tiling
from mesp.export.schedules.schedules import OPTIMIZERS
from mesp.export.schedules.writer import SCALARS
from mesp.runtime.data.dataset import Example, inputs
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine.random_signs import signs
from mesp.runtime.engine.sizes import Size
from mesp.runtime.training.adapter import named

from .checks import assert_close, relative_error
from .models import (
    GEMMA3,
    GRANITE,
    LFM2,
    LFM2_PROJECTIONS,
    LLAMA,
    LLAMA3_ROPE,
    MISTRAL,
    PHI3,
    PHI3_PROJECTIONS,
    PROJECTIONS,
    QWEN2,
    QWEN3,
    SMOLLM3,
    EagerSession,
    example,
    in_double,
    lora_config,
    plan_of,
    save_checkpoint,
)
from .tolerances import FINITE_DIFFERENCE, GRADIENT_FLOAT16_INPUTS, SCHEDULE_FP64


def peft_gradients(model: Any, session: EagerSession, data: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of PEFT's own LoRA layers with the session's adapter."""
    from peft import get_peft_model

    lora = session.lora
    tuned = get_peft_model(in_double(model), lora_config(lora))
    parameters = {name.replace(".default", ""): p for name, p in tuned.named_parameters() if p.requires_grad}
    adapter = named(lora, session.get("adapter"))
    assert parameters.keys() == adapter.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(adapter[name])
    logits = tuned(input_ids=data["input_ids"][None]).logits[0]
    loss = (F.cross_entropy(logits, data["targets"], reduction="none") * data["token_weight"][:, 0]).sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    assert gradients.keys() == parameters.keys()
    return loss.detach(), gradients


def check_model(
    folder: Path,
    config: dict[str, Any],
    tokens: int,
    rank: int,
    targets: tuple[str, ...],
    tiling: Tiling,
    layers: int | None = None,
    method: str = "mesp",
    *,
    block_inputs: str = "float32",
) -> None:
    model = save_checkpoint(folder / "checkpoint", **config)
    more = {"method": method, "block_inputs": block_inputs}
    plan = plan_of(model.config, (3, tokens), rank, targets, tiling, layers, **more)
    session = EagerSession(plan, folder / "checkpoint", folder)
    data = example(tokens, config["vocab_size"])
    session.run(f"gradients.{tokens}", **data)
    loss, gradients = peft_gradients(model, session, data)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss")
    ours = named(session.lora, session.get("gradients"))
    tolerance = SCHEDULE_FP64
    if plan.packs_block_inputs:
        tolerance = GRADIENT_FLOAT16_INPUTS
        # Were they kept in full after all, this would show it.
        assert max(relative_error(ours[name], gradient) for name, gradient in gradients.items()) > 1e-5
    for name, gradient in gradients.items():
        assert_close(ours[name], gradient, tolerance, name)
    session.run("gradient_norm")
    norm = sum(float(gradient.square().sum()) for gradient in gradients.values())
    assert_close(
        session.get("gradient_square_sum"),
        torch.tensor([[norm]], dtype=torch.float64),
        tolerance,
        "squared norm of the gradient",
    )
    session.run(f"evaluate.{tokens}", **data)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss of evaluate")


EVEN = Tiling(query_rows=8, ffn=32, vocabulary=97, rows=8)
ODD = Tiling(query_rows=5, ffn=40, vocabulary=30, rows=4)  # leaves a rest of every kind
WHOLE = Tiling(query_rows=512, ffn=4096, vocabulary=4096)

CASES: dict[str, tuple[Any, ...]] = {
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
    "qwen3": (QWEN3, 16, 4, PROJECTIONS, EVEN),
    "qwen3-odd-untied-every-bias": (
        {**QWEN3, "tie_word_embeddings": False, "attention_bias": True},
        13,
        3,
        PROJECTIONS,
        ODD,
    ),
    "qwen3-all-heads-some-targets": ({**QWEN3, "num_key_value_heads": 4}, 9, 2, ("k_proj", "o_proj"), ODD, 1),
    "gemma3": (GEMMA3, 16, 4, PROJECTIONS, EVEN),
    "gemma3-odd-length-and-tiles": (GEMMA3, 13, 3, PROJECTIONS, ODD),
    "gemma3-one-tile-some-targets": (GEMMA3, 11, 2, ("k_proj", "o_proj", "down_proj"), WHOLE, 2),
    "gemma3-a-window-as-long-as-the-sequence": ({**GEMMA3, "sliding_window": 13}, 13, 3, PROJECTIONS, ODD),
    "gemma3-a-window-of-two-untied-every-bias": (
        {**GEMMA3, "sliding_window": 2, "tie_word_embeddings": False, "attention_bias": True},
        9,
        2,
        PROJECTIONS,
        ODD,
        1,
    ),
    "qwen2-with-a-window": (
        {**QWEN2, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        13,
        3,
        PROJECTIONS,
        ODD,
    ),
    "mistral-untied": ({**MISTRAL, "tie_word_embeddings": False}, 13, 3, PROJECTIONS, ODD),
    "smollm3": (SMOLLM3, 13, 3, PROJECTIONS, ODD),
    "granite": (GRANITE, 13, 3, PROJECTIONS, ODD),
    "phi3": (PHI3, 13, 3, PHI3_PROJECTIONS, ODD),
    "phi3-one-fused-target-of-the-topmost-layer": (PHI3, 9, 2, ("qkv_proj",), EVEN, 1),
    "lfm2": (LFM2, 16, 4, LFM2_PROJECTIONS, EVEN),
    "lfm2-odd-length-and-tiles": (LFM2, 13, 3, LFM2_PROJECTIONS, ODD),
    "lfm2-some-targets-of-the-topmost-layers": (LFM2, 11, 2, ("in_proj", "v_proj", "w2"), WHOLE, 2),
    "only-query-and-value": (QWEN2, 12, 4, ("q_proj", "v_proj"), EVEN),
    "only-output": (LLAMA, 12, 4, ("o_proj",), ODD),
    "only-down": (LLAMA, 12, 4, ("down_proj",), ODD),
    "the-topmost-layer": (LLAMA, 13, 3, PROJECTIONS, ODD, 1),
    "two-of-three-layers": ({**QWEN2, "num_hidden_layers": 3}, 12, 4, ("q_proj", "down_proj"), EVEN, 2),
    "only-gate": (LLAMA, 12, 4, ("gate_proj",), EVEN),
}


# MeBP's programs are not tiled by query rows; several feed-forward tiles, each with leaves of its own, must add up all the same.
AUTODIFF: dict[str, tuple[Any, ...]] = {
    "mebp": (QWEN2, 13, 4, PROJECTIONS, WHOLE, 2, "mebp"),
    "mebp-qwen3": (QWEN3, 13, 4, PROJECTIONS, WHOLE, 2, "mebp"),
    "mebp-every-bias": ({**LLAMA, "attention_bias": True, "mlp_bias": True}, 9, 2, PROJECTIONS, WHOLE, 2, "mebp"),
    "mebp-tiles": (LLAMA, 9, 3, PROJECTIONS, Tiling(query_rows=9, ffn=32, vocabulary=97), 2, "mebp"),
    "mebp-gemma3": (GEMMA3, 13, 3, PROJECTIONS, WHOLE, 3, "mebp"),
    "mebp-granite": (GRANITE, 9, 3, PROJECTIONS, WHOLE, 2, "mebp"),
    "mebp-phi3": (PHI3, 9, 3, PHI3_PROJECTIONS, WHOLE, 2, "mebp"),
    "mebp-lfm2": (LFM2, 13, 3, LFM2_PROJECTIONS, WHOLE, 3, "mebp"),
    "mebp-some-targets-of-the-topmost-layer": (LLAMA, 9, 3, ("v_proj", "o_proj", "up_proj"), WHOLE, 1, "mebp"),
}


STORED: dict[str, tuple[Any, ...]] = {
    "store-h": (QWEN2, 13, 4, PROJECTIONS, ODD, 2, "store-h"),
    "store-h-some-targets-of-the-topmost-layer": (LLAMA, 9, 3, ("v_proj", "o_proj", "up_proj"), ODD, 1, "store-h"),
    "store-h-qwen3": (QWEN3, 13, 4, PROJECTIONS, ODD, 2, "store-h"),
    "store-h-gemma3": (GEMMA3, 13, 4, PROJECTIONS, ODD, 3, "store-h"),
    "store-h-granite": (GRANITE, 13, 4, PROJECTIONS, ODD, 2, "store-h"),
    "store-h-phi3": (PHI3, 13, 4, PHI3_PROJECTIONS, ODD, 2, "store-h"),
    "store-h-lfm2": (LFM2, 13, 4, LFM2_PROJECTIONS, ODD, 3, "store-h"),
    "store-h-only-down": (LLAMA, 12, 4, ("down_proj",), EVEN, 2, "store-h"),
}
EXACT = CASES | AUTODIFF | STORED
# What others of the same family cover nearly.
THOROUGH = {
    *("gemma3", "gemma3-a-window-as-long-as-the-sequence", "lfm2", "lfm2-some-targets-of-the-topmost-layers"),
    *("phi3-one-fused-target-of-the-topmost-layer", "mebp-granite", "mebp-phi3", "mebp-lfm2"),
    *("qwen2-with-a-window", "gemma3-one-tile-some-targets"),
    *("store-h-granite", "store-h-phi3", "store-h-lfm2"),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.thorough if name in THOROUGH else (), id=name) for name, c in EXACT.items()],
)
def test_gradients_are_those_of_transformers_and_peft(tmp_path: Path, case: tuple[Any, ...]) -> None:
    check_model(tmp_path, *case)


@pytest.mark.parametrize(
    ("config", "method"), [(LLAMA, "mesp"), (LLAMA, "mebp"), (GRANITE, "mesp")], ids=["mesp", "mebp", "granite"]
)
def test_a_head_on_the_rows_of_targets_alone_changes_nothing(
    tmp_path: Path, config: dict[str, Any], method: str
) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", **config)
    plan = plan_of(model.config, (13,), tiling=ODD, method=method, head_rows=(5,))
    session = EagerSession(plan, tmp_path / "checkpoint", tmp_path)
    tokens = torch.randint(LLAMA["vocab_size"], (12,))
    targets = torch.full((11,), MASKED)
    targets[[1, 4, 5, 10]] = tokens[[2, 5, 6, 11]]
    example_ = Example(tokens[:-1], targets)
    whole, short = (inputs(example_, Size(13, head), 4) for head in (13, 5))
    loss, gradients = peft_gradients(model, session, {**whole, "token_weight": whole["token_weight"].double()})
    session.run("gradients.13.5", **short)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss")
    for name, ours in named(session.lora, session.get("gradients")).items():
        assert_close(ours, gradients[name], SCHEDULE_FP64, name)
    session.run("evaluate.13.5", **short)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss of evaluate")


IN_FLOAT16: dict[str, tuple[Any, ...]] = {
    "mesp": (QWEN2, 13, 4, PROJECTIONS, ODD, 2, "mesp"),
    "the-topmost-layer": (LLAMA, 13, 3, PROJECTIONS, ODD, 1, "mesp"),
    "gemma3": (GEMMA3, 13, 3, PROJECTIONS, ODD, 2, "mesp"),
    "store-h": (LLAMA, 9, 3, PROJECTIONS, ODD, 2, "store-h"),
    "mebp": (LLAMA, 9, 3, PROJECTIONS, WHOLE, 2, "mebp"),
}


@pytest.mark.parametrize("case", IN_FLOAT16.values(), ids=IN_FLOAT16)
def test_block_inputs_in_float16_leave_the_loss_exact_and_the_gradients_nearly(
    tmp_path: Path, case: tuple[Any, ...]
) -> None:
    check_model(tmp_path, *case, block_inputs="float16")


def test_a_block_input_beyond_float16_makes_the_gradient_not_finite(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", **LLAMA)
    plan = plan_of(model.config, (9,), tiling=EVEN, block_inputs="float16")
    session = EagerSession(plan, tmp_path / "checkpoint", tmp_path)
    data = example(9, LLAMA["vocab_size"])
    row = int(data["input_ids"][-1]) * LLAMA["hidden_size"]  # of the last token, whose block input no other token reads
    session.tensors["embed_tokens.values"][row] = 2e6
    session.run("gradients.9", **data)
    session.run("gradient_norm")
    assert session.get("loss").isfinite()
    assert not session.get("gradient_square_sum").isfinite()


def test_gradients_add_up_over_sequences_of_different_lengths(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", **LLAMA)
    plan = plan_of(model.config, (5, 16), tiling=ODD)
    session = EagerSession(plan, tmp_path / "checkpoint", tmp_path)
    short, long = (example(tokens, LLAMA["vocab_size"], seed=tokens) for tokens in plan.lengths)
    total: dict[str, Tensor] = {}
    for data in (short, long):
        _, gradients = peft_gradients(save_checkpoint(tmp_path / "again", **LLAMA), session, data)
        total = {name: total.get(name, torch.zeros(())) + gradient for name, gradient in gradients.items()}
    session.run("gradients.5", **short)
    session.run("accumulate.16", **long)
    for name, ours in named(session.lora, session.get("gradients")).items():
        assert_close(ours, total[name], SCHEDULE_FP64, name)


def test_a_kept_gradient_gives_the_step_that_is_taken_as_it_arrives(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", **LLAMA)
    plan = plan_of(model.config, (9,), tiling=EVEN)
    scalars = {name: 0.1 * (1 + place) for place, name in enumerate(SCALARS) if name != "gradient_scale"}
    for optimizer in OPTIMIZERS:
        folders = [tmp_path / f"{optimizer}-{name}" for name in ("lean", "kept")]
        for folder in folders:
            folder.mkdir()
        lean, kept = (EagerSession(plan, tmp_path / "checkpoint", folder) for folder in folders)
        for _ in range(2):
            data = example(9, LLAMA["vocab_size"])
            lean.run(f"train.{optimizer}.9", **data, **scalars)
            kept.run("gradients.9", **data, **scalars)
            kept.run(f"update.{optimizer}", gradient_scale=1.0, **scalars)
            assert_close(kept.get("adapter"), lean.get("adapter"), SCHEDULE_FP64, optimizer)


def check_mezo(folder: Path, config: dict[str, Any], targets: tuple[str, ...]) -> None:
    """Of adapters in the topmost layer alone."""
    model = save_checkpoint(folder / "checkpoint", **config)
    plan = plan_of(model.config, (9,), targets=targets, tiling=EVEN, layers=1, method="mezo")
    session = EagerSession(plan, folder / "checkpoint", folder)
    data, adapter = example(9, config["vocab_size"]), session.get("adapter").clone()
    loss, exact = peft_gradients(model, session, data)
    session.run("gradients.9", **data, noise_seed=torch.tensor(7), perturbation=1e-5)
    assert_close(session.get("adapter"), adapter, SCHEDULE_FP64, "adapter")
    size, layer = plan.adapter.longest, config["num_hidden_layers"] - 1
    z = torch.from_numpy(signs(7, layer * size, size)).double()
    drawn = named(session.lora, z)
    slope = sum((drawn[name] * gradient).sum() for name, gradient in exact.items())
    assert_close(session.get("gradients"), slope * z, FINITE_DIFFERENCE, "estimate")
    assert_close(session.get("loss"), loss.view(1, 1), FINITE_DIFFERENCE, "loss")


@pytest.mark.parametrize(
    ("config", "targets"),
    [(LLAMA, PROJECTIONS), (GEMMA3, PROJECTIONS), (LFM2, LFM2_PROJECTIONS)],
    ids=["llama", "gemma3", "lfm2"],
)
def test_mezo_estimates_the_slope_along_its_signs_and_puts_the_adapter_back(
    tmp_path: Path, config: dict[str, Any], targets: tuple[str, ...]
) -> None:
    check_mezo(tmp_path, config, targets)


def test_signs_are_the_bits_of_splitmix64_wherever_they_start() -> None:
    word = 0xE220A8397B1DCDAF  # its first output from the state 0, as its authors publish it
    assert signs(0, 0, 64).tolist() == [1.0 if word >> bit & 1 else -1.0 for bit in range(64)]
    assert signs(3, 0, 500)[77:177].tolist() == signs(3, 77, 100).tolist()
    assert abs(signs(5, 0, 100_000).mean()) < 0.02
