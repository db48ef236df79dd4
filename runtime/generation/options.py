"""How tokens are chosen: what a person asks of ``generate``. Defaults and limits are those of contract/generation.schema.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract import schema
from ..contract.limits import allows
from ..errors import UsageError

DEFINITIONS: Mapping[str, Mapping[str, Any]] = schema("generation")["properties"]
_OF_DRAWING = ("top_k", "top_p", "min_p")


@dataclass(frozen=True)
class GenerateOptions:
    """What a person chooses.

    Args:
        chat: the prompt is a user's turn, written with the tokenizer's chat template; system: the turn before it
        max_new_tokens: at most; the end-of-text token ends sooner
        temperature: 0 takes the likeliest token each time; above it, tokens are drawn
        top_k: draw from so many of the likeliest tokens; 0 for all
        top_p: draw from the likeliest tokens that together have this probability
        min_p: draw from the tokens with at least so much of the likeliest one's probability
        repetition_penalty: above 1, tokens that were there already are less likely
        seed: of what is drawn, the same before and after

    Raises:
        UsageError: an option that cannot be used, by its name.
    """

    chat: bool = False
    system: str | None = None
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, definition in DEFINITIONS.items():
            value = getattr(self, name)
            if not allows(definition, value):
                raise UsageError(f"{_option(name)} {value!r} must be {definition['expected']}.")
        if self.system is not None and not self.chat:
            raise UsageError("--system is a turn of a chat: add --chat.")
        for name in _OF_DRAWING:
            if self.temperature == 0 and getattr(self, name) != DEFINITIONS[name]["default"]:
                raise UsageError(
                    f"{_option(name)} chooses what tokens are drawn from, but at --temperature 0 none is drawn: raise it."
                )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
