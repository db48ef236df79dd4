"""The platform's adb client, as a program: commands on a phone, files to and from it, and what to do when the phone is not there."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from mesp.runtime.errors import MespError, UsageError

from .listing import NO_DEVICE, Listed, Service, devices, services
from .reading import Unreadable

T = TypeVar("T")

# What adb says when the phone, or the way to it, is gone.
_LOST = re.compile(
    r"device '.*' not found|device offline|no devices/emulators found|error: closed|protocol fault|connection reset|"
    r"device still (authorizing|connecting)|device unauthorized|failed to (read|write|send|get) |couldn't read from device|"
    r"read failed|write failed|\bEOF\b|transport .*(closed|error)|cannot connect to daemon|broken pipe",
    re.IGNORECASE,
)
_OTHER_SERVER = re.compile(r"adb server version \((\d+)\) doesn't match this client \((\d+)\)")
_END = "mesp-end"
_PART = "mesp-part"
# Of what loses the connection each time although the phone is there.
_TRIES = 5
# In the place of a serial number where the maker gave none.
_NO_NUMBER = ("", "unknown", "0", "0123456789abcdef", "1234567890abcdef")


class Disconnected(MespError):
    """The phone does not answer any more."""


class ShellFailed(MespError):
    """A command on the phone ended with another status than 0; ``output`` is all that it printed."""

    def __init__(self, phone: str, command: str, status: int, output: str):
        self.command, self.status, self.output = command, status, output.strip()
        said = self.output.rstrip(".") or "nothing"
        super().__init__(f"{phone} could not do: {command} (status {status}). It said: {said}.")


class Adb:
    """The client. What it says of replacing a server of another version goes to ``tell``."""

    def __init__(self, program: str, tell: Callable[[str], None] = lambda text: None):
        self.program, self._tell = program, tell

    @classmethod
    def find(cls, tell: Callable[[str], None] = lambda text: None) -> "Adb":
        """The adb that is named by ADB, or on the PATH, or of the SDK that ANDROID_HOME names.

        Raises:
            UsageError: there is none.
        """
        named = os.environ.get("ADB")
        if named and not shutil.which(named):
            raise UsageError(f"ADB is {named}, which is not a program. Set it to the path of adb, or unset it.")
        sdk = os.environ.get("ANDROID_HOME") or os.environ.get("ANDROID_SDK_ROOT")
        candidates = (named, "adb", str(Path(sdk, "platform-tools", "adb")) if sdk else None)
        for candidate in candidates:
            if candidate and (program := shutil.which(candidate)):
                return cls(program, tell)
        raise UsageError(
            "adb is needed and not there. On Debian: apt-get install adb. Elsewhere install Android's platform tools, and put adb on the PATH, "
            "or set ADB to its path."
        )

    def version(self) -> str:
        """Such as ``1.0.41``."""
        return self.run("version", seconds=30).stdout.decode(errors="replace").split("\n")[0].rsplit(" ", 1)[-1].strip()

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Runs adb to its end.

        Raises:
            Disconnected: no answer in time.
        """
        command = (self.program, *words)  # in a session of its own: a Ctrl-C is for the person's program
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, start_new_session=True
            )
        except subprocess.TimeoutExpired:
            raise Disconnected(f"adb {' '.join(words[:4])} … got no answer in {seconds:.0f} s.") from None
        if found := _OTHER_SERVER.search(done.stderr.decode(errors="replace")):
            self._tell(
                f"The adb server was of another version ({found[1]}) than this adb ({found[2]}, {self.program}), and was replaced. "
                "Two tools with adbs of their own do so in turn, and cut each other off: let both use one, by ADB or the PATH."
            )
        return done

    def listed(self) -> list[Listed]:
        """What is connected, ready or not.

        Raises:
            MespError: the server does not start.
        """
        done = self.run("devices", seconds=60)
        if done.returncode:
            raise MespError(f"adb devices failed: {_message(done)}. Try: adb kill-server")
        return devices(done.stdout.decode(errors="replace"))

    def announced(self) -> list[Service]:
        """The phones that say on this network where they can be connected to; none for an adb of before 31, which does not listen."""
        return services(self.run("mdns", "services", seconds=15).stdout.decode(errors="replace"))

    def phones(self) -> list[Listed]:
        """What is connected, each phone once: one that is connected by a cable and over the network is listed twice by adb."""
        listed = self.listed()
        if sum(entry.ready for entry in listed) < 2:
            return listed
        found: dict[tuple[str, ...], Listed] = {}
        for entry in sorted(listed, key=lambda entry: entry.way):
            found.setdefault(self._who(entry), entry)
        return [entry for entry in listed if entry in found.values()]

    def _who(self, entry: Listed) -> tuple[str, ...]:
        """What tells one phone from another: its own number, and its kernel's of this start. What it is called by adb, if it has no number."""
        device = Device(self, entry.serial)
        try:
            own = device.own_serial() if entry.ready else ""
            started = device.shell("cat /proc/sys/kernel/random/boot_id 2>/dev/null || true", seconds=10) if own else ""
        except (Disconnected, ShellFailed):
            own = started = ""
        return (own, started) if own else (entry.serial,)

    def choose(self, serial: str | None = None) -> "Device":
        """The device of this serial, or of ANDROID_SERIAL, or the only one.

        Args:
            serial: as adb lists it, or the phone's own, whatever way it is connected

        Raises:
            UsageError: none, several, or one that is not ready; says what to do.
        """
        serial = serial or os.environ.get("ANDROID_SERIAL")
        device = Device(self, (self._named(serial) if serial else self._only()).serial)
        device.know_again()
        return device

    def _named(self, serial: str) -> Listed:
        listed = self.listed()
        if not listed:
            raise UsageError(NO_DEVICE)
        chosen = [entry for entry in listed if entry.serial == serial]
        ready = sorted((entry for entry in listed if entry.ready), key=lambda entry: entry.way)
        chosen = chosen or [entry for entry in ready if Device(self, entry.serial).own_serial() == serial][:1]
        if not chosen:
            names = ", ".join(entry.serial for entry in listed)
            port = " A phone's port changes each time that wireless debugging is switched on." if ":" in serial else ""
            raise UsageError(f"There is no device {serial}; there are {names}.{port}")
        return _ready(chosen[0])

    def _only(self) -> Listed:
        listed = self.phones()
        if not listed:
            raise UsageError(NO_DEVICE)
        chosen = [entry for entry in listed if entry.ready] or listed
        if len(chosen) > 1:
            names = " or --serial ".join(shlex.quote(entry.serial) for entry in chosen)
            raise UsageError(f"{len(chosen)} devices are connected. Choose one: --serial {names}")
        return _ready(chosen[0])


