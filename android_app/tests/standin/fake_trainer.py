"""A trainer that only pretends, in little time: BUNDLE OUTPUT SETTINGS.json [--resume], as MainKt of android_app/core.

It holds some memory, writes a run folder as runtime/contract has it, ends with a checkpoint when it gets SIGTERM, and goes on from one.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from standin.contract import all_settings
from standin.outcome import FINISHED, outcome
from standin.run_log import checkpoints

LOGS = ("steps.jsonl", "eval.jsonl", "memory.jsonl")
TOKENS = 256
EXAMPLES = 100
LAYERS = 2
BUNDLE = {
    "model": "stand-in/none",
    "plan": {
        "seq_len": [TOKENS],
        "head_rows": [],
        "rank": 8,
        "alpha": 16.0,
        "targets": ["q_proj", "v_proj"],
        "layers": LAYERS,
        "method": "mesp",
        "offload": None,
        "block_inputs": "float32",
        "weights": "int4",
        "group_size": 32,
        "seed": 0,
        "tiling": {"query_rows": 64, "ffn": 256, "vocabulary": 384, "rows": 64},
    },
    "sha256": {"program.pte": "0" * 64},
}
ENVIRONMENT = {"system": "stand-in", "machine": os.uname().machine, "java": "none"}


class Failed(Exception):
    """The run cannot go on; its report has the reason."""


class Trainer:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, chosen: dict[str, Any]):
        self._run, self._seconds, self._fail_at = arguments.output, arguments.seconds, arguments.fail_at
        self._settings = all_settings(chosen)
        self._steps = self._settings["steps"] or EXAMPLES
        self._evaluates = bool(self._settings["eval_data"] or self._settings["eval_split"])
        self._bundle = {**BUNDLE, "path": str(arguments.bundle)}
        self._resume = arguments.resume
        self._position: dict[str, Any] = {
            **{"step": 0, "evaluated_step": -1, "best_step": None, "best_loss": None, "worse": 0},
            "log_bytes": {},
        }
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
        """To the report.

        Raises:
            Failed: as it was asked to; the report says so.
        """
        if self._resume:
            self._restore()
        else:
            self._create()
        try:
            status = self._loop()
        except Failed as failure:
            self._report("failed", reason=str(failure))
            raise
        self._checkpoint()
        if status in FINISHED:
            _adapter(self._run / "adapter")
        self._report(status)

    def _report(self, status: str, **more: str) -> None:
        best = self._position["best_step"] if self._settings["eval_every"] else None
        report = {
            **outcome(status, self._lines("steps.jsonl"), self._lines("eval.jsonl"), best),
            **more,
            "memory": self._memory(),
            "threads": self._settings["threads"] or 1,
            "cut_rows": 0,
            "cut_tokens": 0,
            "masked_rows": 0,
            "environment": ENVIRONMENT,
            "bundle": self._bundle,
        }
        _write_json(self._run / "report.json", report)

    def _create(self) -> None:
        if self._run.exists() and any(not item.name.startswith(".") for item in self._run.iterdir()):
            raise SystemExit(f"{self._run} exists already. Choose another output, or remove it first.")
        self._run.mkdir(parents=True, exist_ok=True)
        data = {"examples": EXAMPLES, "sha256": "0" * 64}
        start = {
            "settings": {**self._settings, "steps": self._steps},
            "bundle": self._bundle,
            "data": data,
            "eval_data": data if self._evaluates else None,
            "adapter_sha256": None,
            "versions": ENVIRONMENT,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "planned_bytes": {"block_inputs": 0, "other_buffers": 0, "adapter": 4096, "program_results": 0},
            "baseline_footprint_bytes": self._idle,
            "sampled_since_epoch_seconds": time.time(),
        }
        _write_json(self._run / "run.json", start)
        for name in LOGS:
            (self._run / name).touch()

    def _restore(self) -> None:
        if not (self._run / "run.json").exists():
            raise SystemExit(f"There is no run to resume at {self._run}: it has no run.json. Start a new one.")
        if last := list(checkpoints(self._run).values())[-1:]:
            self._position = json.loads((last[0] / "trainer_state.json").read_text())
        for name in LOGS:
            os.truncate(self._run / name, self._position["log_bytes"].get(name, 0))
        (self._run / "report.json").unlink(missing_ok=True)

    def _loop(self) -> str:
        """Until the run is over; returns its status."""
        every = self._settings["checkpoint_every"]
        while True:
            step = self._position["step"]
            if self._evaluation_is_due(step):
                self._evaluate(step)
            if step == self._steps:
                return "done"
            if self._settings["patience"] and self._position["worse"] >= self._settings["patience"]:
                return "stopped_early"
            if self.stopped:
                return "interrupted"
            self._step(step + 1)
            if every and (step + 1) % every == 0:
                self._checkpoint()

    def _step(self, step: int) -> None:
        time.sleep(self._seconds)
        if step == self._fail_at:
            raise Failed(f"Step {step}: the loss is NaN, and the norm of its gradient NaN.")
        if step == 1:
            self._sample("load")
        for phase in self._phases_of_a_step():
            self._sample(phase)
        line = {
            "step": step,
            "loss": _loss(step),
            "lr": self._settings["lr"],
            "grad_norm": 1.0 + 1.0 / step,
            "tokens": TOKENS,
            "seconds": round(max(self._seconds, 1e-6), 6),
            "peak_footprint_bytes": self._peak,
            "major_faults": 0,
        }
        self._append("steps.jsonl", line)
        self._position["step"] = step
        print(f"step {step} loss {line['loss']}", flush=True)

    def _phases_of_a_step(self) -> Iterator[str]:
        yield "embed"
        yield from (f"forward {layer}" for layer in range(LAYERS))
        yield "head"
        for layer in reversed(range(LAYERS)):
            yield f"backward {layer}"
            yield f"update {layer}"
        yield "between steps"

    def _sample(self, phase: str) -> None:
        seconds = round(time.monotonic() - self._start, 4)
        sample = {"seconds": seconds, "phase": phase, "footprint_bytes": self._peak, "rss_bytes": self._peak}
        self._append("memory.jsonl", sample)

    def _evaluation_is_due(self, step: int) -> bool:
        every = self._settings["eval_every"]
        due = step in (0, self._steps) or bool(every and step % every == 0)
        return self._evaluates and due and self._position["evaluated_step"] != step

    def _evaluate(self, step: int) -> None:
        loss = _loss(step) + 0.1
        self._append("eval.jsonl", {"step": step, "loss": loss, "seconds": 0.001})
        self._position["evaluated_step"] = step
        if step and (self._position["best_loss"] is None or loss < self._position["best_loss"]):
            self._position.update(best_step=step, best_loss=loss, worse=0)
            if self._settings["eval_every"]:
                _adapter(self._run / "best")
        elif step:
            self._position["worse"] += 1

    def _checkpoint(self) -> None:
        step = self._position["step"]
        if step in checkpoints(self._run):
            return
        place = self._run / "checkpoints" / f"step-{step}"
        new = place.with_name(f".{place.name}")
        _adapter(new)
        self._position["log_bytes"] = {name: (self._run / name).stat().st_size for name in LOGS}
        _write_json(new / "trainer_state.json", self._position)
        new.rename(place)
        for old in list(checkpoints(self._run).values())[: -self._settings["keep_checkpoints"]]:
            shutil.rmtree(old)

    def _memory(self) -> dict[str, Any]:
        return {
            "baseline_footprint_bytes": self._idle,
            "baseline_is_stable": True,
            "peak_footprint_bytes": self._peak,
            "delta_footprint_bytes": self._peak - self._idle,
            "peak_phase": "backward 0",
            "vm_hwm_bytes": self._peak,
            "vm_hwm_is_of_the_run": False,
            "samples": 100,
            "longest_gap_seconds": 0.01,
            "longest_gap_phase": "load",
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
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BUNDLE["model"],
        "r": 8,
        "lora_alpha": 16.0,
        "target_modules": ["q_proj", "v_proj"],
        "layers_to_transform": None,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    _write_json(folder / "adapter_config.json", config)
    (folder / "adapter_model.safetensors").write_bytes(bytes(4096))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps(value, indent=2))
    new.rename(path)


def main() -> None:
    """The command line. Exit status 143 after SIGTERM, as a virtual machine's, and 1 with the reason for a run that failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.1, help="of a step")
    parser.add_argument("--megabytes", type=int, default=20, help="held while it trains")
    parser.add_argument("--fail-at", type=int, metavar="STEP", help="where the loss is not a number")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", type=Path)
    arguments = parser.parse_args()
    trainer = Trainer(arguments, json.loads(arguments.settings.read_text()))
    try:
        trainer.train()
    except Failed as failure:
        sys.exit(str(failure))  # on standard error, with status 1
    sys.exit(128 + signal.SIGTERM if trainer.stopped else 0)


if __name__ == "__main__":
    main()
