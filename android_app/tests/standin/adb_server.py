"""An adb server of a test's own, so that the machine's, with its devices and its keys, is left alone."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .phone import Phone

SECONDS = 30


class AdbServer:
    """Runs from ``with`` to its end. ``environment`` is what an adb client has to be started with to talk to it.

    Of adb 29.0.6, and a phone over TCP that goes away: `adb devices` lists it as "offline". The server connects again at once, and if
    that fails, every 10 seconds. After about a minute it gives the phone up: it is not listed any more, and comes back by `adb connect`
    alone. Until then `adb connect` says "failed to connect" or, once the phone can be reached, "already connected", and does nothing;
    `adb disconnect` and `adb connect` do not wait for the 10 seconds.

    Args:
        home: an empty folder, for adb's keys and its log

    Raises:
        RuntimeError: there is no adb.
    """

    def __init__(self, home: Path):
        program = shutil.which("adb")
        if not program:
            raise RuntimeError(
                "adb is needed and not there. As root: make android-setup. On Debian: apt-get install adb"
            )
        self.program = program
        self.port = _free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ADB_", "ANDROID_"))},
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "HOME": str(home),
            "TMPDIR": str(home),
            # The server looks for emulators on the odd ports from 5555 to this one: for none.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
        }

    def __enter__(self) -> "AdbServer":
        self.run("start-server", check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run("kill-server")

    def run(self, *words: str | Path, check: bool = False, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Runs the client to its end."""
        options = {"text": True, "capture_output": True, "timeout": SECONDS, **options}
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([self.program, *words], env=self.environment, check=check, **options)

    def start(self, *words: str | Path, **options: Any) -> "subprocess.Popen[str]":
        """Starts the client, as for `adb logcat`; whoever starts it ends it."""
        options = {"text": True, "stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen([self.program, *words], env=self.environment, **options)

    def connect(self, phone: Phone) -> str:
        """What `adb connect` says; also for a phone that was unplugged and is there again."""
        return self.run("connect", phone.serial).stdout.strip()

    def devices(self) -> dict[str, str]:
        """The states that `adb devices` lists, by serial."""
        lines: Sequence[str] = self.run("devices").stdout.splitlines()[1:]
        return dict(line.split("\t") for line in lines if "\t" in line)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
