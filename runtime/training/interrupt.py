"""Ctrl-C: the first one asks the run to stop and keep what it has, the second one stops it at once."""

import signal
from collections.abc import Callable
from types import FrameType


class Interrupt:
    """While its ``with`` lasts, answers the question whether the run was asked to stop.

    Args:
        notify: told at the first Ctrl-C
    """

    def __init__(self, notify: Callable[[], None] = lambda: None):
        self._notify, self._asked = notify, False

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._asked = True
        self._notify()
