"""Tiny models for the tests: transformers' own, their checkpoints, and schedules run eagerly in any precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mesp.export.bundle.export import program_specs
from mesp.export.bundle.initial_adapter import make_lora
from mesp.export.bundle.weights_file import write_weights
from mesp.export.export_settings import ExportSettings, Tiling
from mesp.export.model.checkpoint import Checkpoint, open_checkpoint
from mesp.export.model.families import read_architecture
from mesp.export.programs.plan import Plan
from mesp.export.reference.transformers_model import reference_model
from mesp.export.schedules.schedules import Schedules
from mesp.runtime.data.dataset import Example
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine.bundle import Bundle
from mesp.runtime.engine.manifest import Lora
from mesp.runtime.engine.random_signs import signs
from mesp.runtime.engine.schedule import (
    Call,
    Draw,
    For,
    Instructions,
    Let,
    Part,
    Phase,
    Reference,
    Store,
    TensorSpec,
    check,
)
from mesp.runtime.engine.tensor_file import read_layout
from mesp.runtime.training.adapter import named

if TYPE_CHECKING:
    from peft import LoraConfig

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
QWEN2: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "head_dim"},
    "model_type": "qwen2",
    "rms_norm_eps": 1e-6,
}
QWEN3: dict[str, Any] = {**LLAMA, "model_type": "qwen3", "rms_norm_eps": 1e-6}
# A window shorter than the tests' sequences, in two layers of three.
GEMMA3: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "rms_norm_eps"},
    "model_type": "gemma3_text",
    "hidden_size": 96,  # whose root is rounded
    "num_hidden_layers": 3,
    "query_pre_attn_scalar": 48,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    },
}
SMOLLM3: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "head_dim"},
    "model_type": "smollm3",
    "num_hidden_layers": 3,
    "no_rope_layers": [1, 0, 1],
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MISTRAL: dict[str, Any] = {**LLAMA, "model_type": "mistral", "sliding_window": 5}
GRANITE: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "head_dim"},
    "model_type": "granite",
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.1,
    "logits_scaling": 3.0,
}
PHI3: dict[str, Any] = {
    **{k: v for k, v in LLAMA.items() if k != "head_dim"},
    "model_type": "phi3",
    "original_max_position_embeddings": 32,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0, 1.1, 1.25, 1.4, 2.0, 2.5],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "original_max_position_embeddings": 32,
    },
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
LFM2: dict[str, Any] = {
    "model_type": "lfm2",
    **{name: LLAMA[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size")},
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "block_multiple_of": 16,
    "max_position_embeddings": 64,
    "layer_types": ["conv", "full_attention", "conv"],
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PHI3_PROJECTIONS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
LFM2_PROJECTIONS = ("in_proj", "q_proj", "k_proj", "v_proj", "out_proj", "w1", "w3", "w2")
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


class InMemory:
    """A transformers model as a checkpoint, whatever its layers are: a folder's would have to be those of its configuration."""

    origin = "a model in memory"

    def __init__(self, model: Any):
        self.config, self._state = model.config, model.state_dict()
        self.quantized: dict[str, int] = {}

    def rows(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        rows: Tensor = self._state[name][start:end]
        return rows.float()

    def int4_blocks(self, name: str) -> None:
        """Its weights are floats."""

    def tokenizer(self) -> None:
        """It has none."""


def lora_config(lora: Lora) -> "LoraConfig":
    """PEFT's configuration of a bundle's adapter."""
    from peft import LoraConfig

    layers = lora.layers_to_transform
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT takes any number, and names whole ones
        target_modules=list(lora.targets),
        layers_to_transform=None if layers is None else list(layers),
    )


def make_model(seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """A transformers model whose norms and biases are random too, so that a missing one shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    values = dict(config)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(values.pop("model_type"), **values), dtype=dtype, attn_implementation="sdpa"
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                weight = 1 + 0.2 * torch.randn_like(parameter)
                parameter.copy_(weight - 1 if "gemma" in config["model_type"] else weight)  # 1 + this is exact
            elif "conv.conv" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
            else:
                parameter.mul_(6)  # transformers' 0.02 leaves attention uniform: an error in it would hide
    return model.eval()


def plan_of(
    config: Any,
    lengths: tuple[int, ...],
    rank: int = 3,
    targets: tuple[str, ...] = PROJECTIONS,
    tiling: Tiling | None = None,
    layers: int | None = None,
    **more: Any,
) -> Plan:
    """A plan with tiles as they are given, fp32 weights, and adapters that are scaled by 2.

    Args:
        config: a transformers configuration, or the fields of one
        layers: how many of the topmost have adapters; None for all
    """
    if isinstance(config, dict):
        from transformers import AutoConfig

        values = dict(config)
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    architecture = read_architecture(config)
    choices = {"weights": "fp32", "alpha": 2.0 * rank, "tiling": tiling or Tiling(), **more}
    topmost = layers or len(architecture.layers)
    return Plan(architecture, ExportSettings(seq_len=lengths, rank=rank, targets=targets, layers=topmost, **choices))


def in_double(model: Any) -> Any:
    """The model in double precision throughout: transformers' norms compute in fp32 whatever they are given."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            offset = 1 if "Gemma" in type(module).__name__ else 0
            eps = module.eps if offset else module.variance_epsilon
            module.forward = lambda x, norm=module, offset=offset, eps=eps: torch.nn.functional.rms_norm(
                x, x.shape[-1:], norm.weight + offset, eps
            )
    return model.double()


def save_checkpoint(folder: Path, seed: int = 0, **config: Any) -> Any:
    """Writes a model as a Hugging Face folder and returns it."""
    model = make_model(seed, **config)
    model.save_pretrained(folder)
    return model


def pefts_gradients(bundle: Bundle, adapter: Tensor, example: Example) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients of PEFT's own LoRA layers on a bundle's weights, in fp32, under PEFT's names."""
    from peft import get_peft_model

    lora = bundle.manifest.lora
    model = get_peft_model(reference_model(bundle), lora_config(lora))
    parameters = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    places = named(lora, adapter)
    assert parameters.keys() == places.keys()
    with torch.no_grad():
        for name, tensor in places.items():
            parameters[name].copy_(tensor)
    logits = model(input_ids=example.input_ids[None]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, example.targets, ignore_index=MASKED)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}


