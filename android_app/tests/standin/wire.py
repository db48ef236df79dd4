"""Packets of the adb transport, as AOSP's packages/modules/adb/protocol.txt describes them."""

import socket
import struct
from dataclasses import dataclass

VERSION = 0x01000001  # from this one on checksums are not looked at
MAX_PAYLOAD = 1024 * 1024
HEADER = struct.Struct("<4s5I")
AUTH_TOKEN = 1


@dataclass(frozen=True)
class Packet:
    """``command`` is the four letters that the protocol's numbers spell: CNXN, AUTH, OPEN, OKAY, WRTE, CLSE, STLS."""

    command: bytes
    arg0: int = 0
    arg1: int = 0
    data: bytes = b""

    def encoded(self) -> bytes:
        magic = int.from_bytes(self.command, "little") ^ 0xFFFFFFFF
        checksum = sum(self.data) & 0xFFFFFFFF if self.command == b"CNXN" else 0  # the other's version is not known yet
        return HEADER.pack(self.command, self.arg0, self.arg1, len(self.data), checksum, magic) + self.data


class Counter:
    """Bytes that may still come in before the cable is pulled."""

    def __init__(self) -> None:
        self.left: int | None = None

    def take(self, nbytes: int) -> int:
        """How many of ``nbytes`` do come in."""
        if self.left is None:
            return nbytes
        taken = min(nbytes, self.left)
        self.left -= taken
        return taken


def receive(connection: socket.socket, counter: Counter) -> Packet:
    """The next packet.

    Raises:
        ConnectionError: the connection ended, or its bytes ran out.
    """
    command, arg0, arg1, length, _, magic = HEADER.unpack(_exactly(connection, HEADER.size, counter))
    if int.from_bytes(command, "little") ^ 0xFFFFFFFF != magic or length > MAX_PAYLOAD:
        raise ConnectionError(f"no packet: {command!r} with {length} bytes")
    return Packet(command, arg0, arg1, _exactly(connection, length, counter))


def _exactly(connection: socket.socket, nbytes: int, counter: Counter) -> bytes:
    whole = bytearray()
    while len(whole) < nbytes:
        part = connection.recv(min(nbytes - len(whole), 65536))
        if not part:
            raise ConnectionError("the connection ended")
        if counter.take(len(part)) < len(part):
            raise ConnectionError("the bytes ran out")
        whole += part
    return bytes(whole)
