"""LFM2 and LFM2.5, dense."""

from mesp.runtime.errors import UsageError

from ..architecture import (
    Architecture,
    Attention,
    FeedForward,
    FusedPart,
    Kernel,
    Layer,
    Norm,
    Projection,
    ShortConvolution,
    Sublayer,
)
from ..configuration import Configuration
from .parts import decoder_of, heads, layer_types, rotary


def read(config: Configuration) -> Architecture:
    """Gated short convolutions between layers of attention, and names of its own for all of it. ``full_attn_idxs`` is in ``layer_types``
    already; ``chunk_size_feed_forward`` and ``is_encoder_decoder`` have no meaning for it.

    Raises:
        UsageError: biases, or types of layers, that there are no programs for.
    """
    config.ignore("full_attn_idxs", "chunk_size_feed_forward", "is_encoder_decoder")
    config.expect("conv_bias", False, "the programs of short convolutions have no biases")
    ffn = _feed_forward(config)
    kinds: dict[str, Layer] = {"full_attention": (_attention(config), ffn), "conv": (_convolution(config), ffn)}
    layers = tuple(kinds[name] for name in layer_types(config, tuple(kinds)))
    return decoder_of(config, "lfm2", layers, norm=_norm(config, "norm", "model.embedding_norm"))


def _norm(config: Configuration, name: str, module: str) -> Norm:
    return Norm(name, module, config.size("hidden_size"), config.number("norm_eps"))


def _attention(config: Configuration) -> Sublayer:
    D, sizes, eps = config.size("hidden_size"), heads(config), config.number("norm_eps")
    H, K, C = sizes.H, sizes.K, sizes.C
    q_norm, k_norm = (Norm(name, f"self_attn.{name}", C, eps) for name in ("q_layernorm", "k_layernorm"))
    middle = Attention(H, K, C, rotary(config, C), C**-0.5, q_norm, k_norm)

    def projection(name: str, inputs: int, outputs: int, unit: int) -> Projection:
        return Projection(name, f"self_attn.{name}", inputs, outputs, unit=unit)

    into = (
        projection("q_proj", D, H * C, middle.G * C),
        projection("k_proj", D, K * C, C),
        projection("v_proj", D, K * C, C),
    )
    norm = _norm(config, "operator_norm", "operator_norm")
    return Sublayer("attention", norm, into, middle, projection("out_proj", H * C, D, middle.G * C))


def _convolution(config: Configuration) -> Sublayer:
    D = config.size("hidden_size")
    parts = tuple(FusedPart(name, D) for name in ("b", "c", "x"))
    return Sublayer(
        "convolution",
        _norm(config, "operator_norm", "operator_norm"),
        (Projection("in_proj", "conv.in_proj", D, 3 * D, fused=parts),),
        ShortConvolution(Kernel("kernel", "conv.conv", D, config.size("conv_L_cache"))),
        Projection("out_proj", "conv.out_proj", D, D),
        prefix="conv.",
    )


def _feed_forward(config: Configuration) -> Sublayer:
    D, F = config.size("hidden_size"), _width(config)
    into = tuple(Projection(name, f"feed_forward.{name}", D, F) for name in ("w1", "w3"))
    out = Projection("w2", "feed_forward.w2", F, D)
    return Sublayer("ffn", _norm(config, "ffn_norm", "ffn_norm"), into, FeedForward(F), out)


def _width(config: Configuration) -> int:
    """F: of an adjusted one two thirds, times a factor, rounded up to a whole multiple.

    Raises:
        UsageError: there is none left.
    """
    F = config.size("intermediate_size")
    if not config["block_auto_adjust_ff_dim"]:
        config.ignore("block_ffn_dim_multiplier", "block_multiple_of")
        return F
    multiple, factor = config.size("block_multiple_of"), config["block_ffn_dim_multiplier"]
    F = int(2 * F / 3)
    if factor is not None:
        F = multiple * -(-int(config.number("block_ffn_dim_multiplier") * F) // multiple)
    if F < 1:
        raise UsageError(f"block_ffn_dim_multiplier {factor} leaves no feed-forward layer.")
    return F
