"""What a file gave, accounted for: each named part of it is used, known not to matter, or refused by name.

A reader takes the parts that it understands, names those that change nothing, and ends with ``finish``. So whatever a later version of a
format adds is refused until somebody has understood it.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .errors import UsageError

_SHOWN = 3  # names in a message


class Account:
    """Named parts of a file that is being read.

    Args:
        where: the file, for messages
        given: all that it holds, by name
    """

    def __init__(self, where: str, given: Mapping[str, Any]):
        self.where, self._given = where, given
        self._left = dict.fromkeys(given)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def take(self, name: str, default: Any = None) -> Any:
        """A part, whatever it is; the default if the file has none."""
        self._left.pop(name, None)
        return self._given.get(name, default)

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number of ``least`` to ``most``; needed if there is no default.

        Raises:
            UsageError: it is missing, or something else.
        """
        return check_integer(f"{self.where}: {name}", self.take(name, default), least, most)

    def number(self, name: str, default: float | None = None, positive: bool = True) -> float:
        """A finite number; needed if there is no default.

        Raises:
            UsageError: it is missing, or something else.
        """
        return check_number(f"{self.where}: {name}", self.take(name, default), positive)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            UsageError: it is something else.
        """
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise UsageError(f"{self.where}: {name} is {shown(value)}, but must be true or false.")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Text; needed if there is no default.

        Raises:
            UsageError: it is missing, or something else.
        """
        value = self.take(name, default)
        if not isinstance(value, str):
            raise UsageError(f"{self.where}: {name} is {shown(value)}, but must be a text.")
        return value

    def expect(self, name: str, expected: Any, why: str) -> None:
        """A part that is understood with one value alone, which it also has if the file says nothing.

        Raises:
            UsageError: it has another value.
        """
        if (value := self.take(name, expected)) != expected:
            raise UsageError(f"{self.where}: {name} is {shown(value)}: {why}. Supported: {shown(expected)}.")

    def ignore(self, *patterns: str) -> None:
        """These do not matter, whatever they are. ``general.*`` stands for all that begin so."""
        for name in [name for name in self._left if any(fnmatchcase(name, pattern) for pattern in patterns)]:
            del self._left[name]

    def ignore_what_is_off(self) -> None:
        """Parts that are false, zero, empty or null do not matter."""
        for name in [name for name in self._left if not self._given[name]]:
            del self._left[name]

    def left(self) -> list[str]:
        """What nobody has accounted for so far, in order."""
        return sorted(self._left)

    def finish(self, what: str, advice: str) -> None:
        """To be called when everything is read.

        Args:
            what: the parts that are left are, as in "tensors that mesp does not know"
            advice: what to do about them

        Raises:
            UsageError: there are parts that nobody accounted for.
        """
        if left := self.left():
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            names = ", ".join(self._described(name) for name in left[:_SHOWN])
            raise UsageError(f"{self.where} has {what}: {names}{more}. {advice}")

    def _described(self, name: str) -> str:
        value = self._given[name]
        plain = value is None or isinstance(value, bool | int | float | str | list | dict)
        return f"{name} = {shown(value)}" if plain else name


def check_names(values: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuses a name that is no setting's, with the one that comes nearest.

    Raises:
        UsageError: names it.
    """
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else f"Settings are {', '.join(known)}."
            raise UsageError(f"{where}: {name} is no setting. {hint}")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_integer(what: str, value: Any, least: int, most: int) -> int:
    """The value, if it is a whole number of ``least`` to ``most``; otherwise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{what} is {shown(value)}, but must be a whole number of {least} to {most}.")
    return value


def check_number(what: str, value: Any, positive: bool = True) -> float:
    """The value, if it is a finite number, above 0 if it must be; otherwise UsageError."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if not good or (positive and value <= 0):
        raise UsageError(f"{what} is {shown(value)}, but must be a number{' above 0' if positive else ''}.")
    return float(value)
