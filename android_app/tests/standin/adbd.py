"""The daemon of a phone: adb's transport over TCP, and the ways in which a connection fails."""

import itertools
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from .stream import Stream, StreamClosed
from .wire import AUTH_TOKEN, MAX_PAYLOAD, VERSION, Counter, Packet, receive

Service = Callable[[Stream], None]


class Daemon:
    """Listens on a free port of this machine until ``close``.

    Args:
        banner: what the phone says it is
        service: what serves a stream that is opened by this name, on a thread of its own; None refuses it
    """

    def __init__(self, banner: str, service: Callable[[str], Service | None]):
        self._banner, self._service = banner, service
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._listener: socket.socket | None = None
        self._counter = Counter()
        self._mode = "device"
        self.port = 0
        self.reconnect()

    # --- What goes wrong ----------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Pulls the cable: connections end, and new ones are refused."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        for connection in connections:
            connection.close()

    @property
    def is_disconnected(self) -> bool:
        return self._listener is None

    def reconnect(self) -> None:
        """Plugs the cable in again. The adb server finds that out by itself, or by `adb connect`."""
        self._counter.left = None
        with self._lock:
            if self._listener:
                return
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=16)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def disconnect_after_bytes(self, nbytes: int) -> None:
        """Pulls the cable once so many bytes more have come in."""
        self._counter.left = nbytes

    def unauthorized(self) -> None:
        """From the next connection on, no key is good enough: nobody confirms the dialog on the phone. Ends those there are."""
        self._change("unauthorized")

    def offline(self) -> None:
        """From the next connection on, nothing is answered, as by a phone that hangs. Ends those there are.

        `adb devices` lists it as "offline": adb's server connects again by itself and waits for an answer. The first `adb connect`
        of a phone like that takes 10 seconds and says "failed to connect"; it is listed as "offline" too.
        """
        self._change("offline")

    def answer(self) -> None:
        """Ends `unauthorized` and `offline`, as when somebody confirms the dialog."""
        self._change("device")

    def _change(self, mode: str) -> None:
        self._mode = mode
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def close(self) -> None:
        self.disconnect()

    # --- Connections --------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:  # closed
                return
            connection = _Connection(peer, self._banner, self._service, self._mode, self._counter)
            with self._lock:
                if self._listener is not listener:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: "_Connection") -> None:
        connection.serve()
        with self._lock:
            self._connections.discard(connection)
        if self._counter.left == 0:
            self.disconnect()


class _Connection:
    def __init__(
        self,
        peer: socket.socket,
        banner: str,
        service: Callable[[str], Service | None],
        mode: str,
        counter: Counter,
    ):
        self._peer, self._banner, self._service, self._mode, self._counter = peer, banner, service, mode, counter
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._ids = itertools.count(1)
        self._limit = 4096

    def serve(self) -> None:
        try:
            while True:
                self._take(receive(self._peer, self._counter))
        except OSError:  # the connection went, and with it all of its streams
            pass
        finally:
            self.close()
            for stream in list(self._streams.values()):
                stream.closed()

    def close(self) -> None:
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()

    def _send(self, packet: Packet) -> None:
        with self._sending:
            self._peer.sendall(packet.encoded())

    def _take(self, packet: Packet) -> None:
        if self._mode == "offline":
            return
        if self._mode == "unauthorized":
            # A signature, or in the end the key to be shown in the dialog: the next token asks for another one, and nobody reads the dialog.
            if packet.command == b"CNXN" or (packet.command == b"AUTH" and packet.arg0 == 2):
                self._send(Packet(b"AUTH", AUTH_TOKEN, 0, os.urandom(20)))
            return
        if packet.command == b"CNXN":
            self._limit = min(packet.arg1, MAX_PAYLOAD)
            self._send(Packet(b"CNXN", VERSION, MAX_PAYLOAD, self._banner.encode()))
        elif packet.command == b"OPEN":
            self._open(packet.arg0, packet.data.rstrip(b"\0").decode(errors="surrogateescape"))
        elif stream := self._streams.get(packet.arg1):
            if packet.command == b"WRTE":
                stream.arrived(packet.data)
            elif packet.command == b"OKAY":
                stream.acknowledged()
            elif packet.command == b"CLSE":
                stream.closed()

    def _open(self, remote: int, name: str) -> None:
        service = self._service(name)
        if not service:
            self._send(Packet(b"CLSE", 0, remote))
            return
        stream = Stream(next(self._ids), remote, self._limit, self._send)
        self._streams[stream.local] = stream
        self._send(Packet(b"OKAY", stream.local, remote))
        threading.Thread(target=self._run, args=(service, stream), daemon=True).start()

    def _run(self, service: Service, stream: Stream) -> None:
        try:
            with suppress(StreamClosed, OSError):
                service(stream)
                stream.finish()
        finally:
            stream.closed()
            self._streams.pop(stream.local, None)
