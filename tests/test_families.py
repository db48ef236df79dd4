"""Families: nothing in a configuration is overlooked."""

import contextlib
from dataclasses import fields
from typing import Any

import pytest

from mesp.export.model.configuration import Configuration
from mesp.export.model.families import FAMILIES, family, read_architecture
from mesp.runtime.errors import UsageError

from .models import LLAMA, LLAMA3_ROPE, QWEN2, QWEN3

CONFIGS = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3}
# A value that differs from the one in the configurations above, for each field that a family uses.
CHANGED: dict[str, Any] = {
    "vocab_size": 98,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
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
    "use_sliding_window": True,
    "layer_types": ["sliding_attention", "full_attention"],
}


def config_of(name: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    values = {**CONFIGS[name], **changes}
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
    plain = read_architecture(config_of(name))
    for field in accounted(name).used:
        with contextlib.suppress(UsageError):
            assert read_architecture(config_of(name, **{field: CHANGED[field]})) != plain, field


@pytest.mark.parametrize("name", CONFIGS)
def test_every_other_field_is_ignored_for_a_reason_or_refused_by_name(name: str) -> None:
    configuration = accounted(name)
    left = {field.name for field in fields(configuration.whole)} - configuration.used - configuration.ignored
    for field in left:
        config = config_of(name)
        setattr(config, field, "something else")
        with pytest.raises(UsageError, match=f"{field} = 'something else'"):
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


def test_an_architecture_without_a_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'gemma' is not supported. Supported: llama .SmolLM2, Llama 3., qwen2"):
        family("gemma")
