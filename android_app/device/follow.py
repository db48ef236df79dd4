"""A run on the phone, from its start to its end here: the log is followed, memory is sampled from outside, and what the run left is fetched.

The run is the phone's. It goes on when the connection is lost, when this program is, and when the person leaves; whoever comes back reads what
happened meanwhile from the phone's log and from the run's folder.
"""

import json
import queue
import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mesp.runtime.contract.run_files import CRASH, DEVICE, LOGCAT, NOT_UNDERSTOOD, OUTSIDE, REPORT
from mesp.runtime.errors import UsageError
from mesp.runtime.files import write_json
from mesp.runtime.training.interrupt import Interrupt

from . import app, dumpsys
from .adb import Device, ShellFailed
from .logcat import Line, Logcat
from .outside import Outside
from .phone import describe
from .reading import Unreadable
from .run_progress import Progress
from .transfer import pull_run
from .verdict import End, compare, end_of_process

FORMAT = 1
# What device.json says of a run before it has begun.
REQUEST = ("bundle", "data", "settings", "clock_ahead_seconds")
# Without a word from the app for so long, the run's folder is asked.
QUIET_SECONDS = 20.0
# The log's last lines may come after the process has gone.
LAST_WORDS_SECONDS = 1.5

_ENDS = ("end", "failed", "refused")


@dataclass
class Watch:
    """What is known of the run so far."""

    end: End | None = None
    started: bool = False
    pid: int | None = None
    others: list[Line] = field(default_factory=list)  # lines that are no events: of crashes, in any process
    notes: list[str] = field(default_factory=list)

    @property
    def crash(self) -> list[str]:
        """The lines that are of the app's crash: its own process's, and those of debuggerd's process that names it."""
        about = f">>> {app.PACKAGE} <<<"
        pids = {self.pid} | {line.pid for line in self.others if about in line.text}
        return [line.text for line in self.others if line.pid in pids]


class Follower:
    """Follows one run.

    Args:
        run: its name on the phone
        folder: where everything goes here
        since: seconds by the phone's clock; the log is read from then on
        sample_every: seconds between samples from outside, 0 for none
    """

    def __init__(self, device: Device, run: str, folder: Path, since: float, sample_every: float, console: Console):
        self._sample_every = sample_every
        self._device, self._run, self._folder, self._since, self._console = device, run, folder, since, console
        self._queue: queue.Queue[Line | Exception | None] = queue.Queue()
        self._progress = Progress(console)
        self._watch = Watch()
        self._before: set[str] = set()  # the lines of the log that are here already

    def follow(self) -> End:
        """Until the run's end, or until the person leaves it.

        Raises:
            Disconnected: the phone was lost and did not come back.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / LOGCAT).is_file():
            self._before = set((self._folder / LOGCAT).read_text(encoding="utf-8").splitlines())
        log = Logcat(self._device, self._since)
        reader = threading.Thread(target=self._read, args=(log,), name="logcat", daemon=True)
        self._device.tell = self._progress.say
        outside = Outside(
            self._device, self._folder / OUTSIDE, self._sample_every, lambda: self._queue.put(None), self._note
        )
        try:
            with self._progress, outside, (self._folder / LOGCAT).open("a", encoding="utf-8") as file:
                reader.start()
                end = self._until_end(file)
                if end.status == "failed":
                    self._last_words(file)  # the stack, after the reason
                return end
        finally:
            log.close()
            self._device.tell = lambda text: self._console.print(text, highlight=False, markup=False)

    @property
    def watch(self) -> Watch:
        return self._watch

    def _read(self, log: Logcat) -> None:
        try:
            for line in log:
                self._queue.put(line)
        except Exception as error:  # for the thread that waits, whatever it is
            self._queue.put(error)

    def _until_end(self, file: Any) -> End:
        heard = time.monotonic()
        with Interrupt() as interrupted:
            while not self._watch.end:
                if interrupted():
                    break
                try:
                    item = self._queue.get(timeout=0.2)
                except queue.Empty:
                    if time.monotonic() - heard > QUIET_SECONDS:
                        heard = time.monotonic()
                        self._look(file)
                    continue
                heard = time.monotonic()
                self._take(item, file)
        return self._watch.end or self._ask(file)

    def _take(self, item: Line | Exception | None, file: Any) -> None:
        if isinstance(item, Exception):
            raise item
        if item is None:
            self._gone(file)
            return
        if item.raw not in self._before:
            print(item.raw, file=file, flush=True)
        if item.event is None:
            self._watch.others.append(item)
        elif item.event.get("run", self._run) == self._run:
            self._event(item, item.event)

    def _event(self, line: Line, event: Mapping[str, Any]) -> None:
        self._watch.pid = line.pid
        self._watch.started |= line.name == "start"
        if line.name == "refused" and self._watch.started:
            return  # another start, or a command: this run was not refused
        self._progress.show(line.name, event)
        if line.name in _ENDS:
            self._watch.end = _end(line.name, event)

    def _look(self, file: Any) -> None:
        """What the log does not tell, because it lost it or there is nothing to tell: the end of the run, or of the process."""
        self._watch.end = self._end_in_folder()
        if not self._watch.end and self._device.patiently(lambda: app.process(self._device)) is None:
            self._gone(file)

    def _gone(self, file: Any) -> None:
        """The process has ended. Its last words may tell how; otherwise Android's record does."""
        self._last_words(file)
        self._watch.end = self._watch.end or self._end_in_folder() or self._record()

    def _last_words(self, file: Any) -> None:
        """Takes what the log still has to tell, until it has been quiet for a moment."""
        while True:
            try:
                item = self._queue.get(timeout=LAST_WORDS_SECONDS)
            except queue.Empty:
                return
            if item is not None:
                self._take(item, file)

    def _record(self) -> End:
        output = self._device.patiently(
            lambda: self._device.sections({"exits": f"dumpsys activity exit-info {app.PACKAGE}"})
        )
        try:
            exits = dumpsys.exits(output["exits"])
        except Unreadable as error:
            self._note(error)
            exits = []
        return end_of_process(self._watch.pid, exits, self._watch.crash)

    def _end_in_folder(self) -> End | None:
        """The end that report.json tells, if it was written since the run began; the log may have lost it."""
        report = shlex.quote(f"{app.RUNS}/{self._run}/{REPORT}")
        script = f'[ "$(stat -c %Y {report})" -ge {int(self._since)} ] && cat {report}'
        try:
            output = self._device.patiently(lambda: self._device.shell(script))
        except ShellFailed:
            return None
        report_json = json.loads(output)
        return End(report_json["status"], report_json.get("reason", ""))

    def _ask(self, file: Any) -> End:
        """Ctrl-C: the run is the phone's, so it is asked what becomes of it."""
        self._progress.pause()
        if not self._console.is_terminal:
            return End("detached", "interrupted here; the run goes on on the phone")
        try:
            answer = self._console.input(
                "Stop the run on the phone, with a checkpoint (s), leave it running (l), or watch on (Enter)? "
            )
        except (KeyboardInterrupt, EOFError, OSError):  # OSError: the terminal is gone
            answer = "l"
        self._progress.go_on()
        if answer.strip().lower().startswith("l"):
            return End("detached", "left running on the phone")
        if answer.strip().lower().startswith("s"):
            self._device.patiently(lambda: app.tell(self._device, "stop"))
            self._progress.say("The phone stops after this step")
        return self._until_end(file)

    def _note(self, error: Unreadable) -> None:
        """Output that was not understood is kept, to be looked at."""
        with (self._folder / NOT_UNDERSTOOD).open("a", encoding="utf-8") as file:
            print(f"$ {error.command}\n{error.text}", file=file)
        self._watch.notes.append(str(error))
        self._progress.say(f"{error} It is kept in {self._folder / NOT_UNDERSTOOD}")


