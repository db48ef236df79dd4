"""Llama: SmolLM2, Llama 3."""

from ..architecture import Architecture
from ..configuration import Configuration
from .parts import QKV, attention, decoder, feed_forward


def read(config: Configuration) -> Architecture:
    """Attention and SwiGLU, with biases only if the configuration says so.

    ``pretraining_tp`` is how the weights were once cut for training; transformers does not read it. Neither it nor
    ``chunk_size_feed_forward`` or ``is_encoder_decoder`` has a meaning for a Llama.
    """
    config.ignore("pretraining_tp", "chunk_size_feed_forward", "is_encoder_decoder")
    biases = (*QKV, "o_proj") if config["attention_bias"] else ()
    return decoder(config, "llama", (attention(config, biases), feed_forward(config, biased=config["mlp_bias"])))
