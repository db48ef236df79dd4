"""Families: nothing in a configuration is overlooked."""

import contextlib
from copy import deepcopy
from dataclasses import fields
from typing import Any

import pytest

from mesp.export.model.configuration import Configuration
from mesp.export.model.families import FAMILIES, family, read_architecture
from mesp.runtime.errors import UsageError

from .models import GEMMA3, GRANITE, LFM2, LLAMA, LLAMA3_ROPE, MISTRAL, PHI3, QWEN2, QWEN3, SMOLLM3

ALL = (LLAMA, QWEN2, QWEN3, SMOLLM3, MISTRAL, GRANITE, PHI3, GEMMA3, LFM2)
CONFIGS: dict[str, dict[str, Any]] = {config["model_type"]: config for config in ALL}
# A value that differs from the one in the configurations above, for each field that a family uses.
CHANGED: dict[str, Any] = {
    "vocab_size": 98,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_act": "gelu",
    "max_position_embeddings": 65,
    "rms_norm_eps": 1e-4,
    "tie_word_embeddings": False,
    "rope_parameters": LLAMA3_ROPE,
    "attention_bias": True,
    "attention_dropout": 0.1,
    "mlp_bias": True,
    "head_dim": 64,
    "dtype": "bfloat16",
    "hidden_activation": "gelu",
    "query_pre_attn_scalar": 64,
    "sliding_window": 3,
    "no_rope_layers": [0, 1, 1],
    "embedding_multiplier": 6.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
    "logits_scaling": 8.0,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "norm_eps": 1e-4,
    "conv_bias": True,
    "conv_L_cache": 4,
    "block_auto_adjust_ff_dim": False,
    "block_multiple_of": 48,
    "block_ffn_dim_multiplier": 1.5,
    "layer_types": ["sliding_attention", "full_attention"],
}


def config_of(name: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    values = deepcopy({**CONFIGS[name], **changes})  # transformers completes a rope in place
    return AutoConfig.for_model(values.pop("model_type"), **values)


def accounted(name: str) -> Configuration:
    """A configuration that its family has read."""
    configuration = Configuration(config_of(name))
    FAMILIES[name].read(configuration)
    return configuration


def test_there_is_a_configuration_of_each_family() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_that_is_used_makes_a_difference_or_is_refused(name: str) -> None:
    from huggingface_hub.errors import StrictDataclassError

    plain = read_architecture(config_of(name))
    for field in accounted(name).used:
        with contextlib.suppress(UsageError, StrictDataclassError, IndexError):  # transformers refuses some itself
            assert read_architecture(config_of(name, **{field: CHANGED[field]})) != plain, field


@pytest.mark.parametrize("name", CONFIGS)
def test_every_other_field_is_ignored_for_a_reason_or_refused_by_name(name: str) -> None:
    configuration = accounted(name)
    left = {field.name for field in fields(configuration.whole)} - configuration.used - configuration.ignored
    for field in left:
        config = config_of(name)
        kind = {item.name: item.type for item in fields(config)}[field]
        value: Any = True if "bool" in str(kind) else 7.5 if "float" in str(kind) else "something else"
        setattr(config, field, value)
        with pytest.raises(UsageError, match=f"{field} = {value!r}"):
            read_architecture(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_field_that_a_later_transformers_adds_is_refused(name: str) -> None:
    """As if the class had one more field than the families know."""
    from dataclasses import dataclass

    @dataclass
    class Later(type(config_of(name))):  # type: ignore[misc]  # a base class that is known only when it runs
        attention_sinks: int = 0

    config = Later(**{key: value for key, value in config_of(name).to_dict().items() if key != "transformers_version"})
    assert read_architecture(config) == read_architecture(config_of(name))
    config.attention_sinks = 4
    with pytest.raises(UsageError, match="attention_sinks = 4"):
        read_architecture(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_configuration_is_read(name: str) -> None:
    """Fields at their defaults, and tokens' numbers, are those of the class."""
    from transformers import AutoConfig

    assert read_architecture(AutoConfig.for_model(name)).model_type == name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a window of 0": ({**GEMMA3, "sliding_window": 0}, "sliding_window is 0, but must be a whole number of 1"),
    "no window": ({**GEMMA3, "sliding_window": None}, "sliding_window is missing, but must be"),
    "a window of 0 in all layers": ({**MISTRAL, "sliding_window": 0}, "sliding_window is 0"),
    "types of layers that there are no programs for": (
        {**QWEN3, "layer_types": ["full_attention", "chunked_attention"]},
        "Layers of the type 'chunked_attention' are not supported. Supported: full_attention, sliding_attention",
    ),
    "soft caps": ({**GEMMA3, "final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
    "attention both ways": ({**GEMMA3, "use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
    "windows without a rotary embedding": (
        {**SMOLLM3, "use_sliding_window": True, "sliding_window": 4},
        "'sliding_attention' are not supported. Supported: full_attention.",
    ),
    "a layer too many that is told of its rope": (
        {**SMOLLM3, "no_rope_layers": [1] * 4},
        "0 or 1 for each of 3 layers",
    ),
    "a part of a Llama's head": (
        {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "of a part of the head",
    ),
    "another family's rope": ({**QWEN3, "rope_parameters": PHI3["rope_parameters"]}, "Rope type 'longrope'"),
    "convolutions with biases": ({**LFM2, "conv_bias": True}, "conv_bias True is not supported"),
    "no taps": ({**LFM2, "conv_L_cache": 0}, "conv_L_cache is 0"),
    "no feed-forward layer": ({**LFM2, "block_ffn_dim_multiplier": 1e-9}, "leaves no feed-forward layer"),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_there_are_no_programs_for_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    from transformers import AutoConfig

    values = dict(config)
    with pytest.raises(UsageError) as error:
        read_architecture(AutoConfig.for_model(values.pop("model_type"), **values))
    assert message in str(error.value)


def test_gemmas_embedding_is_scaled_in_the_rounding_of_the_checkpoint() -> None:
    for dtype, scale in ((None, 1152**0.5), ("float32", 1152**0.5), ("bfloat16", 34.0)):
        found = read_architecture(config_of("gemma3_text", hidden_size=1152, dtype=dtype)).embedding_scale
        assert found == pytest.approx(scale, rel=1e-7)


def test_longrope_takes_no_sequence_that_needs_its_other_factors() -> None:
    assert read_architecture(config_of("phi3")).max_tokens == 32


def test_gemma_with_vision_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'gemma3' is Gemma 3 with vision"):
        family("gemma3")


def test_an_architecture_without_a_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'gemma' is not supported. Supported: llama .SmolLM2, Llama 3., qwen2"):
        family("gemma")
