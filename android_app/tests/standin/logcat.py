"""logcat: the options that a harness needs."""

import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from .commands import fail
from .log import PRIORITIES, Record, file_of, line_of
from .state import State


@dataclass
class _Options:
    epoch: bool = False
    ends: bool = False
    clear: bool = False
    silent: bool = False
    since: float | None = None
    count: int | None = None
    pid: int | None = None
    buffers: set[str] = field(default_factory=lambda: {"main", "system", "crash"})
    tags: dict[str, str] = field(default_factory=dict)

    def shows(self, record: Record) -> bool:
        least = self.tags.get(record.tag, self.tags.get("*", "S" if self.silent else "V"))
        return (
            PRIORITIES.index(record.priority) >= PRIORITIES.index(least)
            and least != "S"
            and record.buffer in self.buffers
            and (self.pid is None or record.pid == self.pid)
            and (self.since is None or record.time >= self.since)
        )


def logcat(state: State, arguments: list[str]) -> int:
    try:
        options = _parse(arguments)
    except ValueError as error:
        return fail(f"logcat: {error}")
    if options.clear:
        open(file_of(state), "w").close()
        return 0
    before: set[str] = set()

    def show(record: Record) -> None:
        # Said once of each buffer, when its first line comes.
        divider = "" if record.buffer in before else f"--------- beginning of {record.buffer}\n"
        before.add(record.buffer)
        sys.stdout.write(divider + line_of(record, options.epoch))

    records = _records(state, follow=not options.ends)
    old: deque[Record] = deque(maxlen=options.count)
    for record in records:
        if record is None:
            break
        if options.shows(record):
            old.append(record)
    for record in old:
        show(record)
    sys.stdout.flush()
    for record in records:
        if record and options.shows(record):
            show(record)
            sys.stdout.flush()
    return 0


def _records(state: State, follow: bool) -> Iterator[Record | None]:
    """The records there are, then None, then those to come until nobody reads them."""
    path, place, told = file_of(state), 0, False
    hung_up = select.poll()
    hung_up.register(1, select.POLLERR)
    while True:
        if os.path.exists(path):
            if os.path.getsize(path) < place:
                place = 0  # cleared
            with open(path, "rb") as file:
                file.seek(place)
                for line in file:
                    if line.endswith(b"\n"):
                        place += len(line)
                        yield Record(**json.loads(line))
        if not told:
            told = True
            yield None
        if not follow or hung_up.poll(0):
            return
        time.sleep(0.02)


def _parse(arguments: list[str]) -> _Options:
    options = _Options()
    rest = deque(arguments)

    def value(word: str) -> str:
        if len(word) > 2:
            return word[2:]
        if not rest:
            raise ValueError(f"option requires an argument -- '{word[1:]}'")
        return rest.popleft()

    while rest:
        word = rest.popleft()
        if word.startswith("--pid"):
            options.pid = int(word.partition("=")[2] or rest.popleft())
        elif not word.startswith("-"):
            tag, _, least = word.partition(":")
            options.tags[tag] = least.upper() or ("D" if tag == "*" else "V")
        elif word in ("-s", "-d", "-c"):
            setattr(options, {"s": "silent", "d": "ends", "c": "clear"}[word[1]], True)
        elif word[1] == "b":
            chosen = set(value(word).split(","))
            options.buffers = {"main", "system", "crash"} if chosen & {"all", "default"} else chosen
        elif word[1] == "v":
            form = value(word)
            if form not in ("epoch", "threadtime"):
                raise ValueError(f'Invalid parameter "{form}" to -v')
            options.epoch = options.epoch or form == "epoch"
        elif word[1] in "Tt":
            options.ends = options.ends or word[1] == "t"
            _since(options, value(word))
        else:
            raise ValueError(f"unrecognized option '{word}'")
    return options


def _since(options: _Options, text: str) -> None:
    """A number of lines, or a time: in seconds with a fraction, or as logcat prints it."""
    if text.isdigit():
        options.count = int(text)
        return
    try:
        options.since = float(text)
    except ValueError:
        whole = text if text[4:5] == "-" else f"{datetime.now().year}-{text}"
        options.since = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S.%f").timestamp()
