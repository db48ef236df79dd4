"""What families have in common. The names of projections and norms are those of transformers' Llama, which most models keep."""

from typing import TYPE_CHECKING, Any

from mesp.runtime.account import check_number, shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture, Attention, FeedForward, Layer, Norm, Projection, Rotary, Sublayer
from ..configuration import Configuration, refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor  # a model of no family is refused without torch

QKV = ("q_proj", "k_proj", "v_proj")

_MOST_LAYERS = 1024

# What each rotary embedding is made of, all of it numbers. ``proportional`` and the like have other keys and are refused by them.
_ROPE_KEYS = {
    "default": frozenset(("rope_theta",)),
    "linear": frozenset(("rope_theta", "factor")),
    "llama3": frozenset(
        ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    ),
}


def decoder(config: Configuration, model_type: str, layer: Layer) -> Architecture:
    """A decoder whose layers are all the same."""
    return Architecture(
        model_type=model_type,
        D=config.size("hidden_size"),
        V=config.size("vocab_size"),
        layers=(layer,) * config.size("num_hidden_layers", _MOST_LAYERS),
        norm=Norm("norm", "model.norm", config.size("hidden_size"), config.number("rms_norm_eps")),
        max_tokens=config.size("max_position_embeddings"),
        tied_head=bool(config["tie_word_embeddings"]),
    )


def attention(config: Configuration, biases: tuple[str, ...], normed: bool = False) -> Sublayer:
    """Causal attention with a rotary embedding.

    Args:
        biases: the projections that have one
        normed: each query and key head has an RMSNorm before the rotary embedding

    Raises:
        UsageError: numbers of heads, or a width, that cannot be.
    """
    D, H = config.size("hidden_size"), config.size("num_attention_heads")
    K = H if config["num_key_value_heads"] is None else config.size("num_key_value_heads")
    C = D // H if config.get("head_dim") is None else config.size("head_dim")
    config.expect("attention_dropout", 0.0, "the programs have no dropout")
    if H % K:
        raise UsageError(f"{H} query heads cannot share {K} key-value heads: the second must divide the first.")
    if C % 2 or not C:
        raise UsageError(f"A head width of {C} has no two halves, which the rotary embedding needs.")
    eps = config.number("rms_norm_eps")
    norms = [Norm(name, f"self_attn.{name}", C, eps) for name in ("q_norm", "k_norm")] if normed else []
    middle = Attention(H, K, C, rotary(config, C), *norms)

    def projection(name: str, inputs: int, outputs: int, unit: int) -> Projection:
        return Projection(name, f"self_attn.{name}", inputs, outputs, name in biases, unit)

    into = (
        projection("q_proj", D, H * C, middle.G * C),
        projection("k_proj", D, K * C, C),
        projection("v_proj", D, K * C, C),
    )
    norm = Norm("input_layernorm", "input_layernorm", D, eps)
    return Sublayer("attention", norm, into, middle, projection("o_proj", H * C, D, middle.G * C))


def refuse_windows(config: Configuration) -> None:
    """Qwen's switch for sliding windows. Where it is off, the fields of the windows say nothing.

    Raises:
        UsageError: it is on, or layers are of another kind than full attention.
    """
    if config["use_sliding_window"] or set(config["layer_types"] or ()) - {"full_attention"}:
        raise UsageError(
            "Sliding-window attention is not supported: the attention programs are causal over the whole sequence."
        )
    config.ignore("sliding_window", "max_window_layers")


def feed_forward(config: Configuration, biased: bool) -> Sublayer:
    """SwiGLU."""
    D, F = config.size("hidden_size"), config.size("intermediate_size")
    config.expect("hidden_act", "silu", "the feed-forward programs compute SwiGLU, whose activation is silu")

    def projection(name: str, inputs: int, outputs: int) -> Projection:
        return Projection(name, f"mlp.{name}", inputs, outputs, biased)

    into = (projection("gate_proj", D, F), projection("up_proj", D, F))
    norm = Norm("post_attention_layernorm", "post_attention_layernorm", D, config.number("rms_norm_eps"))
    return Sublayer("ffn", norm, into, FeedForward(F), projection("down_proj", F, D))


def rotary(config: Configuration, width: int) -> Rotary:
    """The rotary embedding of heads of this width, by transformers' own formulas of its type.

    Raises:
        UsageError: a type, or a setting of it, that is not understood.
    """
    values: dict[str, Any] = dict(config["rope_parameters"] or {})
    kind = values.pop("rope_type", "default")
    values.pop("type", None)  # what rope_type was called once, and transformers has read
    if not isinstance(kind, str) or kind not in _ROPE_KEYS:
        raise UsageError(f"Rope type {shown(kind)} is not supported. Supported: {', '.join(_ROPE_KEYS)}.")
    if values.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UsageError("A rotary embedding of a part of the head (partial_rotary_factor) is not supported.")
    refuse_unknown(f"{kind} rope", {key: value for key, value in values.items() if key not in _ROPE_KEYS[kind]})
    for key in sorted(_ROPE_KEYS[kind]):
        check_number(f"{key} of the {kind} rope", values.get(key))
    frequencies, scale = _frequencies(config.whole, kind, values, width)
    if not frequencies.isfinite().all():
        raise UsageError(f"The {kind} rope's settings have no finite frequencies: {shown(values)}.")
    return Rotary("rope", tuple(frequencies.tolist()), scale)


def _frequencies(whole: Any, kind: str, values: dict[str, Any], width: int) -> "tuple[Tensor, float]":
    """[width / 2], radians a position, and what both tables are multiplied with."""
    import torch

    if kind == "default":
        return 1.0 / values["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float) / width), 1.0
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return ROPE_INIT_FUNCTIONS[kind](whole, torch.device("cpu"))
