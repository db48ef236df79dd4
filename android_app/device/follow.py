"""A run on the phone, from its start to its end here: it is followed, memory is sampled from outside, and what the run left is fetched.

The run is the phone's. It goes on when the connection is lost, when this program is, and when the person leaves; whoever comes back reads what
happened meanwhile from the phone's log and from the run's folder. The log tells more, and at once; where it is silent, the folder is looked at.
"""

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mesp.runtime.contract.run_files import CRASH, DEVICE, LOGCAT, NOT_UNDERSTOOD, OUTSIDE
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import read_json_object, write_json
from mesp.runtime.training.interrupt import Interrupt

from . import app, dumpsys
from .adb import Device, Disconnected, ShellFailed
from .logcat import Line, Logcat, since_forever
from .outside import Outside
from .phone import describe
from .reading import Unreadable
from .run_files import Look, RunFiles
from .run_progress import Progress
from .transfer import pull_run
from .verdict import End, compare, end_of_process

FORMAT = 1
# What device.json says of a run before it has begun.
REQUEST = ("bundle", "data", "settings", "clock_ahead_seconds")
# Without a word from the app for so long, the run's folder is looked at: at first, when its start is to be told; and later, in a long step.
START_SECONDS, QUIET_SECONDS = 10.0, 20.0
# Where the log is silent, the folder is looked at so often.
LOOK_SECONDS = 3.0
# Between two looks at the clock.
POLL_SECONDS = 0.2
# So many looks in a row without a run, or without an answer, are believed.
BELIEVED = 3
# The log's last lines may come after the process has gone.
LAST_WORDS_SECONDS = 1.5

_ENDS = ("end", "failed", "refused")
_SILENT = (
    "{serial} does not tell what the app says in its log; the run is followed by its files, which do not tell of pauses. To have the log too: "
    "Developer options, Logger buffer sizes, 256K or more; on a Huawei or Honor dial *#*#2846579#*#*, Background settings, Log settings; "
    "on an Oppo, Realme, Vivo or Meizu allow it under Developer options"
)

_UNSEEN = (
    "the app did not start the run, and its log does not say why: open the app on {serial}, which shows the reason"
)


@dataclass(frozen=True)
class Beginning:
    """From where a run is followed.

    Args:
        log: seconds by the phone's clock; the log is read from then on
        report: a report.json that was written before belongs to an earlier start
        in_log: whether the log has, or is about to have, the line of its start
    """

    log: float
    report: float
    in_log: bool