def random_adapter(lora: Lora, seed: int = 1) -> Tensor:
    """[elements], every tensor random, so that every gradient is."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(lora.elements, generator=generator, dtype=torch.float64)


class EagerSession:
    """A session without lowering: the schedule's instructions over ``Program.run``, in the precision that is asked for."""

    def __init__(self, plan: Plan, checkpoint: Path | Checkpoint, folder: Path, dtype: torch.dtype = torch.float64):
        self.schedules = Schedules(plan)
        self.dtype = dtype
        weights = folder / "weights.safetensors"
        opened = open_checkpoint(str(checkpoint)) if isinstance(checkpoint, Path) else checkpoint
        write_weights(weights, plan, opened)
        data = weights.read_bytes()
        self.tensors: dict[str, Tensor] = {}
        for name, (spec, offset) in read_layout(weights).items():
            raw = torch.frombuffer(bytearray(data[offset : offset + spec.nbytes]), dtype=getattr(torch, spec.dtype))
            self.tensors[name] = raw.to(dtype) if raw.is_floating_point() else raw
        for name, tensor in self.schedules.tensors().items():
            kind = dtype if tensor.spec.dtype == "float32" else getattr(torch, tensor.spec.dtype)
            self.tensors[name] = torch.full((tensor.spec.elements,), 7, dtype=kind)  # nothing may rely on zeros
        self.lora = make_lora(plan)
        self.set("adapter", random_adapter(self.lora))
        self.set("lora_scale", 2.0)
        for name in ("adamw.m", "adamw.v", "momentum.velocity"):
            self.set(name, 0.0)
        specs = {
            name: TensorSpec(tuple(t.shape), "float32" if t.dtype == dtype else str(t.dtype)[6:])
            for name, t in self.tensors.items()
        }
        self.programs = self.schedules.programs
        for instructions in self.schedules.schedules().values():
            check(instructions, program_specs(self.programs, dict.fromkeys(self.programs, 0)), specs)

    def set(self, name: str, value: Tensor | float) -> None:
        self.tensors[name].copy_(
            torch.as_tensor(value).reshape(-1) if isinstance(value, Tensor) else torch.tensor(value)
        )

    def get(self, name: str) -> Tensor:
        return self.tensors[name].view(self.schedules.tensors()[name].spec.shape)

    def run(self, schedule: str, **inputs: Tensor | float) -> None:
        for name, value in inputs.items():
            place = self.tensors[name]
            value = torch.as_tensor(value).reshape(-1)
            place[: len(value)] = value
        self._run(self.schedules.schedules()[schedule], {}, {})

    def _part(self, reference: Reference, shape: tuple[int, ...], loops: dict[str, int]) -> Tensor:
        start = reference.at(loops)
        return self.tensors[reference.tensor][start : start + torch.Size(shape).numel()].view(shape)

    def _value(
        self, source: str | Part | Reference, shape: tuple[int, ...], values: dict[str, Tensor], loops: dict[str, int]
    ) -> Tensor:
        if isinstance(source, str):
            return values[source]
        if isinstance(source, Reference):
            return self._part(source, shape, loops)
        start = source.at(loops)
        return values[source.value].reshape(-1)[start : start + torch.Size(shape).numel()].view(shape)

    def _run(self, instructions: Instructions, values: dict[str, Tensor], loops: dict[str, int]) -> None:
        for instruction in instructions:
            match instruction:
                case Call(name, inputs, outputs):
                    program = self.programs[name]
                    arguments = {
                        argument.name: values[item]
                        if isinstance(item, str)
                        else self._part(item, argument.shape, loops)
                        for argument, item in zip(program.inputs, inputs, strict=True)
                    }
                    results = program.run(arguments)
                    values.update(zip(outputs, (results[output.name] for output in program.outputs), strict=True))
                case Let(value, source, spec):
                    values[value] = self._value(source, spec.shape, values, loops)
                case Store(value, reference):
                    self._part(reference, tuple(values[value].shape), loops).copy_(values[value])
                case Draw(reference, spec, seed, strides):
                    first = sum(stride * loops[name] for name, stride in strides.items())
                    drawn = signs(int(self.tensors[seed][0]), first, spec.elements)
                    self._part(reference, spec.shape, loops).copy_(torch.from_numpy(drawn))
                case For(variable, _, _, _, body):
                    for i in instruction.range():
                        self._run(body, values, {**loops, variable: i})
                case Phase(_, body):
                    self._run(body, values, loops)


def example(tokens: int, vocabulary: int, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens and targets, some of them masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (tokens + 1,), generator=generator)
    weight = (torch.rand(tokens, 1, generator=generator) < 0.7).double()
    weight[0] = 1
    return {"input_ids": ids[:-1], "targets": ids[1:], "token_weight": weight / weight.sum()}
