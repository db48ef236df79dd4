"""Phi-3 and Phi-4-mini."""

from dataclasses import replace
from typing import Any

from mesp.runtime.account import check_integer, check_number, shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture, FusedPart, Projection, Rotary, Sublayer
from ..configuration import Configuration, refuse_unknown
from .parts import attention, computed_rotary, decoder, default_rotary, feed_forward, heads, rope_settings, window

_FACTORS = ("short_factor", "long_factor")
_NUMBERS = ("rope_theta", "original_max_position_embeddings", "factor", "attention_factor")


def read(config: Configuration) -> Architecture:
    """A Llama whose q, k and v are one projection, and gate and up another, and whose rotary embedding may turn a part of a head.

    longrope has other frequencies for sequences longer than the model was trained on at first, so the longest that the model takes are those.
    ``original_max_position_embeddings`` is among the rope's settings too; ``chunk_size_feed_forward`` and ``is_encoder_decoder`` have no
    meaning for it.
    """
    config.ignore("original_max_position_embeddings", "chunk_size_feed_forward", "is_encoder_decoder")
    for name in ("resid_pdrop", "embd_pdrop"):
        config.expect(name, 0.0, "the programs have no dropout")
    turned, longest = _rotary(config)
    layer = (
        _fused(attention(config, rotary=turned, window=window(config)), "qkv_proj"),
        _fused(feed_forward(config), "gate_up_proj"),
    )
    return decoder(config, "phi3", layer, max_tokens=longest)


def _rotary(config: Configuration) -> tuple[Rotary, int]:
    """The rotary embedding, and the longest sequence that it is right for.

    Raises:
        UsageError: a type, or a setting of it, that is not understood.
    """
    kind, values = rope_settings(config)
    longest, C = config.size("max_position_embeddings"), heads(config).C
    width = int(C * check_number("partial_rotary_factor of the rope", values.pop("partial_rotary_factor", 1.0)))
    if not 0 < width <= C or width % 2:
        raise UsageError(f"A rotary embedding of {width} of {C} elements of a head is not supported.")
    if kind == "default":
        refuse_unknown("default rope", {key: value for key, value in values.items() if key != "rope_theta"})
        return default_rotary(check_number("rope_theta of the default rope", values.get("rope_theta")), width), longest
    if kind != "longrope":
        raise UsageError(f"Rope type {shown(kind)} is not supported. Supported: default, longrope.")
    refuse_unknown("longrope", {key: value for key, value in values.items() if key not in (*_FACTORS, *_NUMBERS)})
    for key in _NUMBERS:
        if values.get(key) is not None:
            check_number(f"{key} of the longrope", values[key])
    for key in _FACTORS:
        _check_factors(key, values.get(key), width // 2)
    first = check_integer(
        "original_max_position_embeddings of the longrope", values["original_max_position_embeddings"], 1, longest
    )
    return computed_rotary(config, kind), first


def _check_factors(name: str, factors: Any, count: int) -> None:
    if not isinstance(factors, list) or len(factors) != count:
        raise UsageError(f"{name} of the longrope is {shown(factors)}, expected {count} numbers.")
    for factor in factors:
        check_number(f"{name} of the longrope", factor)


def _fused(sublayer: Sublayer, name: str) -> Sublayer:
    """The sublayer with the projections into it as one of this name, in the same order."""
    first = sublayer.into[0]
    parts = tuple(FusedPart(p.name.removesuffix("_proj"), p.outputs, p.unit) for p in sublayer.into)
    module = f"{first.module.rpartition('.')[0]}.{name}"
    outputs = sum(part.outputs for part in parts)
    return replace(sublayer, into=(Projection(name, module, first.inputs, outputs, fused=parts),))