def _end(name: str, event: Mapping[str, Any]) -> End:
    if name == "end":
        return End(str(event.get("status", "done")))
    return End(name, str(event.get("reason", "")))


def known_of(folder: Path) -> dict[str, Any]:
    """What device.json says of the request, for a run that is gone on with or followed again; nothing if it is not there."""
    file = folder / DEVICE
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: before[name] for name in REQUEST if name in before}


def phone_seconds(device: Device) -> tuple[float, float]:
    """The phone's clock, and by how much it is ahead of this one's."""
    before = time.time()
    now = app.epoch_seconds(device.shell(app.CLOCK))
    return now, now - (before + time.time()) / 2


def left_running(device: Device, run: str) -> dict[str, Any]:
    """device.json's beginning, for a run that nobody follows."""
    phone, version = describe(device).to_json(), device.adb.version()
    return {"format": FORMAT, "run": run, "phone": phone, "adb": version, "end": {"status": "running"}}


def follow_and_fetch(
    device: Device,
    run: str,
    folder: Path,
    since: float,
    sample_every: float,
    about: dict[str, Any],
    console: Console,
) -> End:
    """Follows a run, fetches what it left, and writes device.json.

    Args:
        about: what device.json says besides, such as the request
    """
    follower = Follower(device, run, folder, since, sample_every, console)
    known = {**known_of(folder), **about, **left_running(device, run)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / DEVICE, known)
    end = follower.follow()
    watch = follower.watch
    if watch.crash:
        (folder / CRASH).write_text("\n".join(watch.crash) + "\n", encoding="utf-8")
    if end.status not in ("refused", "detached"):
        try:
            pull_run(device, run, folder)
        except UsageError:
            console.print(f"The run left nothing on {device.serial}", highlight=False, markup=False)
    found = {
        "end": {"status": end.status, "reason": end.reason},
        "disconnections": device.disconnections,
        "notes": watch.notes,
        "memory": compare(folder, known["phone"]["memory_bytes"]),
    }
    write_json(folder / DEVICE, {**known, **found})
    return end
