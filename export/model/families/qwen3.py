"""Qwen3, dense."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder_of, feed_forward, head_norms, with_windows


def read(config: Configuration) -> Architecture:
    """A Llama whose query and key heads are normed, and have a width of their own. ``chunk_size_feed_forward`` and
    ``is_encoder_decoder`` have no meaning for it."""
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    biases = (*QKV, "o_proj") if config["attention_bias"] else ()
    normed = attention(config, biases, norms=head_norms(config))
    return decoder_of(config, "qwen3", with_windows(config, normed, feed_forward(config)))
