"""A long text in parts whose tokens, one part after the other, are those of the whole: tokenizers take half a kilobyte of memory a token.

A part ends after a line feed that stands between a visible character of ASCII and a letter of ASCII. No character there is composed with
another, and for the expressions below, which most byte-level tokenizers cut text with, a word ends there whatever else is in the text. Text for
other tokenizers is not cut.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOBILE = "mobile.json"  # export/bundle/mobile.py tells what is in it
_AFTER_A_LINE = re.compile(r"(?<=[!-~]\n)(?=[A-Za-z])")
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KNOWN = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2, SmolLM2
    _QWEN2,  # Qwen2, Qwen3
    _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),  # Llama 3
    r"[\p{N}¤]",
    r"[\p{N}¤]+",
    r"\p{N}",
    r"\p{N}{1,3}",
}


def ids_in_parts(tokenizer: Any, text: str, folder: Path, least: int = 1 << 20) -> Iterator[list[int]]:
    """The ids of a text, with what the tokenizer adds, as many at a time as a part has.

    Args:
        tokenizer: transformers'
        folder: of the tokenizer in a bundle
        least: characters of a part
    """
    described = _described(folder) if len(text) > least else None
    if described is None:
        yield tokenizer(text, verbose=False)["input_ids"]
        return
    yield described["before"]
    for part in _parts(text, least):
        yield tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    yield described["after"]


def _parts(text: str, least: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        cut = _AFTER_A_LINE.search(text, start + least)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _described(folder: Path) -> dict[str, Any] | None:
    """What export says of a tokenizer for which text can be cut; None for others."""
    file = folder / _MOBILE
    described: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["tokenizer"] if file.is_file() else {}
    if not described.get("splits") or not _KNOWN.issuperset(described["splits"]):
        return None
    return None if any("\n" in special for special in described["special"]) else described
