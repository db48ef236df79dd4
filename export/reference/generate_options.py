"""How tokens are chosen: what a person asks of ``generate``, checked before torch is loaded."""

import math
from dataclasses import dataclass

from mesp.runtime.errors import UsageError


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
        if self.system is not None and not self.chat:
            raise UsageError("--system is a turn of a chat: add --chat.")
        if self.max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens {self.max_new_tokens} must be at least 1.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"--temperature {self.temperature} must be a number of at least 0.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p} must be above 0 and at most 1.")
        if self.top_p < 1 and self.temperature == 0:
            raise UsageError(
                "--top-p chooses what tokens are drawn from, but at --temperature 0 none is drawn: raise it."
            )
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise UsageError(f"--repetition-penalty {self.repetition_penalty} must be a number above 0.")
