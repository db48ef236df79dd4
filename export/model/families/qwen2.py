"""Qwen2 and Qwen2.5."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder_of, feed_forward, with_windows


def read(config: Configuration) -> Architecture:
    """A Llama whose q, k and v have biases. ``chunk_size_feed_forward`` and ``is_encoder_decoder`` have no meaning for it."""
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    return decoder_of(config, "qwen2", with_windows(config, attention(config, QKV), feed_forward(config)))
