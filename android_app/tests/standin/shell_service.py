"""The services that run a command: `shell,v2` with its packets, `shell` and `exec` with a bare stream."""

import os
import pty
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from . import shell
from .state import State
from .stream import Stream, StreamClosed

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
HEADER = struct.Struct("<BI")
CHUNK = 65536


class ShellService:
    """Runs a phone's commands, and ends those that are still there in the end."""

    def __init__(self, state: State):
        self._state = state
        self._running: set[subprocess.Popen[bytes]] = set()

    def of(self, name: str) -> Callable[[Stream], None] | None:
        """The service of a stream that is opened by this name."""
        kind, _, command = name.partition(":")
        service, *options = kind.split(",")
        if service == "exec":
            return lambda stream: self._bare(stream, command)
        if service != "shell":
            return None
        if "v2" not in options:
            return lambda stream: self._bare(stream, command)
        terminal = next((option[5:] for option in options if option.startswith("TERM=")), "dumb")
        typed = "pty" in options or ("raw" not in options and not command)
        return lambda stream: (self._on_terminal if typed else self._piped)(stream, command, terminal)

    def close(self) -> None:
        for process in list(self._running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    # --- Without packets ----------------------------------------------------------------------------------------------

    def _bare(self, stream: Stream, command: str) -> None:
        """As adbd does it: one socket for the three of them. When the stream goes, the command reads its end, and gets no signal:
        `adb exec-in` closes the stream when its input is over, and the command is to finish.
        """
        ours, its = socket.socketpair()
        with ours:
            with its:
                process = shell.start(self._state, command, stdin=its, stdout=its, stderr=its)
            self._running.add(process)
            threading.Thread(target=_feed, args=(stream, ours), daemon=True).start()
            with suppress(OSError):  # the stream went
                while data := ours.recv(CHUNK):
                    stream.write(data)
        process.wait()
        self._running.discard(process)

    # --- With packets -------------------------------------------------------------------------------------------------

    def _piped(self, stream: Stream, command: str, terminal: str) -> None:
        pipe = subprocess.PIPE
        process = shell.start(self._state, command, terminal, stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdin and process.stdout and process.stderr
        stdin = process.stdin

        def take(kind: int, data: bytes) -> None:
            if kind == STDIN:
                stdin.write(data)
                stdin.flush()
            elif kind == CLOSE_STDIN:
                stdin.close()

        outputs = [(STDOUT, process.stdout), (STDERR, process.stderr)]
        self._run(stream, process, take, outputs)

    def _on_terminal(self, stream: Stream, command: str, terminal: str) -> None:
        master, slave = pty.openpty()
        name = os.ttyname(slave)
        # The first terminal that a session's leader opens, by its name, is its own: Ctrl-C reaches its processes.
        opened = f"exec <{name} >{name} 2>&1\n"
        process = shell.start(
            self._state, opened + (command or "exec /bin/sh -i"), terminal, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

        def take(kind: int, data: bytes) -> None:
            os.write(master, data if kind == STDIN else b"\4" if kind == CLOSE_STDIN else b"")

        with open(master, "rb", buffering=0) as output:
            self._run(stream, process, take, [(STDOUT, output)])

    def _run(
        self,
        stream: Stream,
        process: "subprocess.Popen[bytes]",
        take: Callable[[int, bytes], None],
        outputs: list[tuple[int, IO[bytes]]],
    ) -> None:
        self._running.add(process)
        stream.on_close = lambda: _hang_up(process)
        if stream.is_closed:
            _hang_up(process)
        threading.Thread(target=_take_packets, args=(stream, take), daemon=True).start()
        pumps = [threading.Thread(target=_pump, args=(stream, kind, file), daemon=True) for kind, file in outputs]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        status = process.wait()
        self._running.discard(process)
        stream.on_close = lambda: None
        # Of a signal, adbd tells 128 and its number, as a shell does.
        stream.write(_packet(EXIT, bytes([status if status >= 0 else 128 - status])))


def _packet(kind: int, data: bytes) -> bytes:
    return HEADER.pack(kind, len(data)) + data


def _packets(stream: Stream) -> Iterator[tuple[int, bytes]]:
    waiting = b""
    while data := stream.read():
        waiting += data
        while len(waiting) >= HEADER.size:
            kind, length = HEADER.unpack_from(waiting)
            if len(waiting) < HEADER.size + length:
                break
            yield kind, waiting[HEADER.size : HEADER.size + length]
            waiting = waiting[HEADER.size + length :]


def _take_packets(stream: Stream, take: Callable[[int, bytes], None]) -> None:
    for kind, data in _packets(stream):
        with suppress(OSError, ValueError):  # the command reads no more: the rest is taken and dropped
            take(kind, data)


def _pump(stream: Stream, kind: int, file: IO[bytes]) -> None:
    with suppress(StreamClosed, OSError), file:  # a terminal's end is an error when its last process goes
        while data := os.read(file.fileno(), CHUNK):
            stream.write(_packet(kind, data))


def _feed(stream: Stream, peer: socket.socket) -> None:
    with suppress(OSError):
        while data := stream.read():
            peer.sendall(data)
    with suppress(OSError):
        peer.shutdown(socket.SHUT_WR)


def _hang_up(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGHUP)
