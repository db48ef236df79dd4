"""Kills runs at random moments and resumes them: the adapter must be that of a run that was never interrupted, byte for byte.

    python -m mesp.bench.questions.kill_and_resume BUNDLE -o benchmarks/results/kills-NAME.json

BUNDLE should be small, with steps of milliseconds. For half of the kills the moment is drawn over the whole process, from its start until after
its end. For the others it is drawn between the first and the last step, where checkpoints are written. A run that was killed before its
folder has a run.json is started anew instead of resumed.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

from ..child import command

SETTINGS = {
    "steps": 60,
    "lr": 0.01,
    "schedule": "cosine",
    "warmup": 0.1,
    "grad_accumulation": 2,
    "clip_norm": 1.0,
    "eval_split": 0.2,
    "eval_every": 5,
    "checkpoint_every": 2,
}


def write_rows(path: Path, bundle: Bundle) -> None:
    """Random rows of different lengths."""
    generator, vocabulary = torch.Generator().manual_seed(0), bundle.manifest.model.vocabulary
    with open(path, "w", encoding="utf-8") as file:
        for row in range(40):
            ids = torch.randint(vocabulary, (3 + row % bundle.manifest.tokens,), generator=generator).tolist()
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def start(bundle: Path, rows: Path, run: Path) -> subprocess.Popen[bytes]:
    """Starts the run, or resumes it if its folder is there."""
    settings, resume = {"data": rows, **SETTINGS}, (run / "run.json").exists()
    line = command("train", bundle=bundle, output=run, settings=settings, resume=resume)
    return subprocess.Popen(line, stdout=subprocess.DEVNULL)


def wait_for_first_step(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until the log has a line, or the process has ended."""
    log = run / "steps.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.001)


def kill_once(
    bundle: Path, rows: Path, run: Path, draw: random.Random, total: float, training: float
) -> dict[str, Any]:
    """Starts a run, kills it, and resumes it to its end. Returns when it was killed, and what its folder had by then."""
    process = start(bundle, rows, run)
    while_training = draw.random() < 0.5
    if while_training:
        wait_for_first_step(run, process)
    delay = draw.uniform(0, training if while_training else total)
    time.sleep(delay)
    process.kill()
    killed = process.wait() != 0
    steps = len((run / "steps.jsonl").read_text(encoding="utf-8").splitlines()) if (run / "steps.jsonl").exists() else 0
    leftovers = len(list(run.rglob(".*"))) if run.exists() else 0
    if start(bundle, rows, run).wait():
        raise SystemExit(f"Resuming {run} failed.")
    return {
        "while_training": while_training,
        "seconds": round(delay, 4),
        "killed": killed,
        "steps_on_the_log": steps,
        "half_written": leftovers,
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Kill runs, resume them, and compare the adapters.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    args = parser.parse_args()
    draw = random.Random(0)
    kills: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        write_rows(rows, open_bundle(args.bundle))
        began = time.monotonic()
        process = start(args.bundle, rows, folder / "whole")
        wait_for_first_step(folder / "whole", process)
        first = time.monotonic()
        if process.wait():
            raise SystemExit("The run that is not interrupted failed.")
        total, training = time.monotonic() - began, time.monotonic() - first
        expected = (folder / "whole/adapter/adapter_model.safetensors").read_bytes()
        while sum(kill["killed"] for kill in kills) < args.kills:
            run = folder / f"run-{len(kills)}"
            kill = kill_once(args.bundle, rows, run, draw, total, training)
            kill["same_adapter"] = (run / "adapter/adapter_model.safetensors").read_bytes() == expected
            kills.append(kill)
            print(f"{len(kills)}: {kill}", flush=True)
    same = sum(kill["same_adapter"] for kill in kills if kill["killed"])
    print(f"{same} of {args.kills} killed runs came to the same adapter, byte for byte")
    write_json(
        args.output,
        {
            "command": "python -m mesp.bench.questions.kill_and_resume BUNDLE -o FILE",
            "settings": SETTINGS,
            "seconds_of_a_run": total,
            "same": same,
            "killed": args.kills,
            "kills": kills,
            "environment": environment(),
        },
    )
    if same < args.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
