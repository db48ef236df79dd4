"""The app's process as the phone sees it: how it is told things, how it waits, and how it dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import exits, log
from .state import PACKAGE, State
from .words import text

ACTION = f"{PACKAGE}.action."
SECONDS = 10
PAUSES = ("user", "hot", "not_charging", "low_battery")  # in the order of the app's enumeration


class App:
    """The process of the app, if there is one. Its pid is the trainer's own, so that what /proc says of it is real."""

    def __init__(self, state: State):
        self._state = state

    @property
    def pid(self) -> int | None:
        app = self._state.read()["app"]
        return app["pid"] if app else None

    @property
    def run(self) -> str | None:
        """The name of the run that is under way."""
        app = self._state.read()["app"]
        return app["run"] if app else None

    # --- What the service is told (TrainService.kt) -------------------------------------------------------------------

    def command(self, intent: Mapping[str, Any]) -> None:
        """An intent of am: {"action", "extras"}."""
        action = str(intent["action"] or "")
        name = action.removeprefix(ACTION) if action.startswith(ACTION) else ""
        if name == "TRAIN":
            self._train(intent["extras"])
            return
        app = self._state.read()["app"]
        if name == "PAUSE":
            self.pause("user", True)
        elif name == "CONTINUE":
            self.pause("user", False)
        elif name == "STOP":
            self.stop()
        elif name != "CHECKPOINT":  # a trainer of another process cannot be asked for one
            log.error(self._state, app["pid"] if app else 0, "refused", None, text("unknown_action", action or "null"))
        if not app:
            log.error(self._state, 0, "refused", None, text("no_run"))

    def _train(self, extras: Mapping[str, Any]) -> None:
        """Starts a process that outlives this one, and returns when the trainer has started or was refused."""
        reader, writer = os.pipe()
        command = [sys.executable, "-S", "-E", str(Path(__file__).with_name("app_process.py")), str(self._state.root)]
        subprocess.Popen(
            [*command, str(writer), json.dumps(extras)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(self._state.root / "state" / "app-process.txt", "ab"),  # noqa: SIM115
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        with open(reader, "rb") as said:
            said.read()

    def stop(self) -> None:
        """Asks the run to end with a checkpoint, also while it waits."""
        with self._state.change() as now:
            if not now["app"]:
                return
            now["app"]["stopping"] = True
        _signal(now["app"]["pid"], signal.SIGTERM)

    # --- Pauses (Gate.kt) ---------------------------------------------------------------------------------------------

    def pause(self, reason: str, on: bool) -> None:
        """Adds or takes away a reason to wait: one of PAUSES. Returns when the run waits, or goes on.

        The events are those of the app. But it waits between two sequences, after a checkpoint, and this one where it stands:
        a trainer's sampler of memory takes a long pause for a gap in its samples.
        """
        app = self.set_pause(reason, on)
        deadline = time.monotonic() + SECONDS
        while app and (now := self._state.read()["app"]) and now["pid"] == app["pid"]:
            if now["waiting"] == bool(now["pauses"]) or now["stopping"] or time.monotonic() > deadline:
                return
            time.sleep(0.01)

    def set_pause(self, reason: str, on: bool) -> dict[str, Any] | None:
        """The same, without waiting for it. Returns what is known of the process, if there is one and this was new to it."""
        with self._state.change() as now:
            app: dict[str, Any] | None = now["app"]
            if not app or (reason in app["pauses"]) == on:
                return None
            chosen = {*app["pauses"], reason} if on else {*app["pauses"]} - {reason}
            app["pauses"] = [name for name in PAUSES if name in chosen]
        self.tell_pauses(app)
        return app

    def tell_pauses(self, app: Mapping[str, Any]) -> None:
        """The event of TrainService.pausesChanged."""
        name = "paused" if app["waiting"] else "pausing" if app["pauses"] else "going_on"
        log.event(self._state, app["pid"], name, app["run"], reasons=app["pauses"])

    def low_memory(self) -> None:
        """Android tells the app that memory is short."""
        if pid := self.pid:
            log.event(self._state, pid, "low_memory", self.run)

    # --- Ends ---------------------------------------------------------------------------------------------------------

    def kill(self, reason: str = "LOW_MEMORY", **fields: Any) -> None:
        """Ends the process at once, and returns when Android has noted why.

        Args:
            reason: of exits.REASONS
            fields: more of the exit: subreason, status, description
        """
        if reason not in exits.REASONS:
            raise ValueError(f"{reason} is none of {', '.join(exits.REASONS)}")
        pid = self.pid
        if not pid:
            return
        self._state.set(ending={"reason": reason, **fields})
        _signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while self.pid == pid:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} was killed, and its end not noted")
            time.sleep(0.01)

    def force_stop(self) -> None:
        self.kill("USER_REQUESTED", subreason=21, description="stop org.mesp.app due to from pid 4242")

    def crash(self, message: str = "Attempt to invoke virtual method 'int java.lang.String.length()'") -> None:
        """An exception that nothing catches: in the log's crash buffer, and nowhere else, as Android writes it."""
        lines = (
            "FATAL EXCEPTION: training",
            f"Process: {PACKAGE}, PID: {self.pid}",
            f"java.lang.NullPointerException: {message}",
            f"\tat {PACKAGE}.service.TrainingJob.train(TrainingJob.kt:64)",
            f"\tat {PACKAGE}.service.TrainingJob.start$lambda$0(TrainingJob.kt:42)",
            "\tat java.lang.Thread.run(Thread.java:1012)",
        )
        if pid := self.pid:
            log.write(self._state, pid, "E", "AndroidRuntime", "\n".join(lines), "crash")
            self.kill("CRASH", description="crash")

    def crash_native(self) -> None:
        """A signal in native code, as crash_dump tells it, and the tombstone's file, which adb's user may not read on most phones."""
        pid = self.pid
        lines = (
            "*** *** *** *** *** *** *** *** *** *** *** *** *** *** *** ***",
            "Build fingerprint: '" + self._state.properties().get("ro.build.fingerprint", "") + "'",
            "ABI: 'arm64'",
            f"pid: {pid}, tid: {pid}, name: training  >>> {PACKAGE} <<<",
            "signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x0000000000000010",
            "backtrace:",
            "      #00 pc 0000000000412c38  /data/app/org.mesp.app/lib/arm64/libexecutorch.so",
        )
        if pid:
            log.write(self._state, pid, "F", "DEBUG", "\n".join(lines), "crash")
            (self._state.root / "data" / "tombstones" / "tombstone_00").write_text("\n".join(lines) + "\n")
            self.kill("CRASH_NATIVE", status=11, description="crash")


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
