"""The memory price of each option of `mesp train`: peak footprint over idle, each in a process of its own, against plain SGD.

    python benchmarks/options.py BUNDLE -o benchmarks/results/options-NAME.json

BUNDLE has several sequence lengths; all rows but those of the line on lengths need the longest. Each run takes a few steps of random
tokens: memory does not depend on their values. Each option runs --repeats times, in turns, and the median counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

SGD = ("--optimizer", "sgd")
OPTIONS: dict[str, tuple[str, ...]] = {
    "SGD": SGD,
    "SGD, momentum": (*SGD, "--momentum", "0.9"),
    "AdamW": ("--optimizer", "adamw"),
    "SGD, accumulation 4": (*SGD, "--grad-accumulation", "4"),
    "SGD, clipping": (*SGD, "--clip-norm", "1"),
    "SGD, accumulation 4, clipping": (*SGD, "--grad-accumulation", "4", "--clip-norm", "1"),
    "AdamW, accumulation 4, clipping": ("--optimizer", "adamw", "--grad-accumulation", "4", "--clip-norm", "1"),
    "SGD, evaluation every step": (*SGD, "--eval-split", "0.2", "--eval-every", "1"),
    "SGD, checkpoint every step": (*SGD, "--checkpoint-every", "1"),
    "AdamW, checkpoint every step": ("--optimizer", "adamw", "--checkpoint-every", "1"),
    "SGD, TensorBoard": (*SGD, "--tensorboard"),
    "SGD, rows of every length of the bundle": SGD,
}


def write_rows(path: Path, bundle: Bundle, mixed: bool) -> None:
    """Rows that fill the longest sequence, or each of the lengths in turn."""
    lengths, generator = bundle.manifest.lengths, torch.Generator().manual_seed(0)
    vocabulary = bundle.manifest.model["config"]["vocab_size"]
    rows = []
    for number in range(9):
        tokens = lengths[number % len(lengths)] if mixed else lengths[-1]
        ids = torch.randint(vocabulary, (tokens + 1,), generator=generator).tolist()
        rows.append(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
    path.write_text("".join(rows))


def measure(path: Path, bundle: Bundle, name: str, steps: int) -> dict[str, Any]:
    """report.json's memory of a run with the option."""
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "rows.jsonl", Path(folder) / "run"
        write_rows(data, bundle, mixed="every length" in name)
        mesp = str(Path(sys.executable).with_name("mesp"))
        chosen = ["--checkpoint-every", "0", *OPTIONS[name], "--steps", str(steps), "--no-shuffle", "--lr", "1e-4"]
        command = [mesp, "train", str(path), "--data", str(data), "-o", str(run), *chosen]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        memory: dict[str, Any] = json.loads((run / "report.json").read_text())["memory"]
        return memory


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the memory price of the options of mesp train.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in OPTIONS}
    for _ in range(args.repeats):
        for name in OPTIONS:
            found[name].append(measure(args.bundle, bundle, name, args.steps))
    peaks = {name: [item["delta_footprint_bytes"] for item in items] for name, items in found.items()}
    plain = median(peaks["SGD"])
    for name, values in peaks.items():
        print(f"{name:42} {median(values) / 1e6:6.1f} MB  {(median(values) - plain) / 1e6:+6.1f}")
    write_json(
        args.output,
        {
            "command": "python benchmarks/options.py BUNDLE -o FILE",
            "lengths": list(bundle.manifest.lengths),
            "rank": bundle.manifest.lora.rank,
            "weights": dict(bundle.manifest.weights),
            "adapter_bytes": bundle.manifest.lora.nbytes,
            "peak_over_idle_bytes": peaks,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
