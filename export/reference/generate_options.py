"""How tokens are chosen: what a person asks of ``generate``, checked before torch is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesp.runtime.contract.limits import allows
from mesp.runtime.errors import UsageError

# In the words of the contract's schemas; each with the end of the message of a value that is refused.
_LIMITS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "chat": ({"type": "boolean"}, "true or false"),
    "system": ({"type": ["string", "null"]}, "text"),
    "max_new_tokens": ({"type": "integer", "minimum": 1}, "a whole number of at least 1"),
    "temperature": ({"type": "number", "minimum": 0}, "a number of at least 0"),
    "top_p": ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "above 0 and at most 1"),
    "repetition_penalty": ({"type": "number", "exclusiveMinimum": 0}, "a number above 0"),
    "seed": ({"type": "integer"}, "a whole number"),
}


@dataclass(frozen=True)
class GenerateOptions:
    """What a person chooses.

    Args:
        chat: the prompt is a user's turn, written with the tokenizer's chat template; system: the turn before it
        max_new_tokens: at most; the end-of-text token ends sooner
        temperature: 0 takes the likeliest token each time; above it, tokens are drawn
        top_p: draw from the likeliest tokens that together have this probability
        repetition_penalty: above 1, tokens that were there already are less likely
        seed: of what is drawn, the same before and after

    Raises:
        UsageError: an option that cannot be used, by its name.
    """

    chat: bool = False
    system: str | None = None
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (definition, expected) in _LIMITS.items():
            value = getattr(self, name)
            if not allows(definition, value):
                raise UsageError(f"--{name.replace('_', '-')} {value!r} must be {expected}.")
        if self.system is not None and not self.chat:
            raise UsageError("--system is a turn of a chat: add --chat.")
        if self.top_p < 1 and self.temperature == 0:
            raise UsageError(
                "--top-p chooses what tokens are drawn from, but at --temperature 0 none is drawn: raise it."
            )
