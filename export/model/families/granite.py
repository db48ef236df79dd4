"""Granite, dense."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder, feed_forward


def read(config: Configuration) -> Architecture:
    """A Llama whose embedding, sublayers, scores and logits are multiplied with numbers of its own. ``chunk_size_feed_forward`` and
    ``is_encoder_decoder`` have no meaning for it."""
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    biases = (*QKV, "o_proj") if config["attention_bias"] else ()
    layer = (
        attention(config, biases, scale=config.number("attention_multiplier")),
        feed_forward(config, biased=config["mlp_bias"]),
    )
    return decoder(
        config,
        "granite",
        layer,
        embedding_scale=config.number("embedding_multiplier"),
        logit_scale=1 / config.number("logits_scaling"),
        out_scale=config.number("residual_multiplier"),
    )
