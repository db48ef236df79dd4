"""Token ids to text as they come: no piece ends inside of a character, and special tokens are left out.

A token is bytes. GPT-2's tokenizers and what came of them spell each byte as a character; SentencePiece's have tokens of characters, and
<0xE4> for a byte of one that is no token. Bytes become text when a character is whole. What can be none is replaced by U+FFFD, the longest
beginning of a character as one, as Unicode advises: then the pieces are together what Hugging Face's ``decode`` makes of all ids, but for one
thing: of several bytes in SentencePiece's way that are not all right it replaces all.

What must be the same on a phone is in mobile.json: the tokens that end a text, and those that are left out.
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import read_json_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILE, _MOBILE = "tokenizer.json", "mobile.json"  # export/bundle/mobile.py tells what is in the second
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

# GPT-2 spells a byte as a character: itself where it is a visible one of Latin-1, else one from U+0100 on.
_VISIBLE = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
BYTE_OF: Mapping[str, int] = {chr(byte): byte for byte in _VISIBLE} | {
    chr(256 + index): byte for index, byte in enumerate(byte for byte in range(256) if byte not in _VISIBLE)
}


def read_stops(folder: Path) -> tuple[int, ...]:
    """The tokens that end a text: those of the model's settings of generation, of its tokenizer and of its chat template.

    Args:
        folder: a bundle's tokenizer folder

    Raises:
        UsageError: the bundle does not say, since it was exported by an earlier mesp.
    """
    found = read_json_object(folder / _MOBILE, "what a phone needs of a tokenizer").get("generation")
    if not isinstance(found, dict):
        raise UsageError(f"{folder / _MOBILE} does not say where a text ends. Export the bundle again, with this mesp.")
    return tuple(found["stops"])


class Spelling:
    """The bytes of each token.

    Raises:
        UsageError: no tokenizer.json there, or its text is not put together token by token.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        file = folder / _FILE
        if not file.is_file():
            raise UsageError(f"{folder} has no {_FILE}, without which tokens are no text.")
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(file))
        self._added = self._tokenizer.get_added_tokens_decoder()
        self._spell, self.strip = _kind(file, self._tokenizer)

    def __call__(self, token: int) -> bytes:
        """None of a token that is left out, or that the tokenizer does not have."""
        if added := self._added.get(token):
            return b"" if added.special else self._spell_added(added.content)
        text = self._tokenizer.id_to_token(token)
        return self._spell(text) if text else b""

    def _spell_added(self, text: str) -> bytes:
        return text.encode() if self._spell is _byte_level else self._spell(text)


def _kind(file: Path, tokenizer: "Tokenizer") -> tuple[Callable[[str], bytes], int]:
    """How the bytes of a token are found, and how many spaces a text's beginning loses."""
    decoder: Any = tokenizer.decoder
    step: Any = json.loads(decoder.__getstate__()) if decoder is not None else {"type": "none"}
    steps: list[Any] = step["decoders"] if step["type"] == "Sequence" else [step]
    match [(each["type"], each.get("pattern"), each.get("content")) for each in steps]:
        case [("ByteLevel", _, _)]:
            return _byte_level, 0
        case [("Replace", {"String": space}, " "), ("ByteFallback", _, _), ("Fuse", _, _), *rest]:
            strips = steps[3:]
            if not rest or (len(rest) == 1 and rest[0][0] == "Strip" and rest[0][2] == " " and not strips[0]["stop"]):
                return lambda text: _with_bytes(text, str(space)), strips[0]["start"] if strips else 0
    names = ", ".join(str(each["type"]) for each in steps)
    raise UsageError(f"{file}: its tokens become text by {names}, which mesp does not know.")


def _byte_level(token: str) -> bytes:
    if BYTE_OF.keys() >= set(token):
        return bytes(BYTE_OF[character] for character in token)
    return token.encode()


def _with_bytes(token: str, space: str) -> bytes:
    found = _BYTE.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.replace(space, " ").encode()


class StreamDecoder:
    """A text whose tokens come one after the other.

    ``add`` returns what can be shown now: what is together whole characters. ``finish`` returns the rest.
    """

    def __init__(self, spelling: Spelling):
        self._spelling, self._left_to_strip = spelling, spelling.strip
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self._stripped(self._characters.decode(self._spelling(token)))

    def finish(self) -> str:
        return self._stripped(self._characters.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        """Without the spaces that SentencePiece puts before a text."""
        while self._left_to_strip and text:
            self._left_to_strip -= 1
            if not text.startswith(" "):
                self._left_to_strip = 0
            else:
                text = text[1:]
        return text
