"""One stream of a transport: what a service reads from and writes to, with adb's flow control of one packet in flight each way."""

import threading
from collections.abc import Callable
from contextlib import suppress

from .wire import Packet


class StreamClosed(ConnectionError):
    """The other side closed the stream, or the connection went."""


class Stream:
    """A service's side of a stream.

    Args:
        local, remote: the ids that the two sides have for it
        limit: bytes of one packet
        send: puts a packet on the connection
    """

    def __init__(self, local: int, remote: int, limit: int, send: Callable[[Packet], None]):
        self.local, self.remote = local, remote
        self._limit, self._send = limit, send
        self._changed = threading.Condition()
        self._arrived = b""
        self._may_write = True
        self._closed = False
        self._told = False
        self._writing = threading.Lock()
        self.on_close: Callable[[], None] = lambda: None

    # --- The service's side -------------------------------------------------------------------------------------------

    def read(self) -> bytes:
        """What came in, at least a byte; nothing once the stream is closed. The other side may send more only when this was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._closed)
            data, self._arrived = self._arrived, b""
            open_ = not self._closed
        if data and open_:
            self._send(Packet(b"OKAY", self.local, self.remote))
        return data

    def write(self, data: bytes) -> None:
        """Returns when the last packet is under way.

        Raises:
            StreamClosed: before that.
        """
        with self._writing:
            for start in range(0, len(data), self._limit):
                with self._changed:
                    self._changed.wait_for(lambda: self._may_write or self._closed)
                    if self._closed:
                        raise StreamClosed
                    self._may_write = False
                self._send(Packet(b"WRTE", self.local, self.remote, data[start : start + self._limit]))

    def finish(self) -> None:
        """Closes it, after what was written has arrived: adb drops what comes after a close."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_write or self._closed)
        self.closed()

    @property
    def is_closed(self) -> bool:
        return self._closed

    # --- The connection's side ----------------------------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        with self._changed:
            self._arrived += data
            self._changed.notify_all()

    def acknowledged(self) -> None:
        with self._changed:
            self._may_write = True
            self._changed.notify_all()

    def closed(self) -> None:
        """By either side. Tells the other one, once."""
        with self._changed:
            self._closed = True
            told, self._told = self._told, True
            self._changed.notify_all()
        if not told:
            with suppress(OSError):
                self._send(Packet(b"CLSE", self.local, self.remote))
            self.on_close()
