"""SmolLM3."""

from dataclasses import replace

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture, Attention, Sublayer
from ..configuration import Configuration
from .parts import QKV, attention, decoder_of, feed_forward, layer_count, layer_types


def read(config: Configuration) -> Architecture:
    """A Llama in which some layers, mostly every fourth, have no rotary embedding. ``no_rope_layers`` says which, so the interval that it
    was made of says nothing, as windows say nothing where no layer has one.

    Raises:
        UsageError: ``no_rope_layers`` that are no list of a 0 or 1 for each layer, or layers with windows, which no published model has.
    """
    config.ignore("no_rope_layer_interval", "use_sliding_window", "sliding_window")
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    layer_types(config, ("full_attention",))
    turned = config["no_rope_layers"]
    if not isinstance(turned, list) or len(turned) != layer_count(config) or set(turned) - {0, 1}:
        raise UsageError(f"no_rope_layers {shown(turned)} must have a 0 or 1 for each of {layer_count(config)} layers.")
    biases = (*QKV, "o_proj") if config["attention_bias"] else ()
    ffn = feed_forward(config, biased=config["mlp_bias"])
    rotated = attention(config, biases)
    kinds = {True: rotated, False: _unturned(rotated)}
    layers = tuple((kinds[bool(flag)], ffn) for flag in turned)
    return decoder_of(config, "smollm3", layers)


def _unturned(attention: Sublayer) -> Sublayer:
    """The same without a rotary embedding."""
    assert isinstance(attention.middle, Attention)
    middle = replace(attention.middle, rotary=None)
    return replace(attention, name="nope_attention", prefix="nope.", middle=middle)