def _ready(entry: Listed) -> Listed:
    if not entry.ready:
        raise UsageError(f"{entry.serial} is {entry.state}: {entry.what_to_do}.")
    return entry


class Device:
    """A phone that is connected.

    Args:
        patience_seconds: how long a phone that was lost is waited for
        tell: told of a lost and a found connection
    """

    def __init__(self, adb: Adb, serial: str, patience_seconds: float = 300, tell: Callable[[str], None] | None = None):
        self.adb, self.serial, self.patience_seconds = adb, serial, patience_seconds
        self.tell: Callable[[str], None] = tell or (lambda text: None)
        self.disconnections = 0
        self._own = ""
        self._reconnecting = threading.Lock()

    def _run(self, *words: str, seconds: float) -> subprocess.CompletedProcess[bytes]:
        return self.adb.run("-s", self.serial, *words, seconds=seconds)

    def shell(self, script: str, seconds: float = 60) -> str:
        """What a script of the phone's shell prints.

        adb's own status does not tell a lost connection from a command that failed, so the script's end is marked.

        Raises:
            ShellFailed: the script's status is not 0.
            Disconnected: the phone was lost before the end.
        """
        done = self._run("shell", f"( {script}\n) </dev/null; echo {_END} $?", seconds=seconds)
        text, mark, status = done.stdout.decode(errors="replace").rpartition(f"{_END} ")
        if not mark or not status.strip().isdigit():
            raise Disconnected(f"{self.serial} is not connected any more: {_message(done)}.")
        if int(status):
            errors = done.stderr.decode(errors="replace")
            raise ShellFailed(self.serial, script.strip().split("\n")[0], int(status), text + errors)
        return text

    def sections(self, commands: Mapping[str, str], seconds: float = 60) -> dict[str, str]:
        """What several commands print, errors too, in one call; none of them needs to succeed.

        Raises:
            Unreadable: the shell did not print the marks between them.
        """
        marked = "\n".join(f"echo; echo {_PART} {name}\n{{ {command}\n}} 2>&1" for name, command in commands.items())
        output = self.shell(f"{marked}\ntrue", seconds)
        parts = output.split(f"\n{_PART} ")[1:]
        found = {name: text for name, _, text in (part.partition("\n") for part in parts)}
        if found.keys() != commands.keys():
            raise Unreadable(next(iter(commands.values())), output, f"{len(commands)} parts, each after {_PART}")
        return found

    def follow(self, script: str) -> subprocess.Popen[str]:
        """A script whose output is read while it runs; it ends when the connection does."""
        words = (self.adb.program, "-s", self.serial, "shell", script)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
        )  # fmt: skip

    def push(self, file: Path, target: str, seconds: float = 600) -> None:
        """Sends a file to a place where the shell may write.

        Raises:
            Disconnected, MespError: the connection, or the phone's storage.
        """
        self._check(
            self._run("push", str(file), target, seconds=seconds),
            f"could not take {target}",
            f"the storage of {self.serial}",
        )

    def pull(self, source: str, file: Path, seconds: float = 600) -> None:
        """Fetches a file.

        Raises:
            Disconnected, MespError: the connection, or a file that is not there.
        """
        self._check(
            self._run("pull", source, str(file), seconds=seconds), f"could not give {source}", "this computer's storage"
        )

    def install(self, apk: Path, seconds: float = 300) -> subprocess.CompletedProcess[bytes]:
        """``adb install``, over what is there, with its data kept."""
        return self._run("install", "-r", str(apk), seconds=seconds)

    def _check(self, done: subprocess.CompletedProcess[bytes], what: str, storage: str) -> None:
        if done.returncode == 0:
            return
        output = _message(done)
        if "No space left" in output:
            raise MespError(
                f"No space is left in {storage}: {self.serial} {what}. Free some, and run the same command again: it goes on from there."
            )
        if _LOST.search(output):
            raise Disconnected(f"{self.serial} is not connected any more: {output}.")
        raise MespError(f"{self.serial} {what}: {output}.")

    def patiently(self, action: Callable[[], T]) -> T:
        """Does something that may be done twice, again after each lost connection.

        Raises:
            Disconnected: the phone did not come back, or is lost each time that this is done.
        """
        for _ in range(_TRIES - 1):
            try:
                return action()
            except Disconnected as lost:
                self.reconnect(lost)
        return action()

    def reconnect(self, lost: Disconnected) -> None:
        """Waits until the phone answers again. Several threads may: one waits, and the others find the phone there.

        Raises:
            Disconnected: it did not within ``patience_seconds``.
        """
        with self._reconnecting:
            if self._answers():
                return
            self.disconnections += 1
            before = self.serial
            self.tell(f"{lost} Waiting for it, {self.patience_seconds:.0f} s at most")
            until = time.monotonic() + self.patience_seconds
            while time.monotonic() < until:
                with contextlib.suppress(MespError):
                    self._find_again()
                if self._answers():
                    self.tell(f"{before} is back" + (f", as {self.serial}" if self.serial != before else ""))
                    return
                time.sleep(0.5)
        on_network = Listed(self.serial, "").on_network
        again = f" (adb connect {self.serial})" if on_network else ""
        port = " Its port is another one if wireless debugging was switched off." if on_network else ""
        raise Disconnected(
            f"{self.serial} was lost and did not come back in {self.patience_seconds:.0f} s. What it had begun goes on there. "
            f"When it is connected again{again}, run the same command again; a run is seen again by: mesp device status RUN --watch.{port}"
        ) from lost

    def _find_again(self) -> None:
        """Looks for the phone where it was, then by its own number: at another port, under another name, or on a cable.

        A phone on a cable the server finds by itself. One on the network it tries rarely, and gives up after a minute; and "connect" alone
        does nothing to what it takes for connected.
        """
        if Listed(self.serial, "").has_address:
            self.adb.run("disconnect", self.serial, seconds=10)
            self.adb.run("connect", self.serial, seconds=15)
            if self._answers():
                return
        if not self._own:
            return
        for service in self.adb.announced():
            if service.is_of(self._own):
                self.adb.run("connect", service.address, seconds=15)
        for entry in sorted(self.adb.listed(), key=lambda entry: entry.way):
            if entry.ready and entry.serial != self.serial and Device(self.adb, entry.serial).own_serial() == self._own:
                self.serial = entry.serial
                return

    def know_again(self) -> None:
        """Asks the phone for its own number, to know it again by if it is lost."""
        self._own = self.own_serial()

    @property
    def lasting_name(self) -> str:
        """What it can be chosen by later too: its own number, as a port may be another one by then; else what adb calls it now."""
        return self._own or self.serial

    def own_serial(self) -> str:
        """The phone's own number, the same whatever way it is connected; empty for one that others have too.

        Raises:
            Disconnected: the phone was lost.
        """
        entry = Listed(self.serial, "")
        own = self.shell("getprop ro.serialno", seconds=10).strip() if entry.on_network else self.serial
        return "" if own.lower() in _NO_NUMBER or own.startswith(("EMULATOR", "emulator-")) else own

    def _answers(self) -> bool:
        try:
            self.shell("true", seconds=10)
        except Disconnected:
            return False
        return True


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    """What adb itself said, its last words on one line."""
    text = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("* daemon")]
    return "; ".join(lines[-3:]).removeprefix("error: ").removeprefix("adb: ").rstrip(".") or "it said nothing"
