"""What a run is started with: the stand-in of the app's RunRequest.kt and Requests.kt, with the same refusals."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .contract import EVAL_SEQUENCES
from .state import State
from .words import text

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

# Of the battery, below which the app pauses (BatteryRule).
USUAL_PERCENT, PERCENTS = 20, range(91)


class Refused(Exception):
    """The start cannot be used; the message is the app's."""


@dataclass(frozen=True)
class RunRequest:
    """The extras of the intent, by their names."""

    bundle: str
    data: str
    output: str
    settings: dict[str, Any]
    only_while_charging: bool
    pause_below_percent: int
    resume: bool

    @staticmethod
    def of(state: State, extras: Mapping[str, Any]) -> "RunRequest":
        """What is left out of a resumed run's extras is as it was.

        Raises:
            Refused: an extra is missing or cannot be read.
        """
        output = extras.get("output")
        if output is None:
            raise Refused(text("extra_missing", "output"))
        if not is_name(output):
            raise Refused(text("output_no_name", output))
        resume = bool(extras.get("resume", False))
        before = _remembered(state, output) if resume else {}
        for name in ("bundle", "data"):
            if name not in extras and name not in before:
                raise Refused(text("extra_missing", name))
        settings = _parsed(extras["settings"]) if "settings" in extras else before.get("settings", {})
        charging = extras.get("only_while_charging", before.get("only_while_charging", False))
        percent = extras.get("pause_below_percent", before.get("pause_below_percent", USUAL_PERCENT))
        if percent not in PERCENTS:
            raise Refused(text("pause_below_wrong"))
        bundle, data = (extras.get(name, before.get(name)) for name in ("bundle", "data"))
        return RunRequest(bundle, data, output, settings, charging, percent, resume)

    def fields(self) -> dict[str, Any]:
        """Of the event "start"."""
        return asdict(self)

    def remember(self, state: State) -> None:
        file = _file(state, self.output)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({name: value for name, value in asdict(self).items() if name != "resume"}))

    def forget(self, state: State) -> None:
        _file(state, self.output).unlink(missing_ok=True)

    def bundle_folder(self, state: State) -> Path:
        """Raises Refused if it is not there."""
        return _below(state, self.bundle, "bundle")

    def train_settings(self, state: State) -> dict[str, Any]:
        """The settings with their paths made whole.

        Raises:
            Refused: a file is not there.
        """
        paths = {name: self.settings[name] for name in ("eval_data", "adapter") if self.settings.get(name)}
        whole = {name: str(_below(state, path, name)) for name, path in {**paths, "data": self.data}.items()}
        return {"eval_sequences": EVAL_SEQUENCES, **self.settings, **whole}


def is_name(name: str) -> bool:
    """Whether a run's folder may be called so."""
    return NAME.fullmatch(name) is not None


def _below(state: State, path: str, what: str) -> Path:
    root = state.external.resolve()
    file = (root / path).resolve()  # of an absolute path, that one
    if root not in file.parents:
        raise Refused(text("path_outside", what, path))
    if not file.exists():
        raise Refused(text("file_missing", what, path))
    return file


def _parsed(settings: str) -> dict[str, Any]:
    try:
        value = json.loads(settings)
    except ValueError as error:
        raise Refused(text("settings_unreadable", error)) from error
    if not isinstance(value, dict):
        raise Refused(text("settings_unreadable", "not an object"))
    return value


def _file(state: State, run: str) -> Path:
    return state.internal / "requests" / f"{run}.json"


def _remembered(state: State, run: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(_file(state, run).read_text())
        return value
    except (OSError, ValueError):
        return {}
