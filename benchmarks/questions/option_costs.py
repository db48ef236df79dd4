"""The memory price of each option of `mesp train`: the peak footprint over idle, against plain SGD.

    python -m mesp.bench.questions.option_costs BUNDLE -o benchmarks/results/options-NAME.json

BUNDLE has several sequence lengths. Rows fill the longest, but for the option that is about lengths. Tokens are random: memory does not
depend on their values. Each run is a process of its own. Options take turns, --repeats times, and the median counts.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words

from ..child import trained
from .steps import row

SGD: dict[str, Any] = {"optimizer": "sgd"}
ADAMW: dict[str, Any] = {"optimizer": "adamw"}
FOUR, CLIPPING = {"grad_accumulation": 4}, {"clip_norm": 1.0}
MIXED = "SGD, rows of every length of the bundle"
# By name, TrainSettings' fields.
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": SGD,
    "SGD, momentum": SGD | {"momentum": 0.9},
    "AdamW": ADAMW,
    "SGD, accumulation 4": SGD | FOUR,
    "SGD, clipping": SGD | CLIPPING,
    "SGD, accumulation 4, clipping": SGD | FOUR | CLIPPING,
    "AdamW, accumulation 4, clipping": ADAMW | FOUR | CLIPPING,
    "SGD, evaluation every step": SGD | {"eval_split": 0.2, "eval_every": 1},
    "SGD, checkpoint every step": SGD | {"checkpoint_every": 1},
    "AdamW, checkpoint every step": ADAMW | {"checkpoint_every": 1},
    "SGD, TensorBoard": SGD,
    MIXED: SGD,
}
# What every run has, if its option does not say otherwise.
COMMON = {"checkpoint_every": 0, "shuffle": False, "lr": 1e-4}


def random_rows(bundle: Bundle, mixed: bool) -> list[dict[str, list[int]]]:
    """Rows that fill the longest sequence, or each of the lengths in turn."""
    lengths, generator = bundle.manifest.lengths, torch.Generator().manual_seed(0)
    vocabulary = bundle.manifest.model.vocabulary
    sizes = [lengths[number % len(lengths)] if mixed else lengths[-1] for number in range(9)]
    return [row(torch.randint(vocabulary, (tokens + 1,), generator=generator)) for tokens in sizes]


def measure(path: Path, bundle: Bundle, name: str, steps: int) -> dict[str, Any]:
    """The report's memory of a run with the option."""
    chosen = {**COMMON, **OPTIONS[name], "steps": steps}
    report = trained(path, random_rows(bundle, mixed=name == MIXED), tensorboard="TensorBoard" in name, **chosen)
    memory: dict[str, Any] = report["memory"]
    return memory


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
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
            "command": "python -m mesp.bench.questions.option_costs BUNDLE -o FILE",
            "lengths": list(bundle.manifest.lengths),
            "rank": bundle.manifest.lora.rank,
            "weights": weights_in_words(bundle.manifest.plan),
            "adapter_bytes": bundle.manifest.lora.nbytes,
            "peak_over_idle_bytes": peaks,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
