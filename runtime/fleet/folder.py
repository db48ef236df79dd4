"""A fleet's folder on the server.

    fleet.json       the fleet's own name, its settings and its bundle: written first
    rounds.jsonl     a line a round; round 0 is the adapter that the fleet began with
    round-N/         after round N: adapter (PEFT), strategy.npz (what the strategy carries on)
    adapter/         PEFT: what the fleet came to
    report.json, report.html

A round is done when its line is there; what was left of one that was not is done again.
"""

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..contract.run_files import ADAPTER, PAGE, REPORT
from ..errors import UsageError
from ..files import folder_that_appears_whole, make_folders, read_json_object, write_json

FLEET, ROUNDS, STATE = "fleet.json", "rounds.jsonl", "strategy.npz"


@dataclass(frozen=True)
class Part:
    """What one client did in a round.

    Args:
        name, where: as it says itself; ``node`` before it ever said so
        training, evaluation: its figures; None where it was not asked, or did not do it
        reason: why it did not
    """

    node: str
    name: str
    where: str = ""
    training: Mapping[str, float] | None = None
    evaluation: Mapping[str, float] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Round:
    """A round: a line of rounds.jsonl.

    Args:
        loss: of the common adapter after it, over all held-out targets; None without any
        seconds: from its first message to its last
        server_peak_bytes: the server's largest resident memory so far
        counted: whether the adapter was changed by it; reason: why not
    """

    round: int
    loss: float | None
    seconds: float
    server_peak_bytes: int
    counted: bool = True
    reason: str | None = None
    clients: Sequence[Part] = field(default_factory=tuple)


class FleetFolder:
    """A fleet's folder, to be written by one process."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None

    def create(self, about: Mapping[str, Any]) -> str:
        """Makes the folder; returns the fleet's own name.

        Raises:
            UsageError: there is something at its place.
        """
        self.check_free()
        make_folders(self.path)
        self._take()
        plain = re.sub(r"[^A-Za-z0-9_]", "_", self.path.resolve().name)[:40]
        name = f"{plain}-{uuid.uuid4().hex[:8]}"
        write_json(self.path / FLEET, {"fleet": name, **about})
        (self.path / ROUNDS).touch()
        return name

    def check_free(self) -> None:
        """Raises UsageError if there is a fleet already."""
        if (self.path / FLEET).exists():
            raise UsageError(
                f"{self.path} has a fleet already. Go on with it (mesp fleet run PROJECT --resume), or choose another output."
            )

    def reopen(self, about: Mapping[str, Any]) -> str:
        """Opens the folder of a fleet that goes on, and removes what is left of a round that was not finished; returns the fleet's own name.

        Raises:
            UsageError: there is none, or it is of another bundle or strategy.
        """
        if not (self.path / FLEET).is_file():
            raise UsageError(
                f"There is no fleet to go on with at {self.path}: it has no {FLEET}. Start it without resume."
            )
        self._take()
        before = read_json_object(self.path / FLEET, "what a fleet was started with")
        for name in ("bundle", "strategy"):
            if before.get(name) != about[name]:
                raise UsageError(
                    f"{self.path} is a fleet of another {name}: {before.get(name)}, and not {about[name]}."
                )
        for name in (REPORT, PAGE):
            (self.path / name).unlink(missing_ok=True)
        done = self.rounds()
        self._write_rounds(done)
        last = done[-1].round if done else 0
        for leftover in self.path.glob("round-*"):
            if int(leftover.name.removeprefix("round-")) > last:
                shutil.rmtree(leftover)
        return str(before["fleet"])

    def _take(self) -> None:
        """Takes the folder for this process, until it ends.

        Raises:
            UsageError: another one has it.
        """
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"Another server writes to {self.path}. End it, or choose another output.") from error

    def release(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def rounds(self) -> list[Round]:
        """The rounds that are done. A line that was cut off is of one that was not."""
        found = []
        for line in (self.path / ROUNDS).read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                values = json.loads(line)
                found.append(Round(**{**values, "clients": [Part(**part) for part in values["clients"]]}))
        return found

    def add(self, round_: Round) -> None:
        """A round is done."""
        with open(self.path / ROUNDS, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(round_)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _write_rounds(self, rounds: Sequence[Round]) -> None:
        (self.path / ROUNDS).write_text(
            "".join(json.dumps(asdict(round_)) + "\n" for round_ in rounds), encoding="utf-8"
        )

    def round(self, number: int) -> Path:
        """What is left of a round."""
        return self.path / f"round-{number}"

    def last_adapter(self) -> Path | None:
        """The newest common adapter; None before the first round."""
        changed = [round_.round for round_ in self.rounds() if round_.round and round_.counted]
        return self.round(changed[-1]) / ADAPTER if changed else None

    def finish(self, status: str, reason: str | None = None) -> None:
        """Writes what the fleet came to."""
        rounds, adapter = self.rounds(), self.last_adapter()
        if adapter is not None:
            with folder_that_appears_whole(self.path / ADAPTER, replace=True) as new:
                shutil.copytree(adapter, new, dirs_exist_ok=True)
        losses = [round_.loss for round_ in rounds if round_.loss is not None]
        report = {
            "status": status,
            "reason": reason,
            "rounds": sum(round_.round > 0 for round_ in rounds),
            "loss_first": losses[0] if losses else None,
            "loss_last": losses[-1] if losses else None,
            "server_peak_bytes": max((round_.server_peak_bytes for round_ in rounds), default=0),
            "seconds": sum(round_.seconds for round_ in rounds),
        }
        write_json(self.path / REPORT, report)
