"""Standard output and the signals that end a command, whatever becomes of the terminal."""

import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class Output(io.TextIOBase):
    """Standard output for a command that takes long: if nobody reads it any more, what is written is dropped.

    Args:
        stream: where it goes
        lost: told once, when the stream takes no more, as after ``| head -1`` or when the terminal is gone
    """

    def __init__(self, stream: TextIO, lost: Callable[[], None]):
        self._stream, self._lost, self.is_lost = stream, lost, False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base class has a variable
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with self._losing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._losing():
            self._stream.flush()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            drop(self._stream)
            if not self.is_lost:
                self.is_lost = True
                self._lost()


def drop(stream: TextIO) -> None:
    """Has all that is written to a stream from now on, and what is still in its buffer, thrown away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def is_broken(stream: TextIO) -> bool:
    """Whether nobody reads any more what is written to a pipe."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def tell(text: str) -> None:
    """A line on standard error, if that is still there."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def spell_what_cannot_be_written() -> None:
    """Has characters that the terminal's encoding lacks written as escapes: a path in Chinese is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """kill and a lost terminal raise KeyboardInterrupt too, so that what is half written is removed. What nohup ignores is still ignored."""
    signals = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
