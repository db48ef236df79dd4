"""A trainer that only pretends, in little time: BUNDLE OUTPUT SETTINGS.json [--resume], as MainKt of android_app/core.

It holds some memory, writes a run folder with all that `mesp report` draws, ends with a checkpoint when it gets SIGTERM, and goes on from one.
The losses follow from the step alone, so a run that was resumed is the same as one that was not.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from standin.outcome import outcome
from standin.run_log import checkpoints

LOGS = ("steps.jsonl", "eval.jsonl", "memory.jsonl")
TOKENS = 256
EXAMPLES = 100
BUNDLE = {
    "model": "stand-in/none",
    "method": "mesp",
    "tokens": TOKENS,
    "lengths": [TOKENS],
    "weights": {"kind": "int4", "group": "32"},
    "lora": {"rank": 8, "alpha": 16.0, "targets": ["q", "v"], "layers": 2},
    "sha256": {},
}


class Trainer:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, settings: dict[str, Any]):
        self._run, self._settings, self._seconds = arguments.output, settings, arguments.seconds
        self._bundle = {**BUNDLE, "path": str(arguments.bundle)}
        self._resume = arguments.resume
        self._steps = settings.get("steps") or EXAMPLES
        self.stopped = False
        self._idle = _footprint()
        self._held = bytearray(arguments.megabytes * 1_000_000)
        self._held[::4096] = b"\1" * len(self._held[::4096])  # each page is taken
        self._peak = _footprint()
        self._start = time.monotonic()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped = True

    def train(self) -> None:
        first = self._restore() if self._resume else self._create()
        status = self._loop(first)
        if status == "done":
            _adapter(self._run / "adapter")
        steps, evaluations = self._lines("steps.jsonl"), self._lines("eval.jsonl")
        report = {
            **outcome(status, steps, evaluations),
            "memory": self._memory(),
            "cut_rows": 0,
            "cut_tokens": 0,
            "masked_rows": 0,
            "environment": {"system": "stand-in", "machine": os.uname().machine, "cores": os.cpu_count()},
            "bundle": self._bundle,
        }
        _write_json(self._run / "report.json", report)

    def _create(self) -> int:
        if self._run.exists() and any(not item.name.startswith(".") for item in self._run.iterdir()):
            raise SystemExit(f"{self._run} exists already. Choose another output, or remove it first.")
        self._run.mkdir(parents=True, exist_ok=True)
        start = {
            "settings": {"checkpoint_every": 50, "grad_accumulation": 1, **self._settings, "steps": self._steps},
            "bundle": self._bundle,
            "data": {"examples": EXAMPLES, "sha256": "0" * 64},
            "eval_data": None,
            "adapter_sha256": None,
            "versions": {"system": "stand-in"},
            "baseline_footprint_bytes": self._idle,
        }
        _write_json(self._run / "run.json", start)
        for name in LOGS:
            (self._run / name).touch()
        return 0

    def _restore(self) -> int:
        if not (self._run / "run.json").exists():
            raise SystemExit(f"There is no run to resume at {self._run}: it has no run.json. Start a new one.")
        last = list(checkpoints(self._run).values())[-1:]
        position: dict[str, Any] = (
            json.loads((last[0] / "trainer_state.json").read_text()) if last else {"step": 0, "log_bytes": {}}
        )
        for name in LOGS:
            os.truncate(self._run / name, position["log_bytes"].get(name, 0))
        (self._run / "report.json").unlink(missing_ok=True)
        step: int = position["step"]
        return step

    def _loop(self, first: int) -> str:
        evaluates = bool(self._settings.get("eval_data") or self._settings.get("eval_split"))
        every = self._settings.get("checkpoint_every", 50)
        if evaluates and not first:
            self._evaluate(0)
        for step in range(first + 1, self._steps + 1):
            if self.stopped:
                self._checkpoint(step - 1)
                return "interrupted"
            self._step(step)
            if evaluates and (step == self._steps or step % self._settings.get("eval_every", self._steps) == 0):
                self._evaluate(step)
            if step == self._steps or (every and step % every == 0):
                self._checkpoint(step)
        return "done"

    def _step(self, step: int) -> None:
        time.sleep(self._seconds)
        for phase in ("load", "embed", "forward 0", "head", "backward 0", "update", "between steps"):
            if step == 1 or phase != "load":
                seconds = round(time.monotonic() - self._start, 4)
                sample = {"seconds": seconds, "phase": phase, "footprint_bytes": self._peak, "rss_bytes": self._peak}
                self._append("memory.jsonl", sample)
        line = {
            "step": step,
            "loss": _loss(step),
            "lr": self._settings.get("lr") or 1e-3,
            "grad_norm": 1.0 + 1.0 / step,
            "tokens": TOKENS,
            "seconds": round(max(self._seconds, 1e-6), 6),
            "peak_footprint_bytes": self._peak,
        }
        self._append("steps.jsonl", line)
        print(f"step {step} loss {line['loss']}", flush=True)

    def _evaluate(self, step: int) -> None:
        self._append("eval.jsonl", {"step": step, "loss": _loss(step) + 0.1, "seconds": 0.001})

    def _checkpoint(self, step: int) -> None:
        if step in checkpoints(self._run):
            return
        place = self._run / "checkpoints" / f"step-{step}"
        new = place.with_name(f".{place.name}")
        _adapter(new)
        log_bytes = {name: (self._run / name).stat().st_size for name in LOGS}
        _write_json(new / "trainer_state.json", {"step": step, "evaluated_step": -1, "log_bytes": log_bytes})
        new.rename(place)
        for old in list(checkpoints(self._run).values())[: -self._settings.get("keep_checkpoints", 2)]:
            shutil.rmtree(old)

    def _memory(self) -> dict[str, Any]:
        return {
            "baseline_footprint_bytes": self._idle,
            "peak_footprint_bytes": self._peak,
            "delta_footprint_bytes": self._peak - self._idle,
            "peak_phase": "backward 0",
            "vm_hwm_bytes": self._peak,
            "vm_hwm_is_of_the_run": False,
            "samples": 100,
            "longest_gap_seconds": 0.01,
            "major_faults": 0,
            "dirty_file_and_swap_bytes": 0,
        }

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with open(self._run / name, "a") as file:
            file.write(json.dumps(line) + "\n")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._run / name).read_text().splitlines()]


def _loss(step: int) -> float:
    return 2.0 + 2.0 * math.exp(-step / 30) + 0.05 * math.sin(12.9898 * step)


def _footprint() -> int:
    fields = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kept = ("Private_Dirty:", "Shared_Dirty:", "Swap:")
    return sum(int(words[1]) * 1024 for words in fields if words[0] in kept)


def _adapter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 8})
    (folder / "adapter_model.safetensors").write_bytes(bytes(4096))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps(value, indent=2))
    new.rename(path)


def main() -> None:
    """The command line. Exit status 143 after SIGTERM, as a virtual machine's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.1, help="of a step")
    parser.add_argument("--megabytes", type=int, default=20, help="held while it trains")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", type=Path)
    arguments = parser.parse_args()
    trainer = Trainer(arguments, json.loads(arguments.settings.read_text()))
    trainer.train()
    sys.exit(128 + signal.SIGTERM if trainer.stopped else 0)


if __name__ == "__main__":
    main()
