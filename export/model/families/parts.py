"""What families have in common. The names of projections and norms are those of transformers' Llama, which most models keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mesp.runtime.account import check_number, shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture, Attention, FeedForward, Layer, Norm, Projection, Rotary, Sublayer
from ..configuration import Configuration, refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor  # a model of no family is refused without torch

QKV = ("q_proj", "k_proj", "v_proj")

_MOST_LAYERS = 1024

# transformers' names of activations, and those of the programs.
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}

# What each rotary embedding is made of, all of it numbers. ``proportional`` and the like have other keys and are refused by them.
_ROPE_KEYS = {
    "default": frozenset(("rope_theta",)),
    "linear": frozenset(("rope_theta", "factor")),
    "llama3": frozenset(
        ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    ),
}


def decoder(config: Configuration, model_type: str, layer: Layer, **more: Any) -> Architecture:
    """A decoder whose layers are all the same. More fields of the architecture can be given."""
    return decoder_of(config, model_type, (layer,) * layer_count(config), **more)


def decoder_of(config: Configuration, model_type: str, layers: tuple[Layer, ...], **more: Any) -> Architecture:
    """A decoder of these layers."""
    fields: dict[str, Any] = {
        "model_type": model_type,
        "D": config.size("hidden_size"),
        "V": config.size("vocab_size"),
        "layers": layers,
        "max_tokens": config.size("max_position_embeddings"),
        "tied_head": bool(config["tie_word_embeddings"]),
    }
    if "norm" not in more:
        fields["norm"] = Norm("norm", "model.norm", config.size("hidden_size"), config.number("rms_norm_eps"))
    return Architecture(**fields | more)


def layer_count(config: Configuration) -> int:
    """How many layers there are."""
    return config.size("num_hidden_layers", _MOST_LAYERS)


def layer_types(config: Configuration, known: Sequence[str]) -> list[str]:
    """The type of each layer, by transformers' names.

    Raises:
        UsageError: a type that is not known, or not one for each layer.
    """
    types, count = config["layer_types"], layer_count(config)
    if not isinstance(types, list) or len(types) != count:
        raise UsageError(f"layer_types {shown(types)} has not one type for each of {count} layers.")
    for name in types:
        if name not in known:
            raise UsageError(f"Layers of the type {shown(name)} are not supported. Supported: {', '.join(known)}.")
    return types


@dataclass(frozen=True)
class Heads:
    """H query heads and K key-value heads, each C wide."""

    H: int
    K: int
    C: int


def heads(config: Configuration) -> Heads:
    """The heads of attention.

    Raises:
        UsageError: numbers of heads, or a width, that cannot be.
    """
    H = config.size("num_attention_heads")
    K = H if config["num_key_value_heads"] is None else config.size("num_key_value_heads")
    C = config.size("hidden_size") // H if config.get("head_dim") is None else config.size("head_dim")
    if H % K:
        raise UsageError(f"{H} query heads cannot share {K} key-value heads: the second must divide the first.")
    if C % 2 or not C:
        raise UsageError(f"A head width of {C} has no two halves, which the rotary embedding needs.")
    return Heads(H, K, C)


def attention(
    config: Configuration, biases: tuple[str, ...] = (), *, norms: tuple[Norm, ...] = (), **middle: Any
) -> Sublayer:
    """Causal attention with a rotary embedding.

    Args:
        biases: the projections that have one
        norms: of each query and of each key head, before the rotary embedding
        middle: other fields of ``Attention`` than these
    """
    sizes, D = heads(config), config.size("hidden_size")
    config.expect("attention_dropout", 0.0, "the programs have no dropout")
    H, K, C = sizes.H, sizes.K, sizes.C
    if "rotary" not in middle:
        middle["rotary"] = rotary(config, C)
    own: dict[str, Any] = {"scale": C**-0.5, **middle, **dict(zip(("q_norm", "k_norm"), norms, strict=False))}
    attention = Attention(H, K, C, **own)

    def projection(name: str, inputs: int, outputs: int, unit: int) -> Projection:
        return Projection(name, f"self_attn.{name}", inputs, outputs, name in biases, unit)

    into = (
        projection("q_proj", D, H * C, attention.G * C),
        projection("k_proj", D, K * C, C),
        projection("v_proj", D, K * C, C),
    )
    norm = Norm("input_layernorm", "input_layernorm", D, config.number("rms_norm_eps"))
    return Sublayer("attention", norm, into, attention, projection("o_proj", H * C, D, attention.G * C))


def head_norms(config: Configuration, offset: float = 0.0) -> tuple[Norm, Norm]:
    """RMSNorms of each query and of each key head."""
    width, eps = heads(config).C, config.number("rms_norm_eps")
    q, k = (Norm(name, f"self_attn.{name}", width, eps, offset) for name in ("q_norm", "k_norm"))
    return q, k


def with_windows(config: Configuration, attention: Sublayer, ffn: Sublayer) -> tuple[Layer, ...]:
    """Layers whose attention has a window where ``layer_types`` says so. What else a configuration has on windows is in these types already;
    without such a layer the window's size says nothing.

    Raises:
        UsageError: a window that is no number of tokens.
    """
    config.ignore("sliding_window", "use_sliding_window", "max_window_layers")
    types = layer_types(config, ("full_attention", "sliding_attention"))
    if "sliding_attention" not in types:
        return ((attention, ffn),) * len(types)
    sliding = sliding_attention(attention, window=config.size("sliding_window"))
    return tuple((sliding if name == "sliding_attention" else attention, ffn) for name in types)


def window(config: Configuration) -> int | None:
    """The window of all layers, None if they have none.

    Raises:
        UsageError: one that is no number of tokens.
    """
    return None if config["sliding_window"] is None else config.size("sliding_window")


def sliding_attention(attention: Sublayer, **middle: Any) -> Sublayer:
    """The same with a window, under names of its own.

    Args:
        middle: fields of ``Attention`` that differ
    """
    assert isinstance(attention.middle, Attention)
    return replace(attention, name="sliding_attention", prefix="sliding.", middle=replace(attention.middle, **middle))


def feed_forward(
    config: Configuration, biased: bool = False, activation: tuple[str, str] = ("hidden_act", "silu")
) -> Sublayer:
    """A gated feed-forward layer.

    Args:
        activation: the field that names it, and the family's own
    """
    D, F = config.size("hidden_size"), config.size("intermediate_size")
    field, name = activation
    config.expect(field, name, f"the feed-forward programs of this family compute {name}")

    def projection(name: str, inputs: int, outputs: int) -> Projection:
        return Projection(name, f"mlp.{name}", inputs, outputs, biased)

    into = (projection("gate_proj", D, F), projection("up_proj", D, F))
    norm = Norm("post_attention_layernorm", "post_attention_layernorm", D, config.number("rms_norm_eps"))
    return Sublayer("ffn", norm, into, FeedForward(F, _ACTIVATIONS[name]), projection("down_proj", F, D))


def rotary(config: Configuration, width: int, layer_type: str | None = None) -> Rotary:
    """The rotary embedding of heads of this width, by transformers' own formulas of its type.

    Args:
        layer_type: whose it is, where layers of different types have one each; it is named so

    Raises:
        UsageError: a type, or a setting of it, that is not understood.
    """
    kind, values = rope_settings(config, layer_type)
    if kind not in _ROPE_KEYS:
        raise UsageError(f"Rope type {shown(kind)} is not supported. Supported: {', '.join(_ROPE_KEYS)}.")
    if values.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UsageError("A rotary embedding of a part of the head (partial_rotary_factor) is not supported.")
    refuse_unknown(f"{kind} rope", {key: value for key, value in values.items() if key not in _ROPE_KEYS[kind]})
    for key in sorted(_ROPE_KEYS[kind]):
        check_number(f"{key} of the {kind} rope", values.get(key))
    if kind == "default":
        return default_rotary(values["rope_theta"], width, layer_type)
    return computed_rotary(config, kind, layer_type)


def rope_settings(config: Configuration, layer_type: str | None = None) -> tuple[str, dict[str, Any]]:
    """The type of a rotary embedding, and what else is set of it."""
    parameters = config["rope_parameters"] or {}
    values: dict[str, Any] = dict((parameters if layer_type is None else parameters.get(layer_type)) or {})
    values.pop("type", None)  # what rope_type was called once, and transformers has read
    kind = values.pop("rope_type", "default")
    return kind if isinstance(kind, str) else shown(kind), values


def default_rotary(base: float, width: int, layer_type: str | None = None) -> Rotary:
    """Without any scaling, of so many elements of a head."""
    import torch

    return _rotary(
        1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float, device="cpu") / width), 1.0, "default", layer_type
    )


def computed_rotary(config: Configuration, kind: str, layer_type: str | None = None) -> Rotary:
    """By transformers' function of this type."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    of_layers = {} if layer_type is None else {"layer_type": layer_type}
    return _rotary(*ROPE_INIT_FUNCTIONS[kind](config.whole, torch.device("cpu"), **of_layers), kind, layer_type)


def _rotary(frequencies: "Tensor", scale: float, kind: str, layer_type: str | None) -> Rotary:
    if not frequencies.isfinite().all():
        raise UsageError(f"The {kind} rope's settings have no finite frequencies.")
    return Rotary("rope" if layer_type is None else f"rope.{layer_type}", tuple(frequencies.tolist()), scale)
