"""Adapters in PEFT's format: out, with the same logits in PEFT, and in, with PEFT's scaling or a refusal by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.export.reference.adapter_config import read_adapter_config
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.manifest import AdapterTensor, Lora
from mesp.runtime.engine.session import Session
from mesp.runtime.errors import UsageError
from mesp.runtime.training.adapter import Scaling, named, read_adapter, read_peft, write_peft

from .models import random_adapter
from .tolerances import LOGITS_FP32

IDS = [5, 17, 80, 3, 41, 6, 96, 0, 22, 54, 71, 13, 9]
POSITIONS = (0, 4, 12)


def log_probabilities(bundle_path: Path, adapter: Tensor, scale: float) -> Tensor:
    """[positions, vocabulary] by the lowered programs: a loss whose only target is one token at one position is its own."""
    bundle = open_bundle(bundle_path)
    session = Session(bundle, ["evaluate.13"])
    session.state["adapter"].copy_(adapter)
    found = torch.zeros(len(POSITIONS), 97)
    for row, position in enumerate(POSITIONS):
        weight = torch.zeros(13, 1)
        weight[position] = 1
        for token in range(97):
            inputs = {"input_ids": torch.tensor(IDS), "targets": torch.full((13,), token), "token_weight": weight}
            found[row, token] = -session.run("evaluate.13", {**inputs, "lora_scale": scale})["loss"]
    return found


def peft_log_probabilities(checkpoint: Path, adapter: Path) -> Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([IDS])).logits
    return logits[0, list(POSITIONS)].log_softmax(-1)


@pytest.mark.parametrize("scaling", [Scaling(8.0), Scaling(6.0, rslora=True)], ids=["alpha / r", "rsLoRA"])
def test_logits_are_those_of_peft(qwen2_fp32: Path, tmp_path: Path, scaling: Scaling) -> None:
    lora = open_bundle(qwen2_fp32).manifest.lora
    adapter = random_adapter(lora).float()
    write_peft(tmp_path, lora, adapter, scaling, "model")
    read = torch.zeros_like(adapter)
    assert read_peft(tmp_path, lora, read) == scaling and torch.equal(read, adapter)
    ours = log_probabilities(qwen2_fp32, adapter, scaling.at(lora.rank))
    reference = peft_log_probabilities(qwen2_fp32.parent / "checkpoint", tmp_path)
    assert (ours - reference).abs().max() <= LOGITS_FP32
    plain = log_probabilities(qwen2_fp32, torch.zeros_like(adapter), scaling.at(lora.rank))
    assert (ours - plain).abs().max() > 100 * LOGITS_FP32  # the adapter matters


def test_an_adapter_that_peft_trained_is_read(qwen2_fp32: Path, tmp_path: Path) -> None:
    """PEFT's own file, with its own configuration: rank, alpha and targets as it writes them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    checkpoint = qwen2_fp32.parent / "checkpoint"
    lora = open_bundle(qwen2_fp32).manifest.lora
    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=list(lora.targets), use_rslora=True)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(str(tmp_path))
    adapter = torch.zeros(lora.elements)
    scaling = read_peft(tmp_path, lora, adapter, str(checkpoint))
    assert scaling == Scaling(12.0, rslora=True)
    ours = log_probabilities(qwen2_fp32, adapter, scaling.at(4))
    assert (ours - peft_log_probabilities(checkpoint, tmp_path)).abs().max() <= LOGITS_FP32


# What tools choose, and what they write into the configuration beside; the type of the tensors is that of their training.
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BY_EXPRESSION = r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)"
TOOLS: dict[str, tuple[dict[str, Any], dict[str, Any], torch.dtype]] = {
    "Unsloth": (
        {"target_modules": BY_EXPRESSION, "use_rslora": True},
        {"auto_mapping": {"base_model_class": "Qwen2ForCausalLM", "unsloth_fixed": True}, "base_model_name_or_path": "unsloth/tiny-bnb-4bit"},
        torch.float16,
    ),
    "axolotl": ({"target_modules": ALL, "lora_dropout": 0.05, "fan_in_fan_out": None}, {"base_model_name_or_path": "org/Tiny"}, torch.bfloat16),
    "LLaMA-Factory": ({"target_modules": ALL, "modules_to_save": None}, {"base_model_name_or_path": "/models/tiny"}, torch.bfloat16),
    "TRL": ({"target_modules": "all-linear", "task_type": "CAUSAL_LM"}, {"base_model_name_or_path": "org/Tiny-bnb-4bit"}, torch.float32),
    "all-linear as it is": ({"target_modules": "all-linear"}, {"target_modules": "all-linear", "base_model_name_or_path": None}, torch.float32),
}  # fmt: skip


