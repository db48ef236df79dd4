"""`mesp device` as the tests run it, and what they look at of its runs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standin.adb_server import AdbServer
from standin.phone import Phone
from standin.trainers import BUILD

PHONES = Path(__file__).with_name("phones")
CASES = BUILD / "cases"
BUNDLE, DATA = CASES / "bundles" / "llama", CASES / "runs" / "llama-sgd" / "data.jsonl"
MESP = (sys.executable, "-c", "import sys; from mesp.command_line.parser import main; sys.exit(main())")
SECONDS = 60


class Harness:
    """`mesp` as a person runs it, in a folder of its own."""

    def __init__(self, adb: AdbServer, folder: Path):
        self.adb, self.folder = adb, folder

    def start(self, *words: object, **options: Any) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": pipe,
            "stderr": pipe,
            "text": True,
            "env": self.adb.environment,
            **options,
        }
        return subprocess.Popen([*MESP, "device", *map(str, words)], cwd=self.folder, **options)

    def __call__(self, *words: object, status: int = 0, **options: Any) -> str:
        """What it prints, on both of its outputs; its exit status must be the one that is expected."""
        process = self.start(*words, **options)
        said = "".join(process.communicate(timeout=SECONDS))
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said


def wait(until: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def train(output: str = "first", *options: object, steps: int = 40) -> tuple[object, ...]:
    return ("run", BUNDLE, "--data", DATA, "-o", output, "--steps", steps, "--sample-every", 0.2, *options)


def steps_of(log: Path) -> list[int]:
    events = [json.loads(line.split(" : ", 1)[1].strip()) for line in log.read_text().splitlines() if '"step"' in line]
    return [event["step"] for event in events if event["event"] == "step"]


def steps_in(phone: Phone, run: str = "first") -> int:
    """The steps that a run has done on the phone."""
    file = phone.files / "runs" / run / "steps.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def logged(mesp: Harness, run: str = "first") -> list[int]:
    file = mesp.folder / run / "logcat.txt"
    return steps_of(file) if file.exists() else []


def device_json(mesp: Harness, run: str = "first") -> dict[str, Any]:
    about: dict[str, Any] = json.loads((mesp.folder / run / "device.json").read_text())
    return about


def same(there: Path, here: Path) -> bool:
    names = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
    found = sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file())
    return names == found and all((there / name).read_bytes() == (here / name).read_bytes() for name in names)
