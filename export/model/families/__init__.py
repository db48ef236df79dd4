"""The families of models. A family is a file here: it reads a transformers configuration into an ``Architecture``.

    parts    what families have in common: attention, feed-forward, rotary embeddings
    llama    SmolLM2, Llama 3
    qwen2    Qwen2, Qwen2.5
    qwen3    Qwen3

To add a family, write its file and name it in ``FAMILIES``. DESIGN.md has the list of what else a new operation needs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture
from ..configuration import Configuration
from . import llama, qwen2, qwen3


@dataclass(frozen=True)
class Family:
    """A family of models.

    Args:
        known: models of it, for people
        read: takes every field of a configuration that it needs
        gguf_interleaves: the projections whose rows GGUF orders otherwise: of each head first and second half in turn
    """

    known: str
    read: Callable[[Configuration], Architecture]
    gguf_interleaves: frozenset[str] = field(default_factory=frozenset)


# By transformers' model_type, which is GGUF's general.architecture too.
FAMILIES = {
    "llama": Family("SmolLM2, Llama 3", llama.read, frozenset(("q_proj", "k_proj"))),
    "qwen2": Family("Qwen2, Qwen2.5", qwen2.read),
    "qwen3": Family("Qwen3", qwen3.read),
}


def family(model_type: Any, where: str = "") -> Family:
    """The family of a model type.

    Args:
        where: the file that names it, for the message

    Raises:
        UsageError: there is none.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        supported = ", ".join(f"{name} ({family.known})" for name, family in FAMILIES.items())
        place = f" in {where}" if where else ""
        raise UsageError(f"Architecture {shown(model_type)}{place} is not supported. Supported: {supported}.")
    return FAMILIES[model_type]


def read_architecture(config: Any) -> Architecture:
    """Translates a transformers configuration.

    Raises:
        UsageError: a model that there are no programs for; names the field.
    """
    configuration = Configuration(config)
    architecture = family(config.model_type).read(configuration)
    configuration.finish()
    return architecture
