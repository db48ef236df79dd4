"""Qwen2 and Qwen2.5."""

from mesp.runtime.errors import UsageError

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder, feed_forward


def read(config: Configuration) -> Architecture:
    """A Llama whose q, k and v have biases.

    Without windows, ``sliding_window`` and ``max_window_layers`` say nothing. ``chunk_size_feed_forward`` and ``is_encoder_decoder``
    have no meaning for it.

    Raises:
        UsageError: it has windows.
    """
    if config["use_sliding_window"] or set(config["layer_types"] or ()) - {"full_attention"}:
        raise UsageError(
            "Sliding-window attention is not supported: the attention programs are causal over the whole sequence."
        )
    config.ignore("sliding_window", "max_window_layers", "chunk_size_feed_forward", "is_encoder_decoder")
    return decoder(config, "qwen2", (attention(config, QKV), feed_forward(config, biased=False)))
