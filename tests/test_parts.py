"""A long text that is tokenized in parts has the tokens of the whole."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mesp.runtime.data import parts

from .android_golden import LLAMA3_WORDS, QWEN2_WORDS, TEXTS, TOKENIZERS

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def describe(folder: Path, splits: list[str], before: list[int], special: str = "<|im_end|>") -> None:
    """The part of mobile.json that is read."""
    described = {"splits": splits, "special": {special: 2}, "before": before, "after": []}
    (folder / "mobile.json").write_text(json.dumps({"tokenizer": described}))


@pytest.fixture
def text() -> str:
    """Lines that end and begin in all kinds of ways, where it is cut and where not."""
    generator = random.Random(0)
    ends = ["", " ", "  ", ".", "'", "7", "é", "\u0301", "\r", "\t", "<|im_end|>", "!?", "\n"]
    begins = ["a", "Z", " a", "\u0301", "7", "'s", "é", "\r", "<|im_end|>"]
    lines = [*TEXTS, *(f"{generator.choice(begins)}b{generator.choice(ends)}" for _ in range(2000))]
    generator.shuffle(lines)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "splits", "before"),
    [
        ("no_chat", [GPT2], []),
        ("marked", [GPT2], [0]),
        ("digits", [r"[\p{N}¤]", GPT2], []),
        ("qwen2", [QWEN2_WORDS], []),
        ("llama3", [LLAMA3_WORDS], [0]),
    ],
)
def test_a_text_in_parts_has_the_tokens_of_the_whole(
    tmp_path: Path, text: str, name: str, splits: list[str], before: list[int]
) -> None:
    TOKENIZERS[name](tmp_path)
    describe(tmp_path, splits, before)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    found = list(parts.ids_in_parts(tokenizer, text, tmp_path, least=40))
    assert len(found) > 100
    assert [token for part in found for token in part] == tokenizer(text, verbose=False)["input_ids"]


@pytest.mark.parametrize(
    "describes",
    [
        lambda folder: None,
        lambda folder: describe(folder, [GPT2, r"\p{L}"], []),
        lambda folder: describe(folder, [GPT2], [], special="a\nb"),
        lambda folder: (folder / "mobile.json").write_text('{"tokenizer": {"unsupported": "its model is Unigram"}}'),
    ],
)
def test_a_text_for_another_tokenizer_is_not_cut(tmp_path: Path, describes: Callable[[Path], object]) -> None:
    TOKENIZERS["no_chat"](tmp_path)
    describes(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(list(parts.ids_in_parts(tokenizer, "a b\nc d\n" * 100, tmp_path, least=40))) == 1
