"""The time that several sequence lengths save, and a head only on the targets: an epoch of chats of mixed lengths, in three ways.

    python -m mesp.bench.questions.sequence_lengths SEVERAL LONGEST TEXT -o benchmarks/results/buckets-NAME.json

SEVERAL is a bundle of several lengths, LONGEST one of the same model with only the longest of them. TEXT is a play as the demo downloads it:
what a character says is the user's turn, and the next one's answer the assistant's.

    longest     always the longest length, the head on every row
    lengths     the shortest length that holds the row of data, the head on every row
    targets     the same lengths, the head only on the rows with targets, as `mesp train` does

The three take turns, row of data by row, so that a machine that is slow for a while is slow for all. Their losses must agree.
"""

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mesp.runtime.data.dataset import Dataset, load_data
from mesp.runtime.engine.bundle import TOKENIZER, Bundle, open_bundle
from mesp.runtime.engine.sizes import Size, smallest
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.memory.sampler import Sampler
from mesp.runtime.training.loop import load_adapter
from mesp.runtime.training.optimizer import LearningRate, Optimizer
from mesp.runtime.training.settings import TrainSettings
from mesp.runtime.training.stepper import Stepper
from mesp.runtime.training.threads import default_threads

# Of losses. Sums are in fp32, and in another order for another length.
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
    """Writes the rows to the settings' data file, and reads them as the trainer does."""
    settings.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabulary = bundle.manifest.model.vocabulary
    data, _ = load_data(settings.data, bundle.manifest.tokens, vocabulary, bundle.path / TOKENIZER)
    return data


def make_stepper(bundle: Bundle, used: list[Size], settings: TrainSettings, sampler: Sampler) -> Stepper:
    """A trainer's stepper with SGD, for some of a bundle's sizes."""
    stepper = Stepper(
        bundle,
        settings,
        default_threads(),
        Optimizer("sgd", LearningRate(1e-2)),
        used,
        False,
        sampler,
        lambda: False,
        settings.data.parent,
    )
    stepper.scale = load_adapter(bundle, stepper.session.state["adapter"]).at(bundle.manifest.lora.rank)
    return stepper


def compare(several: Bundle, longest: Bundle, play: str, count: int) -> dict[str, Any]:
    """Runs the epoch each way. A size's first row is not timed: it loads the size's programs."""
    sizes = several.manifest.sizes()
    whole = [size for size in sizes if size.head == size.tokens]
    ways = {"longest": (longest, longest.manifest.sizes()), "lengths": (several, whole), "targets": (several, sizes)}
    with tempfile.TemporaryDirectory() as folder, Sampler() as sampler:
        settings = TrainSettings(Path(folder) / "rows.jsonl", optimizer="sgd")
        data = load(several, dialogues(play)[:count], settings)
        steppers = {name: make_stepper(*way, settings, sampler) for name, way in ways.items()}
        rows: list[tuple[Size, dict[str, float]]] = []
        for number, example in enumerate(data.examples, 1):
            losses, taken = {}, {}
            for name, stepper in steppers.items():
                began = time.perf_counter()
                losses[name], _ = stepper.step(number, [example])
                taken[name] = time.perf_counter() - began
            if max(losses.values()) - min(losses.values()) > TOLERANCE:
                raise SystemExit(f"Row {number}: the losses are {losses}, which should agree.")
            rows.append((smallest(sizes, example.tokens, example.predictions), taken))
    first = {size: number for number, (size, _) in reversed(list(enumerate(rows)))}
    timed = [row for number, row in enumerate(rows) if number not in first.values()]
    return report(timed, {"several": several, "longest": longest})


def report(rows: list[tuple[Size, dict[str, float]]], bundles: dict[str, Bundle]) -> dict[str, Any]:
    """The results: the seconds of each way, and their ratios."""
    seconds = {name: sum(taken[name] for _, taken in rows) for name in ("longest", "lengths", "targets")}
    return {
        "command": "python -m mesp.bench.questions.sequence_lengths SEVERAL LONGEST TEXT -o FILE",
        "rows": len(rows),
        "rows_by_size": {str(size): count for size, count in sorted(Counter(size for size, _ in rows).items())},
        "epoch_seconds": seconds,
        "lengths_over_longest": seconds["lengths"] / seconds["longest"],
        "targets_over_lengths": seconds["targets"] / seconds["lengths"],
        "bundle_bytes": {
            name: sum(item["bytes"] for item in bundle.manifest.files.values()) for name, bundle in bundles.items()
        },
        "environment": environment(),
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Measure the time that sequence lengths save.")
    parser.add_argument("several", type=Path)
    parser.add_argument("longest", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=150)
    args = parser.parse_args()
    results = compare(
        open_bundle(args.several), open_bundle(args.longest), args.text.read_text(encoding="utf-8"), args.rows
    )
    write_json(args.output, results)
    print(f"{results['rows']} rows: {results['rows_by_size']}")
    print(f"epoch: {results['epoch_seconds']}")
    print(
        f"lengths over longest {results['lengths_over_longest']:.2f}, targets over lengths {results['targets_over_lengths']:.2f}"
    )


if __name__ == "__main__":
    main()
