"""What of a transformer's configuration the programs depend on, and which transformers there are programs for."""

from dataclasses import dataclass
from typing import Any

from mesp.runtime.errors import UsageError

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FFN = ("gate_proj", "up_proj", "down_proj")
PROJECTIONS = ATTENTION + FFN
NORMS = ("input_layernorm", "post_attention_layernorm")

MODEL_TYPES = ("llama", "qwen2")
SUPPORTED = "llama (SmolLM2, Llama 3), qwen2 (Qwen2, Qwen2.5)"
_ROPE_TYPES = ("default", "llama3")


@dataclass(frozen=True)
class Architecture:
    """A Llama or Qwen2 decoder, in the letters of ``ops``."""

    model_type: str
    layers: int
    D: int
    H: int
    K: int
    C: int
    F: int
    V: int
    eps: float
    max_tokens: int
    tied_head: bool
    biases: frozenset[str]  # the projections that have a bias

    @property
    def G(self) -> int:
        """Query heads of one key-value head."""
        return self.H // self.K

    def shape(self, projection: str) -> tuple[int, int]:
        """(inputs, outputs) of a projection."""
        return {
            "q_proj": (self.D, self.H * self.C),
            "k_proj": (self.D, self.K * self.C),
            "v_proj": (self.D, self.K * self.C),
            "o_proj": (self.H * self.C, self.D),
            "gate_proj": (self.D, self.F),
            "up_proj": (self.D, self.F),
            "down_proj": (self.F, self.D),
        }[projection]


def read_architecture(config: Any) -> Architecture:
    """Translates a transformers configuration; refuses by name what there are no programs for.

    Raises:
        UsageError: another architecture, activation, rope type or attention than the programs compute.
    """
    model_type = config.model_type
    if model_type not in MODEL_TYPES:
        raise UsageError(f"Architecture {model_type!r} is not supported. Supported: {SUPPORTED}.")
    if config.hidden_act != "silu":
        raise UsageError(
            f"Activation {config.hidden_act!r} is not supported: the feed-forward programs compute SwiGLU, whose activation is silu."
        )
    rope = config.rope_parameters or {}
    rope_type = rope.get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        raise UsageError(f"Rope type {rope_type!r} is not supported. Supported: {', '.join(_ROPE_TYPES)}.")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UsageError("A rotary embedding of a part of the head (partial_rotary_factor) is not supported.")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "use_sliding_window", False):
        raise UsageError(
            "Sliding-window attention is not supported: the attention programs are causal over the whole sequence."
        )
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    if heads % kv_heads:
        raise UsageError(
            f"{heads} query heads cannot share {kv_heads} key-value heads: the second must divide the first."
        )
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if head_width % 2:
        raise UsageError(f"A head width of {head_width} is odd: the rotary embedding needs two halves.")
    return Architecture(
        model_type=model_type,
        layers=config.num_hidden_layers,
        D=config.hidden_size,
        H=heads,
        K=kv_heads,
        C=head_width,
        F=config.intermediate_size,
        V=config.vocab_size,
        eps=config.rms_norm_eps,
        max_tokens=config.max_position_embeddings,
        tied_head=bool(config.tie_word_embeddings),
        biases=_biases(config),
    )


def _biases(config: Any) -> frozenset[str]:
    if config.model_type == "qwen2":
        return frozenset(ATTENTION[:3])
    attention = ATTENTION if config.attention_bias else ()
    return frozenset(attention + (FFN if config.mlp_bias else ()))


def weight_name(layer: int, projection: str) -> str:
    """What transformers calls a projection's weight, [out, in]."""
    return f"model.layers.{layer}.{'self_attn' if projection in ATTENTION else 'mlp'}.{projection}.weight"


def expected_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The tensors that a checkpoint of this architecture has, with their shapes, under transformers' names."""
    arch = architecture
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (arch.V, arch.D),
        "model.norm.weight": (arch.D,),
    }
    if not arch.tied_head:
        tensors["lm_head.weight"] = (arch.V, arch.D)
    for layer in range(arch.layers):
        for norm in NORMS:
            tensors[f"model.layers.{layer}.{norm}.weight"] = (arch.D,)
        for projection in PROJECTIONS:
            inputs, outputs = arch.shape(projection)
            name = weight_name(layer, projection)
            tensors[name] = (outputs, inputs)
            if projection in arch.biases:
                tensors[name.removesuffix("weight") + "bias"] = (outputs,)
    return tensors
