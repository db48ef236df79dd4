"""What families have in common. The names of projections and norms are those of transformers' Llama, which most models keep."""

from typing import Any

import torch

from mesp.runtime.errors import UsageError

from ..architecture import Architecture, Attention, FeedForward, Layer, Norm, Projection, Rotary, Sublayer
from ..configuration import Configuration, refuse_unknown

QKV = ("q_proj", "k_proj", "v_proj")

# What each rotary embedding is made of. ``proportional`` and the like have other keys and are refused by them.
_ROPE_KEYS = {
    "default": frozenset(("rope_theta",)),
    "llama3": frozenset(
        ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    ),
}


def decoder(config: Configuration, model_type: str, layer: Layer) -> Architecture:
    """A decoder whose layers are all the same."""
    return Architecture(
        model_type=model_type,
        D=config["hidden_size"],
        V=config["vocab_size"],
        layers=(layer,) * config["num_hidden_layers"],
        norm=Norm("norm", "model.norm", config["hidden_size"], config["rms_norm_eps"]),
        max_tokens=config["max_position_embeddings"],
        tied_head=bool(config["tie_word_embeddings"]),
    )


def attention(config: Configuration, biases: tuple[str, ...]) -> Sublayer:
    """Causal attention with a rotary embedding; ``biases`` are the projections that have one.

    Raises:
        UsageError: numbers of heads, or a width, that cannot be.
    """
    D, H = config["hidden_size"], config["num_attention_heads"]
    K, C = config["num_key_value_heads"] or H, config.get("head_dim") or D // H
    config.expect("attention_dropout", 0.0, "the programs have no dropout")
    if H % K:
        raise UsageError(f"{H} query heads cannot share {K} key-value heads: the second must divide the first.")
    if C % 2:
        raise UsageError(f"A head width of {C} is odd: the rotary embedding needs two halves.")
    middle = Attention(H, K, C, rotary(config, C))

    def projection(name: str, inputs: int, outputs: int, unit: int) -> Projection:
        return Projection(name, f"self_attn.{name}", inputs, outputs, name in biases, unit)

    into = (
        projection("q_proj", D, H * C, middle.G * C),
        projection("k_proj", D, K * C, C),
        projection("v_proj", D, K * C, C),
    )
    norm = Norm("input_layernorm", "input_layernorm", D, config["rms_norm_eps"])
    return Sublayer("attention", norm, into, middle, projection("o_proj", H * C, D, middle.G * C))


def feed_forward(config: Configuration, biased: bool) -> Sublayer:
    """SwiGLU."""
    D, F = config["hidden_size"], config["intermediate_size"]
    config.expect("hidden_act", "silu", "the feed-forward programs compute SwiGLU, whose activation is silu")

    def projection(name: str, inputs: int, outputs: int) -> Projection:
        return Projection(name, f"mlp.{name}", inputs, outputs, biased)

    into = (projection("gate_proj", D, F), projection("up_proj", D, F))
    norm = Norm("post_attention_layernorm", "post_attention_layernorm", D, config["rms_norm_eps"])
    return Sublayer("ffn", norm, into, FeedForward(F), projection("down_proj", F, D))


def rotary(config: Configuration, width: int) -> Rotary:
    """The rotary embedding of heads of this width, by transformers' own formulas of its type.

    Raises:
        UsageError: a type, or a setting of it, that is not understood.
    """
    values: dict[str, Any] = dict(config["rope_parameters"] or {})
    kind = values.pop("rope_type", "default")
    if kind not in _ROPE_KEYS:
        raise UsageError(f"Rope type {kind!r} is not supported. Supported: {', '.join(_ROPE_KEYS)}.")
    if values.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UsageError("A rotary embedding of a part of the head (partial_rotary_factor) is not supported.")
    refuse_unknown(f"{kind} rope", {key: value for key, value in values.items() if key not in _ROPE_KEYS[kind]})
    if kind == "default":
        exponents = torch.arange(0, width, 2, dtype=torch.float) / width
        return Rotary("rope", tuple((1.0 / values["rope_theta"] ** exponents).tolist()))
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config.whole, torch.device("cpu"))
    return Rotary("rope", tuple(frequencies.tolist()), scale)
