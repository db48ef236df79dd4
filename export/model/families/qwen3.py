"""Qwen3, dense."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder, feed_forward, refuse_windows


def read(config: Configuration) -> Architecture:
    """A Llama whose query and key heads are normed, and have a width of their own. ``chunk_size_feed_forward`` and
    ``is_encoder_decoder`` have no meaning for it.

    Raises:
        UsageError: it has windows.
    """
    refuse_windows(config)
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    biases = (*QKV, "o_proj") if config["attention_bias"] else ()
    return decoder(config, "qwen3", (attention(config, biases, normed=True), feed_forward(config, biased=False)))
