"""The families of models. A family is a file here: it reads a transformers configuration into an ``Architecture``.

    parts      what families have in common: attention, feed-forward, windows, rotary embeddings
    llama      SmolLM2, Llama 3
    qwen2      Qwen2, Qwen2.5
    qwen3      Qwen3
    smollm3    SmolLM3
    mistral    Mistral
    granite    Granite, dense
    phi3       Phi-3, Phi-4-mini
    gemma3     Gemma 3, text
    lfm2       LFM2, LFM2.5

To add a family, write its file and name it in ``FAMILIES``. DESIGN.md has the list of what else a new operation needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError

from ..architecture import Architecture
from ..configuration import Configuration
from . import gemma3, granite, lfm2, llama, mistral, phi3, qwen2, qwen3, smollm3


@dataclass(frozen=True)
class Family:
    """A family of models.

    Args:
        known: models of it, for people
        read: takes every field of a configuration that it needs
        gguf: what GGUF calls it
        from_gguf: whether it is read from GGUF files; adapters of the others are written to them all the same
        gguf_interleaves: the projections whose rows GGUF orders otherwise: of each head first and second half in turn
    """

    known: str
    read: Callable[[Configuration], Architecture]
    gguf: str
    gguf_interleaves: frozenset[str] = frozenset()
    from_gguf: bool = True


_Q_AND_K = frozenset(("q_proj", "k_proj"))

# By transformers' model_type.
FAMILIES = {
    "llama": Family("SmolLM2, Llama 3", llama.read, gguf="llama", gguf_interleaves=_Q_AND_K),
    "qwen2": Family("Qwen2, Qwen2.5", qwen2.read, gguf="qwen2"),
    "qwen3": Family("Qwen3", qwen3.read, gguf="qwen3"),
    "smollm3": Family("SmolLM3", smollm3.read, "smollm3", _Q_AND_K, from_gguf=False),
    "mistral": Family("Mistral", mistral.read, "llama", _Q_AND_K, from_gguf=False),
    "granite": Family("Granite", granite.read, "granite", _Q_AND_K, from_gguf=False),
    "phi3": Family("Phi-3, Phi-4-mini", phi3.read, "phi3", from_gguf=False),
    "gemma3_text": Family("Gemma 3, text", gemma3.read, gguf="gemma3"),
    "lfm2": Family("LFM2, LFM2.5", lfm2.read, gguf="lfm2"),
}


# Model types that are near one that is supported, and what to do.
_NEAR = {
    "gemma3": "Gemma 3 with vision, as its models of 4B and more are. Use its text model alone, of the model type gemma3_text, or a GGUF file",
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
        if isinstance(model_type, str) and model_type in _NEAR:
            raise UsageError(f"Architecture {shown(model_type)}{place} is {_NEAR[model_type]}.")
        raise UsageError(f"Architecture {shown(model_type)}{place} is not supported. Supported: {supported}.")
    return FAMILIES[model_type]


def gguf_family(kind: str, where: str) -> tuple[str, Family]:
    """transformers' model type, and the family, of what GGUF calls so.

    Raises:
        UsageError: there is none, or none that is read from GGUF files.
    """
    for model_type, known in FAMILIES.items():
        if known.from_gguf and known.gguf == kind:
            return model_type, known
    supported = ", ".join(f"{known.gguf} ({known.known})" for known in FAMILIES.values() if known.from_gguf)
    folder = " as a GGUF file. Use a Hugging Face folder of it" if kind in FAMILIES else ""
    raise UsageError(f"Architecture {shown(kind)} in {where} is not supported{folder}. Supported: {supported}.")


def read_architecture(config: Any) -> Architecture:
    """Translates a transformers configuration.

    Raises:
        UsageError: a model that there are no programs for; names the field.
    """
    configuration = Configuration(config)
    architecture = family(config.model_type).read(configuration)
    configuration.finish()
    return architecture
