"""What a phone needs to tokenize, and to make text, as transformers does: mobile.json, in the bundle's tokenizer folder.

``vocabulary`` writes the tokens and merges beside it. How text is cut into words, what is put around it and how conversations are written is
resolved here, since a phone has neither Rust nor Jinja, and checked: a tokenizer or chat template that cannot be reproduced exactly is not, and
the file says why. Such a bundle trains on a computer as any other; on a phone, on rows of token ids.

    format_version   3
    tokenizer        {"unsupported": why}, or
        splits       regular expressions; each cuts the pieces that the one before leaves into what it matches and what is between. They are
                     for text whose characters beyond ASCII are replaced by ones of their class (runtimes differ in their Unicode tables):
        letters      the code points that are a \\p{L} to this tokenizer, in hexadecimal, as in "41-5a aa"
        numbers      those that are a \\p{N}
        digits       those that are a digit to it, but no \\p{N}; ¤ in an expression
        spaces       those that are a \\s
        nfc          whether text is brought into Unicode's normalization form C
        space        what is written for a space; null for itself
        fallback     the ids of the 256 bytes, for characters that are no tokens; null where words are made of bytes to begin with
        whole        whether a word that is a token is not merged
        special      texts that are tokens of their own, the longest of the earliest first, and their ids
        before       ids that are put before a text, and ``after``, after it
        end          the id of EOS, or null
        trim_offsets whether a token's place leaves the spaces at its ends out
    chat             null without a template, {"unsupported": why}, or a resolved one (``chat.Chat``)
    generation       the ids that end a text that a model writes ("stops"), and those that are left out of it ("hidden")

The model must be BPE: of bytes (GPT-2's and what came of it), or of characters, with bytes for those that are no tokens (SentencePiece's).
"""

import json
import re
from pathlib import Path
from typing import Any

from mesp.runtime.files import write_json
from mesp.runtime.generation.decoding import BYTE_OF

from .chat import Chat, Unsupported, resolve
from .stops import stop_tokens
from .vocabulary import FILE as VOCABULARY
from .vocabulary import write_vocabulary

FILE = "mobile.json"
_FORMAT_VERSION = 3

# What ``ByteLevel`` cuts with in the tokenizers library (GPT-2's expression).
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Stands for a digit that is no \p{N}: what the tokenizers library takes for one is of a later Unicode than its expressions.
_DIGITS = r"[\p{N}¤]"
# What every engine understands alike: classes, sets without sets in them, groups, alternatives, lookahead, greedy repetition.
_SET = r"\[\^?(?:\\p\{[LN]\}|\\[srn]|[ '/0-9A-Za-z])+\]"
_PORTABLE = re.compile(
    rf"(?:\\p\{{[LN]\}}|\\[sSrn]|{_SET}|\((?:\?(?:i:|:|!|=))?|[ '/A-Za-z0-9|)]|(?:[?+*]|\{{\d+(?:,\d*)?\}})(?![?+*]))+"
)