@dataclass
class Watch:
    """What is known of the run so far."""

    end: End | None = None
    started: bool = False  # the log has the line of its start
    heard: bool = False  # or any other of it
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
        since: where its log and its report begin
        sample_every: seconds between samples from outside, 0 for none
    """

    def __init__(self, device: Device, run: str, folder: Path, since: Beginning, sample_every: float, console: Console):
        self._device, self._run, self._folder, self._since, self._console = device, run, folder, since, console
        self._files = RunFiles(device, run, since.report)
        self._by_files = not since.in_log
        self._outside = Outside(device, folder / OUTSIDE, sample_every, lambda: self._queue.put(None), self._note)
        self._told: dict[str, int] = {}  # the last step of which each kind of event was told
        self._refused = self._idle = self._reported = 0  # looks in a row
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
        log = Logcat(self._device, self._since.log)
        reader = threading.Thread(target=self._read, args=(log,), name="logcat", daemon=True)
        self._device.tell = self._progress.say
        try:
            with self._progress, self._outside, (self._folder / LOGCAT).open("a", encoding="utf-8") as file:
                if self._by_files:
                    self._look(file)  # where it is by now
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
        looked = time.monotonic()
        with Interrupt() as interrupted:
            while not self._watch.end:
                if interrupted():
                    break
                try:
                    item = self._queue.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    if time.monotonic() - looked > self._patience():
                        self._look(file)
                        looked = time.monotonic()
                    continue
                if not self._by_files:
                    looked = time.monotonic()
                self._take(item, file)
        return self._watch.end or self._ask(file)

    def _patience(self) -> float:
        if self._by_files:
            return LOOK_SECONDS
        return QUIET_SECONDS if self._watch.heard else START_SECONDS

    def _take(self, item: Line | Exception | None, file: Any) -> None:
        if isinstance(item, Line):
            self._take_line(item, file)
        elif item is None:
            self._gone(file)
        elif isinstance(item, MespError) and not isinstance(item, Disconnected):
            self._silent(str(item))  # logcat is refused, or not there
        else:
            raise item

    def _take_line(self, item: Line, file: Any) -> None:
        if item.raw not in self._before:
            print(item.raw, file=file, flush=True)
        if item.event is None:
            self._watch.others.append(item)
        elif item.event.get("run", self._run) == self._run:
            self._event(item, item.event)

    def _event(self, line: Line, event: Mapping[str, Any]) -> None:
        self._watch.pid = line.pid
        self._watch.heard = True
        self._watch.started |= line.name == "start"
        if line.name == "refused" and (self._watch.started or not self._since.in_log):
            return  # another start, or a command: this run was not refused
        if line.name == "step" and not self._since.in_log:
            self._by_files = False  # the log tells of it, although not of its start
        self._show(line.name, event)
        if line.name in _ENDS:
            self._watch.end = _end(line.name, event)

    def _show(self, name: str, event: Mapping[str, Any]) -> bool:
        """Tells of an event, from wherever it is known; once. Returns whether it was new."""
        place = _place(name, event)
        if place is not None and place <= self._told.get(name, -1):
            return False
        if place is not None:
            self._told[name] = place
        self._progress.show(name, event)
        return True

    def _silent(self, why: str = "") -> None:
        """The log does not tell of the run, so its files have to."""
        if not self._by_files:
            self._by_files = True
            text = f"{why} {_SILENT.format(serial=self._device.serial)}".strip()
            self._watch.notes.append(text)
            self._progress.say(text)

    def _look(self, file: Any) -> None:
        """What the log does not tell, because it lost it, was never given it, or there is nothing to tell."""
        try:
            look = self._device.patiently(self._files.look)
        except (ShellFailed, Unreadable) as error:
            self._refused += 1
            if self._refused == BELIEVED:
                raise
            self._note(error)
            return
        self._refused = 0
        if not self._by_files:
            self._last_words(file)  # what is in the files only now is on its way in the log
        if self._watch.end:
            return
        new = [self._show(name, event) for name, event in look.events]
        if any(new) or (not self._watch.heard and look.training):
            self._silent()
        self._judge(look, file)

    def _judge(self, look: Look, file: Any) -> None:
        """Whether the run is over, as files and process tell it."""
        self._watch.pid = look.pid or self._watch.pid
        self._idle = self._idle + 1 if look.over else 0
        self._reported = self._reported + 1 if look.end else 0
        begun = look.there or self._watch.started
        # A run that is just being gone on with still has its report of before, when it is followed from anywhere.
        if look.end and (look.over or self._since.report or self._reported == BELIEVED):
            self._watch.end = look.end
        elif look.over and begun and (look.pid is None or self._idle == BELIEVED):
            self._gone(file)
        elif self._idle == BELIEVED:
            self._watch.end = End("refused", _UNSEEN.format(serial=self._device.serial))

    def _gone(self, file: Any) -> None:
        """The process has ended. Its last words may tell how; otherwise Android's record does."""
        self._last_words(file)
        self._watch.end = self._watch.end or self._end_in_folder() or self._record()

    def _end_in_folder(self) -> End | None:
        """The end that report.json tells, if it was written since the run began; the log may have lost it."""
        try:
            look = self._device.patiently(self._files.look)
        except (ShellFailed, Unreadable) as error:
            self._note(error)
            return None
        for name, event in look.events:
            self._show(name, event)
        return look.end

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
        command = {"exits": f"dumpsys activity exit-info {app.PACKAGE}"}
        try:
            exits = dumpsys.exits(self._device.patiently(lambda: self._device.sections(command))["exits"])
        except (ShellFailed, Unreadable) as error:
            self._note(error)
            exits = []
        return end_of_process(self._watch.pid or self._outside.last_pid, exits, self._watch.crash)

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

    def _note(self, error: MespError | OSError) -> None:
        """What was refused, or not understood, is said once; an output is kept, to be looked at."""
        text = str(error)
        if text in self._watch.notes:
            return
        self._watch.notes.append(text)
        if isinstance(error, Unreadable):
            with (self._folder / NOT_UNDERSTOOD).open("a", encoding="utf-8") as file:
                print(f"$ {error.command}\n{error.text}", file=file)
            text += f" It is kept in {self._folder / NOT_UNDERSTOOD}"
        self._progress.say(text)


