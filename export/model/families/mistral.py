"""Mistral."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import attention, decoder, feed_forward, window


def read(config: Configuration) -> Architecture:
    """A Llama whose layers all have a window, or none. ``chunk_size_feed_forward`` and ``is_encoder_decoder`` have no meaning for it."""
    config.ignore("chunk_size_feed_forward", "is_encoder_decoder")
    return decoder(config, "mistral", (attention(config, window=window(config)), feed_forward(config)))