def write_mobile(folder: Path, ends: int | list[int] | None = None) -> None:
    """Adds the file to a saved tokenizer.

    Args:
        ends: eos_token_id of the model's configuration: the tokens that end a text beside those that the tokenizer knows of
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = sorted(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    generation = {"stops": stop_tokens(tokenizer, ends), "hidden": special}
    described = {"tokenizer": _described(folder, tokenizer), "chat": _chat(tokenizer), "generation": generation}
    write_json(folder / FILE, {"format_version": _FORMAT_VERSION, **described})


def notes(folder: Path) -> list[str]:
    """What a bundle with this tokenizer cannot do on a phone, for people; nothing without a tokenizer."""
    if not (folder / FILE).is_file():
        return []
    mobile = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if why := mobile["tokenizer"].get("unsupported"):
        return [
            f"On a phone it trains on rows of token ids alone: its tokenizer cannot be reproduced there, since {why}."
        ]
    if why := (mobile["chat"] or {}).get("unsupported"):
        return [f"On a phone it does not train on messages: its chat template cannot be used there, since {why}."]
    return []


def _described(folder: Path, tokenizer: Any) -> dict[str, Any]:
    try:
        return _tokenizer(folder, tokenizer)
    except Unsupported as error:
        return {"unsupported": str(error)}


def _chat(tokenizer: Any) -> dict[str, Any] | None:
    if not tokenizer.chat_template:
        return None
    try:
        chat: Chat = resolve(tokenizer)
        return chat.to_json()
    except Unsupported as error:
        return {"unsupported": str(error)}


def _tokenizer(folder: Path, tokenizer: Any) -> dict[str, Any]:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not tokenizer.is_fast or not path.is_file():
        raise Unsupported("it has no tokenizer.json")
    used = json.loads(tokenizer.backend_tokenizer.to_str())
    if json.loads(Tokenizer.from_file(str(path)).to_str())["model"] != used["model"]:
        raise Unsupported("transformers changes the vocabulary of its tokenizer.json")
    model, special = used["model"], _special(used)
    before, after = _around(tokenizer)
    fallback = _fallback(model)
    splits = [] if fallback else _splits(used["pre_tokenizer"])
    nfc, space = _normalized(used)
    if fallback and used["pre_tokenizer"] and not _cuts_at_spaces(used["pre_tokenizer"], space):
        raise Unsupported("it cuts text before it looks for characters")
    _write_vocabulary(folder / VOCABULARY, model, set(special), fallback)
    return {
        "splits": splits,
        **_classes(splits),
        "nfc": nfc,
        "space": space,
        "fallback": fallback,
        "whole": bool(model.get("ignore_merges")),
        "special": special,
        "before": before,
        "after": after,
        "end": tokenizer.eos_token_id,
        "trim_offsets": any(step.get("trim_offsets") for step in _steps(used["post_processor"], "processors")),
    }


def _fallback(model: dict[str, Any]) -> list[int] | None:
    """The ids of the bytes, where characters that are no tokens become them."""
    if model["type"] != "BPE":
        raise Unsupported(f"its model is {model['type']} and not BPE")
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    if names := [name for name in odd if model.get(name)]:
        raise Unsupported(f"its BPE has {' and '.join(names)}")
    if not model.get("byte_fallback"):
        if model.get("unk_token"):
            raise Unsupported("its BPE has unk_token")
        return None
    ids = [model["vocab"].get(f"<0x{byte:02X}>") for byte in range(256)]
    if None in ids:
        raise Unsupported("its BPE has byte_fallback, and not all bytes are tokens")
    return ids


def _write_vocabulary(path: Path, model: dict[str, Any], special: set[str], fallback: list[int] | None) -> None:
    spell = _spelled if fallback is None else str.encode
    bytes_of = {token: spell(token) for token in model["vocab"] if token not in special or fallback}
    tokens = {model["vocab"][token]: spelling for token, spelling in bytes_of.items() if spelling}
    for number in fallback or ():  # they are written <0x00>, and no text is
        del tokens[number]
    merges = [(bytes_of.get(first), bytes_of.get(second)) for first, second in model["merges"]]
    known = set(tokens.values())
    for (first, second), names in zip(merges, model["merges"], strict=True):
        if not (first and second and first in known and second in known and first + second in known):
            raise Unsupported(f"its merge of {names[0]!r} and {names[1]!r} is of texts that are no tokens")
    write_vocabulary(path, tokens, [(first, second) for first, second in merges if first and second])


def _spelled(token: str) -> bytes:
    """The bytes of a byte-level token; none of one that is written otherwise."""
    return bytes(BYTE_OF[character] for character in token) if BYTE_OF.keys() >= set(token) else b""


def _special(used: dict[str, Any]) -> dict[str, int]:
    added = used["added_tokens"]
    for token in added:
        for name in ("single_word", "lstrip", "rstrip"):
            if token[name]:
                raise Unsupported(f"its token {token['content']} is matched with {name}")
    if any(token["normalized"] for token in added) and (
        used["normalizer"] or not all(token["normalized"] for token in added)
    ):
        raise Unsupported("some of its added tokens are matched after normalization")
    return {token["content"]: token["id"] for token in added}


def _normalized(used: dict[str, Any]) -> tuple[bool, str | None]:
    """Whether text is brought into form C, and what a space is written as."""
    steps = _steps(used["normalizer"], "normalizers")
    match [step["type"] for step in steps]:
        case []:
            return False, None
        case ["NFC"]:
            return True, None
        case ["Replace"] if steps[0]["pattern"] == {"String": " "} and len(steps[0]["content"]) == 1:
            return False, steps[0]["content"]
        case kinds:
            raise Unsupported(f"it normalizes text with {', '.join(kinds)}")


def _cuts_at_spaces(step: dict[str, Any], space: str | None) -> bool:
    """Whether the step cuts at spaces alone, of which none is left."""
    return step["type"] == "Split" and step["pattern"] == {"String": " "} and space not in (None, " ")


def _steps(step: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The steps of a sequence, or the one that there is."""
    if step is None:
        return []
    return list(step[name]) if step["type"] == "Sequence" else [step]