def _place(name: str, event: Mapping[str, Any]) -> int | None:
    """The step that an event is of, for those that log and files both tell; the beginning is told once."""
    if name in ("step", "evaluation"):
        return int(event["step"])
    if name == "checkpoint":
        digits = event["folder"].rpartition("-")[2]
        return int(digits) if digits.isdecimal() else None
    return 0 if name == "begin" else None


def _end(name: str, event: Mapping[str, Any]) -> End:
    if name == "end":
        return End(str(event.get("status", "done")))
    return End(name, str(event.get("reason", "")))


def known_of(folder: Path) -> dict[str, Any]:
    """What device.json says of the request, for a run that is gone on with or followed again; nothing if it is not there.

    Raises:
        UsageError: it is damaged.
    """
    file = folder / DEVICE
    before = read_json_object(file, "what is known of a run on a phone") if file.is_file() else {}
    return {name: before[name] for name in REQUEST if name in before}


def phone_seconds(device: Device) -> tuple[float, float]:
    """The phone's clock, and by how much it is ahead of this one's."""
    before = time.time()
    now = app.epoch_seconds(device.shell(app.CLOCK))
    return now, now - (before + time.time()) / 2


def beginning(device: Device, run: str) -> Beginning:
    """Of a run that was started at some time: from where the log still has it, or from now on."""
    lines = [line for line in since_forever(device) if line.event and line.event.get("run") == run]
    started = [line.seconds for line in lines if line.name == "start"]
    if started:
        return Beginning(started[-1], started[-1], in_log=True)
    now, _ = device.patiently(lambda: phone_seconds(device))
    return Beginning(lines[0].seconds if lines else now, 0, in_log=False)


def left_running(device: Device, run: str) -> dict[str, Any]:
    """device.json's beginning, for a run that nobody follows."""
    phone, version = describe(device).to_json(), device.adb.version()
    return {"format": FORMAT, "run": run, "phone": phone, "adb": version, "end": {"status": "running"}}


def follow_and_fetch(
    device: Device,
    run: str,
    folder: Path,
    since: Beginning,
    sample_every: float,
    about: dict[str, Any],
    console: Console,
) -> End:
    """Follows a run, fetches what it left, and writes device.json, whatever could be fetched.

    Args:
        about: what device.json says besides, such as the request

    Raises:
        Disconnected: the phone was lost and did not come back.
        MespError: the phone refused what there is no going on without.
    """
    follower = Follower(device, run, folder, since, sample_every, console)
    known = {**known_of(folder), **about, **left_running(device, run)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / DEVICE, known)
    end = follower.follow()
    watch = follower.watch
    if watch.crash:
        (folder / CRASH).write_text("\n".join(watch.crash) + "\n", encoding="utf-8")
    try:
        if end.status not in ("refused", "detached"):
            _fetch(device, run, folder, console)
    finally:
        found = {
            "end": {"status": end.status, "reason": end.reason},
            "disconnections": device.disconnections,
            "notes": watch.notes,
            "memory": compare(folder, known["phone"]["memory_bytes"]),
        }
        write_json(folder / DEVICE, {**known, **found})
    return end


def _fetch(device: Device, run: str, folder: Path, console: Console) -> None:
    try:
        pull_run(device, run, folder)
    except UsageError:
        console.print(f"The run left nothing on {device.serial}", highlight=False, markup=False)
