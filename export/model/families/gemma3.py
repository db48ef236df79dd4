"""Gemma 3, its text models."""

from dataclasses import replace
from typing import Any

from ..architecture import Architecture, Norm, Sublayer
from ..configuration import Configuration
from .parts import QKV, attention, decoder_of, feed_forward, head_norms, heads, layer_types, rotary, sliding_attention

_FULL, _SLIDING = "full_attention", "sliding_attention"
_ACTIVATION = "gelu_pytorch_tanh"


def read(config: Configuration) -> Architecture:
    """Norms before and after each sublayer, whose weights are stored as the difference from 1; GeGLU; most layers with a window and a rotary
    embedding of their own. ``chunk_size_feed_forward`` and ``is_encoder_decoder`` have no meaning for it.

    Raises:
        UsageError: an activation, types of layers, or a window that there are no programs for.
    """
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    types = layer_types(config, (_FULL, _SLIDING))
    ffn = _normed_after(config, feed_forward(config, activation=("hidden_activation", _ACTIVATION)), "feedforward")
    kinds = {name: (_attention(config, name), ffn) for name in dict.fromkeys(types)}
    if _SLIDING not in types:
        config.ignore("sliding_window")
    return decoder_of(
        config,
        "gemma3_text",
        tuple(kinds[name] for name in types),
        norm=_norm(config, "norm", "model.norm"),
        embedding_scale=_rounded(config.size("hidden_size") ** 0.5, config["dtype"]),
    )


def _attention(config: Configuration, layer_type: str) -> Sublayer:
    sublayer = attention(
        config,
        (*QKV, "o_proj") if config["attention_bias"] else (),
        norms=head_norms(config, offset=1.0),
        rotary=rotary(config, heads(config).C, layer_type),
        scale=config.number("query_pre_attn_scalar") ** -0.5,
    )
    sublayer = _normed_after(config, sublayer, "attention")
    return sublayer if layer_type == _FULL else sliding_attention(sublayer, window=config.size("sliding_window"))


def _normed_after(config: Configuration, sublayer: Sublayer, name: str) -> Sublayer:
    """The sublayer with its norms before and after, by transformers' names of both."""
    before = "input_layernorm" if name == "attention" else f"pre_{name}_layernorm"
    return replace(sublayer, norm=_norm(config, before), norm_after=_norm(config, f"post_{name}_layernorm"))


def _norm(config: Configuration, name: str, module: str | None = None) -> Norm:
    return Norm(name, module or name, config.size("hidden_size"), config.number("rms_norm_eps"), offset=1.0)


def _rounded(scale: float, dtype: Any) -> float:
    """As transformers rounds it: to the type that the checkpoint's weights are of."""
    import torch

    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    return float(torch.tensor(scale, dtype=kind, device="cpu"))
