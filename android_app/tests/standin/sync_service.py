"""The service behind `adb push`, `adb pull` and `adb ls`, as AOSP's SYNC.TXT and file_sync_service.cpp have it; versions 1 and, of stat, 2."""

import errno
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import storage
from .paths import on_this_machine
from .state import State
from .stream import Stream, StreamClosed

CHUNK = 64 * 1024
PARTITIONED_SDK = 30  # from Android 11 on an app's folder in the shared storage is owned by others than adb's user


class SyncService:
    """Serves a stream until QUIT, or a failed SEND or RECV: adbd ends the session then too."""

    def __init__(self, state: State):
        self._state = state

    def of(self, name: str) -> Callable[[Stream], None] | None:
        return self._serve if name == "sync:" else None

    def _serve(self, stream: Stream) -> None:
        session = _Session(stream)
        requests = {
            b"STAT": self._stat,
            b"STA2": lambda session, path: self._stat2(session, path, b"STA2", follow=True),
            b"LST2": lambda session, path: self._stat2(session, path, b"LST2", follow=False),
            b"LIST": self._list,
            b"RECV": self._receive,
        }
        while True:
            kind, length = session.header()
            if kind == b"QUIT":
                return
            text = session.exactly(length).decode(errors="surrogateescape")
            try:
                if kind == b"SEND":
                    path, _, mode = text.rpartition(",")
                    self._send(session, self._place(path), int(mode))
                elif kind in requests:
                    requests[kind](session, self._place(text))
                else:
                    raise _Failed(f"unknown command {kind!r}")
            except _Failed as failed:
                session.fail(str(failed))
                if kind == b"SEND":
                    session.drop_data()
                return

    def _place(self, path: str) -> Path:
        return Path(on_this_machine(path, self._state.root))

    # --- What there is ------------------------------------------------------------------------------------------------

    def _stat(self, session: "_Session", path: Path) -> None:
        try:
            found = path.lstat()
            session.reply(b"STAT", "<III", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
        except OSError:
            session.reply(b"STAT", "<III", 0, 0, 0)

    def _stat2(self, session: "_Session", path: Path, kind: bytes, follow: bool) -> None:
        form = "<IQQIIIIQqqq"
        try:
            at = path.stat() if follow else path.lstat()
        except OSError as error:
            session.reply(kind, form, error.errno or errno.EIO, *[0] * 10)
            return
        who = (at.st_mode, at.st_nlink, at.st_uid, at.st_gid)
        when = (int(at.st_atime), int(at.st_mtime), int(at.st_ctime))
        session.reply(kind, form, 0, at.st_dev, at.st_ino, *who, at.st_size, *when)

    def _list(self, session: "_Session", path: Path) -> None:
        with suppress(OSError):  # what cannot be listed is empty
            for item in sorted(path.iterdir()):
                found, name = item.lstat(), os.fsencode(item.name)
                size = found.st_size & 0xFFFFFFFF
                session.reply(b"DENT", "<IIII", found.st_mode, size, int(found.st_mtime), len(name), more=name)
        session.reply(b"DONE", "<IIII", 0, 0, 0, 0)

    # --- Files --------------------------------------------------------------------------------------------------------

    def _receive(self, session: "_Session", path: Path) -> None:
        try:
            with open(path, "rb") as file:
                while data := file.read(CHUNK):
                    session.reply(b"DATA", "<I", len(data), more=data)
        except StreamClosed:
            raise
        except OSError as error:
            raise _Failed("open failed", error.errno) from error
        session.reply(b"DONE", "<I", 0)

    def _send(self, session: "_Session", path: Path, mode: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _Failed("secure_mkdirs failed", error.errno) from error
        try:
            path.unlink(missing_ok=True)
            file = open(path, "wb")  # noqa: SIM115
        except OSError as error:
            raise _Failed("couldn't create file", error.errno) from error
        try:
            with file:
                if self._is_an_apps(path):
                    raise _Failed("fchown failed", errno.EPERM)
                while True:
                    kind, value = session.header()
                    if kind != b"DATA":
                        break
                    storage.write(file, session.exactly(value), path, self._state)
            if kind != b"DONE":
                raise _Failed("invalid data message")
            os.utime(path, (value, value))
            path.chmod(mode & 0o777)
        except StreamClosed:
            path.unlink(missing_ok=True)  # adbd leaves no half of a file behind
            raise
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _Failed("write failed", error.errno) from error
        except _Failed:
            path.unlink(missing_ok=True)
            raise
        session.reply(b"OKAY", "<I", 0)

    def _is_an_apps(self, path: Path) -> bool:
        if int(self._state.properties().get("ro.build.version.sdk", "0")) < PARTITIONED_SDK:
            return False
        places = [self._state.root / "sdcard" / "Android" / kind for kind in ("data", "obb")]
        return any(path.is_relative_to(place) for place in places)


class _Failed(Exception):
    """What the client is told; it puts "remote" before it."""

    def __init__(self, what: str, number: int | None = None):
        super().__init__(f"{what}: {os.strerror(number)}" if number else what)


class _Session:
    def __init__(self, stream: Stream):
        self._stream = stream
        self._waiting = b""

    def header(self) -> tuple[bytes, int]:
        data = self.exactly(8)
        return data[:4], int.from_bytes(data[4:], "little")

    def exactly(self, nbytes: int) -> bytes:
        parts = [self._waiting]
        have = len(self._waiting)
        while have < nbytes:
            data = self._stream.read()
            if not data:
                raise StreamClosed
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._waiting = whole[nbytes:]
        return whole[:nbytes]

    def reply(self, kind: bytes, form: str, *values: int, more: bytes = b"") -> None:
        self._stream.write(kind + struct.pack(form, *values) + more)

    def fail(self, reason: str) -> None:
        self.reply(b"FAIL", "<I", len(reason.encode()), more=reason.encode())

    def drop_data(self) -> None:
        """What the client still sends, until it hears of the failure."""
        kind, length = self.header()
        while kind == b"DATA":
            self.exactly(length)
            kind, length = self.header()