def peft_model(checkpoint: Path, dtype: torch.dtype, **options: Any) -> Any:
    """A model with an adapter that is drawn at random."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=12, **options), autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("tool", TOOLS)
def test_adapters_of_other_tools_are_trained_on(tool: str, qwen2_fp32: Path, tmp_path: Path) -> None:
    options, written, dtype = TOOLS[tool]
    lora = open_bundle(qwen2_fp32).manifest.lora
    model = peft_model(qwen2_fp32.parent / "checkpoint", dtype, **options)
    model.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | written))
    adapter = torch.zeros(lora.elements)
    assert read_peft(tmp_path, lora, adapter, "org/Tiny") == Scaling(12.0, rslora=tool == "Unsloth")
    theirs = {name.replace(".default", ""): value for name, value in model.named_parameters() if "lora_" in name}
    ours = named(lora, adapter)
    assert ours.keys() == theirs.keys() and all(value.dtype == dtype for value in theirs.values())
    assert all(torch.equal(ours[name], theirs[name].float()) for name in ours)


NOT_TRAINED: dict[str, dict[str, Any]] = {
    "rank_pattern": {"rank_pattern": {"q_proj": 2}},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 2}},
    "modules_to_save": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "use_dora": {"use_dora": True},
    "bias": {"bias": "lora_only"},
    "trainable_token_indices": {"trainable_token_indices": [1, 2]},
}


@pytest.mark.parametrize("name", NOT_TRAINED)
def test_what_is_no_plain_lora_is_refused_by_its_name_and_may_be_merged(
    name: str, qwen2_fp32: Path, tmp_path: Path
) -> None:
    lora = open_bundle(qwen2_fp32).manifest.lora
    options = {"target_modules": ALL, **NOT_TRAINED[name]}
    peft_model(qwen2_fp32.parent / "checkpoint", torch.float32, **options).save_pretrained(str(tmp_path))
    with pytest.raises(UsageError, match=rf"\b{name}\b.*mesp merge"):
        read_peft(tmp_path, lora, torch.zeros(lora.elements))
    read_adapter_config(tmp_path)


def test_an_adapter_of_other_targets_changes_nothing(qwen2_fp32: Path, qwen3_int8: Path, tmp_path: Path) -> None:
    other, lora = open_bundle(qwen3_int8).manifest.lora, open_bundle(qwen2_fp32).manifest.lora
    write_peft(tmp_path, other, random_adapter(other).float(), Scaling(4.0), "model")
    config: dict[str, Any] = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 4}))
    adapter = torch.ones(lora.elements)
    with pytest.raises(UsageError, match="other projections or layers: 22 missing, such as .*layers.0"):
        read_peft(tmp_path, lora, adapter)
    assert bool((adapter == 1).all())


@pytest.mark.parametrize("name", ["r", "lora_alpha"])
def test_an_adapter_without_its_rank_or_alpha_is_refused(qwen2_fp32: Path, tmp_path: Path, name: str) -> None:
    lora = open_bundle(qwen2_fp32).manifest.lora
    write_peft(tmp_path, lora, random_adapter(lora).float(), Scaling(4.0), "model")
    config: dict[str, Any] = json.loads((tmp_path / "adapter_config.json").read_text())
    del config[name]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"{name} is missing, but must be a"):
        read_peft(tmp_path, lora, torch.ones(lora.elements))
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(UsageError, match="it holds no JSON object"):
        read_peft(tmp_path, lora, torch.ones(lora.elements))


def test_an_adapters_file_is_named_by_what_is_wrong_with_it(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name, path = "base_model.model.q_proj.lora_A.weight", tmp_path / "adapter_model.safetensors"
    lora = Lora(4, 8.0, ("q_proj",), None, "adapter", (AdapterTensor(name, 0, (8, 4), True),))

    def refused(message: str) -> None:
        with pytest.raises(UsageError, match=message):
            read_adapter(path, lora, torch.zeros(32))

    refused("is not a whole safetensors file")
    (tmp_path / "adapter_model.bin").touch()
    refused(r"has its tensors in PyTorch's own format\. Convert them once: python -c")
    save_file({name.replace(".weight", ".default.weight"): torch.ones(4, 8)}, path)
    refused("has the adapter's name in it")
    save_file({name: torch.ones(4, 8, dtype=torch.int8)}, path)
    refused("is stored as I8; expected F32, F16, BF16")
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    refused("is a Git LFS pointer")
    save_file({name: torch.ones(4, 8, dtype=torch.bfloat16)}, path)
    adapter = torch.zeros(32)
    read_adapter(path, lora, adapter)
    assert torch.equal(adapter, torch.ones(32))