def _splits(pre_tokenizer: dict[str, Any] | None) -> list[str]:
    """The expressions that cut text into words."""
    *steps, last = _steps(pre_tokenizer, "pretokenizers") or [{"type": "none"}]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        raise Unsupported("its words are not those of a byte-level tokenizer without a prefix space")
    return [_split(step) for step in steps] + ([_BYTE_LEVEL] if last["use_regex"] else [])


def _split(step: dict[str, Any]) -> str:
    if step["type"] == "Digits":
        return _DIGITS if step["individual_digits"] else f"{_DIGITS}+"
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        raise Unsupported(f"it cuts text with {step['type']} {step.get('behavior', '')}".rstrip())
    pattern = str(step["pattern"].get("Regex", ""))
    if not _PORTABLE.fullmatch(pattern):
        raise Unsupported(f"its regular expression {pattern!r} may differ in Java")
    return pattern


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text."""

    def encode(text: str, around: bool) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=around, verbose=False)["input_ids"]
        return ids

    both, bare = encode("a", True), encode("a", False)
    places = [start for start in range(len(both)) if both[start : start + len(bare)] == bare]
    for start in places:
        before, after = both[:start], both[start + len(bare) :]
        if all(encode(text, True) == [*before, *encode(text, False), *after] for text in ("", "a b", " \n", "naïve")):
            return before, after
    raise Unsupported("what it puts around a text depends on the text")


def _classes(splits: list[str]) -> dict[str, str]:
    """The characters of each class that the expressions name, as the tokenizers library has them."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    characters = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    classes = {
        name: normalizers.Replace(Regex(f"[^{pattern}]+"), "").normalize_str(characters)
        for name, pattern in (("letters", r"\p{L}"), ("numbers", r"\p{N}"), ("spaces", r"\s"))
    }
    if any(_DIGITS in split for split in splits):
        cut = pre_tokenizers.Digits(individual_digits=False)  # in turn a piece of digits and one without
        parts = (
            characters[start : start + 1000] for start in range(0, len(characters), 1000)
        )  # it takes seconds for all at once
        digits = {digit for part in parts for piece, _ in cut.pre_tokenize_str(f"0 {part}")[2::2] for digit in piece}
        if not digits >= set(classes["numbers"]):
            raise Unsupported("its digits are not those of its regular expressions")
        classes["digits"] = "".join(sorted(digits - set(classes["numbers"])))
    return {name: _ranges(characters) for name, characters in classes.items()}


def _ranges(characters: str) -> str:
    """Code points in ascending order as ranges."""
    ranges: list[list[int]] = []
    for point in map(ord, characters):
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in ranges)
