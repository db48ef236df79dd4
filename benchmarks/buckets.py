"""The time that sequence lengths save: an epoch of a chat data set of mixed lengths, with several lengths and with the longest alone.

    python benchmarks/buckets.py SEVERAL LONGEST TEXT -o benchmarks/results/buckets-NAME.json

SEVERAL is a bundle of several lengths, LONGEST one of the same model with the longest of them alone, TEXT a play as the demo downloads it:
what a character says is the user's turn, and what the next one answers is the assistant's. Steps take turns between the two, row by row, so
that a machine that is slow for a while is slow for both; the losses must agree.
"""

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mesp.runtime.bundle import TOKENIZER, Bundle, open_bundle
from mesp.runtime.data import Dataset, Example, bucket, load_data
from mesp.runtime.environment import environment
from mesp.runtime.files import write_json
from mesp.runtime.memory import Sampler
from mesp.runtime.optimizer import LearningRate, Optimizer
from mesp.runtime.settings import TrainSettings
from mesp.runtime.stepper import Stepper
from mesp.runtime.training import load_adapter

# The trainer computes in fp32 with sums in another order for another length.
TOLERANCE = 2e-3


def dialogues(play: str) -> list[dict[str, Any]]:
    """Every two speeches that follow each other, as a chat of two turns."""
    speeches = [
        re.sub(r"\[[^\]]*\]", "", text).strip()
        for text in re.findall(r"^[A-Z][A-Za-z. ]*\.\n((?:.+\n)+)", play, re.MULTILINE)
    ]
    pairs = zip(speeches[::2], speeches[1::2], strict=False)
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
        if question and answer
    ]


def load(bundle: Bundle, rows: list[dict[str, Any]], settings: TrainSettings) -> Dataset:
    """The rows as the trainer has them."""
    settings.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabulary = bundle.manifest.model["config"]["vocab_size"]
    data, _ = load_data(settings.data, bundle.manifest.tokens, vocabulary, bundle.path / TOKENIZER)
    return data


def make_stepper(bundle: Bundle, settings: TrainSettings, sampler: Sampler) -> Stepper:
    """A trainer's, with SGD."""
    stepper = Stepper(
        bundle,
        settings,
        Optimizer("sgd", LearningRate(1e-2)),
        bundle.manifest.sizes(),
        False,
        sampler,
        lambda: False,
        settings.data.parent,
    )
    stepper.scale = load_adapter(bundle, stepper.session.state["adapter"]).at(bundle.manifest.lora.rank)
    return stepper


def compare(paths: dict[str, Path], play: str, count: int) -> dict[str, Any]:
    """Runs the epoch with both. A length's first row is not timed: it loads the length's programs."""
    bundles = {name: open_bundle(path) for name, path in paths.items()}
    with tempfile.TemporaryDirectory() as folder, Sampler() as sampler:
        settings = TrainSettings(Path(folder) / "rows.jsonl", optimizer="sgd")
        data = load(bundles["several"], dialogues(play)[:count], settings)
        steppers = {name: make_stepper(bundle, settings, sampler) for name, bundle in bundles.items()}
        seconds: dict[str, list[float]] = {name: [] for name in steppers}
        timed: list[Example] = []
        loaded: set[int] = set()
        for number, example in enumerate(data.examples, 1):
            losses, taken = {}, {}
            for name, stepper in steppers.items():
                began = time.perf_counter()
                losses[name], _ = stepper.step(number, [example])
                taken[name] = time.perf_counter() - began
            if abs(losses["several"] - losses["longest"]) > TOLERANCE:
                raise SystemExit(f"Row {number}: the losses are {losses}, which should agree.")
            length = bucket(example, bundles["several"].manifest.lengths)
            if length in loaded:
                timed.append(example)
                for name in seconds:
                    seconds[name].append(taken[name])
            loaded.add(length)
    return report(timed, bundles, seconds)


def report(examples: list[Example], bundles: dict[str, Bundle], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """What the two epochs came to."""
    lengths = bundles["several"].manifest.lengths
    by_length: Counter[int] = Counter(bucket(example, lengths) for example in examples)
    return {
        "command": "python benchmarks/buckets.py SEVERAL LONGEST TEXT -o FILE",
        "rows": len(examples),
        "tokens": sum(example.tokens for example in examples),
        "rows_by_length": dict(sorted(by_length.items())),
        "epoch_seconds": {name: sum(values) for name, values in seconds.items()},
        "ratio": sum(seconds["several"]) / sum(seconds["longest"]),
        "bundle_bytes": {
            name: sum(item["bytes"] for item in bundle.manifest.files.values()) for name, bundle in bundles.items()
        },
        "environment": environment(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the time that sequence lengths save.")
    parser.add_argument("several", type=Path)
    parser.add_argument("longest", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=150)
    args = parser.parse_args()
    paths = {"several": args.several, "longest": args.longest}
    results = compare(paths, args.text.read_text(), args.rows)
    write_json(args.output, results)
    print(f"{results['rows']} rows by length: {results['rows_by_length']}")
    print(f"epoch: {results['epoch_seconds']}, ratio {results['ratio']:.2f}")


if __name__ == "__main__":
    main()
