"""What the Android core's tests compare with: the bundles of bundles.py, and what the host's runtime makes of them.

    python -m tests.android_cases build/android/cases llama qwen2

    bundles/NAME    what was exported
    runs/NAME       data.jsonl; settings.json, of `mesp train`, with the bundle's name; and host/, the host's run folder

What is there already is left as it is.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.files import folder_that_appears_whole
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings

from .bundles import write_bundle

# Small rates: at large ones the last bits of the first steps are the whole difference of the last ones.
SGD = {"optimizer": "sgd", "lr": 0.05, "steps": 20}
ADAMW = {"optimizer": "adamw", "lr": 1e-3, "steps": 20, "weight_decay": 0.01}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-sgd": ("llama", SGD),
    "llama-adamw": ("llama", ADAMW),
    "qwen2-sgd": ("qwen2", SGD),
    "qwen2-adamw": ("qwen2", {**ADAMW, "schedule": "linear", "warmup": 3}),
    "several": (
        "qwen2",
        {
            "optimizer": "sgd",
            "momentum": 0.9,
            "lr": 0.1,
            "epochs": 6,
            "schedule": "cosine",
            "warmup": 0.2,
            "weight_decay": 0.01,
            "grad_accumulation": 3,
            "clip_norm": 0.5,
            "eval_split": 0.2,
            "eval_every": 2,
            "eval_sequences": 2,
            "checkpoint_every": 3,
            "seed": 7,
        },
    ),
    "upper": ("upper", ADAMW),
    "gemma3": ("gemma3", ADAMW),
    "lfm2": ("lfm2", ADAMW),
    "smollm3": ("smollm3", ADAMW),
    "mistral": ("mistral", ADAMW),
    "granite": ("granite", ADAMW),
    "phi3": ("phi3", ADAMW),
    "mebp": ("mebp", SGD),
    "store-h": ("store-h", SGD),
    "mezo": ("mezo", {**SGD, "lr": 1e-4}),
    "float16": ("float16", SGD),
}


def write_run(folder: Path, bundle: Path, settings: dict[str, Any]) -> None:
    """Trains on the host, and leaves the folder complete."""
    manifest = open_bundle(bundle).manifest
    with folder_that_appears_whole(folder) as new:
        write_rows(new / "data.jsonl", manifest.tokens, manifest.model.vocabulary)
        (new / "settings.json").write_text(json.dumps({"bundle": bundle.name, "data": "data.jsonl", **settings}))
        train(bundle, new / "host", TrainSettings(data=new / "data.jsonl", **settings))


def write_rows(path: Path, tokens: int, vocabulary: int, count: int = 14) -> None:
    """Rows of token ids of many lengths; of some only the last few tokens are targets, and some are too long."""
    generator = torch.Generator().manual_seed(3)
    lines = []
    for row in range(count):
        length = int(torch.randint(2, tokens + 4, (1,), generator=generator))
        ids = torch.randint(vocabulary, (length,), generator=generator).tolist()
        masked = length // 2 if row % 3 == 0 else 0
        lines.append(json.dumps({"input_ids": ids, "labels": [-100] * masked + ids[masked:]}))
    path.write_text("\n".join(lines) + "\n")


def main(output: Path, names: Sequence[str]) -> None:
    """Writes these bundles and their runs, where they are not there."""
    for name in names:
        if not (output / "bundles" / name).is_dir():
            print(f"exports the bundle {name}", flush=True)
            write_bundle(name, output / "bundles" / name, output / "bundles" / f".{name}.checkpoint")
    for name, (bundle, settings) in RUNS.items():
        if bundle in names and not (output / "runs" / name).is_dir():
            print(f"trains {name} on the host", flush=True)
            write_run(output / "runs" / name, output / "bundles" / bundle, settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
