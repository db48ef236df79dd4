"""Ctrl-C, kill and a lost terminal: the first one asks the run to stop and keep what it has, the second one stops it at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupt:
    """While its ``with`` lasts, answers the question whether the run was asked to stop.

    A lost terminal (SIGHUP) asks once and never stops at once, because a shell sends it twice. Where it was ignored before, as under nohup,
    it still is. In a thread other than the main one, which no signal reaches, only ``ask`` asks.

    Args:
        notify: told when the run is asked to stop by a signal
    """

    def __init__(self, notify: Callable[[], None] = lambda: None):
        self._notify, self._asked = notify, False

    def __call__(self) -> bool:
        return self._asked

    def ask(self) -> None:
        """Asks the run to stop."""
        self._asked = True

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is not threading.main_thread():
            self._before: dict[int, Any] = {}
            return self
        signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signals.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._first) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _first(self, number: int, frame: FrameType | None) -> None:
        for other in self._before:
            signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else signal.default_int_handler)
        self.ask()
        self._notify()
