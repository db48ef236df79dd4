"""What the readers of Android's commands share: the failure, and numbers as a phone's language writes them."""

import re
from typing import Any, NoReturn

from mesp.runtime.errors import MespError

# The marks that set the direction of Arabic and Hebrew text. They show nothing, and stand anywhere in a line.
_DIRECTION_MARKS = dict.fromkeys([0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
# A separator of thousands is taken only where it can be nothing else. A point is not: in "1.234" it may be either.
_WHOLE = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:٬[0-9]{3})+|[0-9]{1,3}(?:[’'][0-9]{3})+)")
_SEPARATORS = re.compile("[,٬’']")


class Unreadable(MespError):
    """A command of the phone said something that is not understood.

    Args:
        command: as a person types it in a shell on the phone
        text: all that it said
        expected: what should be there
    """

    def __init__(self, command: str, text: str, expected: str):
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        got = f'it begins with "{first[:80]}"' if first else "it is empty"
        super().__init__(f"The output of `{command}` was not understood: expected {expected}; {got}.")
        self.command = command
        self.text = text


def plain(text: str) -> str:
    """The text with ASCII digits for those of every script, without direction marks, and with bare line feeds.

    Java's String.format writes %d and %f with the digits of the phone's language (Arabic, Persian, Marathi, Burmese, ...).
    """
    text = text.replace("\r\n", "\n").translate(_DIRECTION_MARKS)
    if text.isascii():
        return text
    return "".join(str(int(sign)) if sign.isdecimal() else sign for sign in text)


def is_whole(figure: str) -> bool:
    """Whether `whole` can read this figure of a plain text."""
    return _WHOLE.fullmatch(figure) is not None


def whole(figure: str) -> int:
    """A whole number of a plain text, with or without separators of thousands."""
    return int(_SEPARATORS.sub("", figure))


def known(figure: int | float | None, least: float, most: float) -> Any:
    """The figure, or None for one that no phone can have measured: it stands for "not known".

    Android and vendors write -1, 0x80000000 or the largest number of a type where they have no figure.
    """
    return figure if figure is not None and least <= figure <= most else None


class Reader:
    """One command's output, for the functions that look for figures in it.

    Args:
        command: as a person types it
        text: what it said
    """

    def __init__(self, command: str, text: str):
        self.command = command
        self.raw = text
        self.text = plain(text)

    def fail(self, expected: str) -> NoReturn:
        raise Unreadable(self.command, self.raw, expected)

    def search(self, pattern: str) -> str | None:
        """The first group of the pattern where it is first found. ^ and $ are the ends of a line."""
        found = re.search(pattern, self.text, re.MULTILINE)
        return found.group(1) if found else None

    def whole(self, figure: str, of: str) -> int:
        """A figure as a whole number.

        Raises:
            Unreadable: it is none, or one that can be read in two ways.
        """
        if not is_whole(figure):
            self.fail(f'a whole number for {of}, not "{figure}"')
        return whole(figure)

    def find(self, pattern: str, of: str) -> int | None:
        """The whole number that the pattern's first group holds, or None where the pattern is not found."""
        figure = self.search(pattern)
        return None if figure is None else self.whole(figure, of)
