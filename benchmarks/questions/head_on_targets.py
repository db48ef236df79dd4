"""The head only on the rows that have a target, against the head on all rows: time and memory of a step, and the gradient.

    mesp export CHECKPOINT --head-rows 64 -o BUNDLE
    python -m mesp.bench.questions.head_on_targets BUNDLE -o benchmarks/results/head-rows-NAME.json

The sequence is of random tokens, as long as the bundle's longest. Its targets are at its end, as the answer in a chat is, and as many as the
bundle's smallest head has rows. One session takes steps by both schedules in turns. The learning rate is zero, so both start from the same
adapter. Memory is what training reports after three steps, with few targets and with all.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mesp.export.bundle.make_plan import bundle_plan
from mesp.runtime.data.dataset import Example, inputs
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.session import Session
from mesp.runtime.engine.sizes import Size
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.training.loop import load_adapter
from mesp.runtime.training.optimizer import LearningRate, Optimizer
from mesp.runtime.training.stepper import noise

from .steps import ROUNDS, random_ids, timed, trained_memory


def measure(path: Path) -> dict[str, Any]:
    """Both schedules' times, losses and gradient norms, and both runs' memory."""
    bundle = open_bundle(path)
    plan = bundle_plan(bundle)
    if not plan.head_rows:
        raise SystemExit(f"{path} was exported without --head-rows.")
    few, tokens, ids = plan.head_rows[0], plan.tokens, random_ids(plan)
    labels = torch.full_like(ids, MASKED)
    labels[-few:] = ids[-few:]
    example = Example(ids[:-1], labels[1:])
    optimizer = Optimizer("sgd", LearningRate(0.0))
    sizes = {"all rows": Size(tokens, tokens), "rows with targets": Size(tokens, few)}
    session = Session(bundle, [f"train.sgd.{size.name}" for size in sizes.values()])
    scale = load_adapter(bundle, session.state["adapter"]).at(plan.rank)
    fixed: dict[str, Tensor | float] = {"lora_scale": scale, **optimizer.scalars(1), **noise(0, 1, 0)}
    steps = {
        name: partial(session.run, f"train.sgd.{size.name}", {**inputs(example, size, few), **fixed})
        for name, size in sizes.items()
    }
    seconds = [{name: timed(step) for name, step in steps.items()} for _ in range(ROUNDS + 1)][1:]  # the first warms up
    labels_of = {"all rows": ids, "rows with targets": labels}
    found = {
        name: {
            "step_seconds": [round_[name] for round_ in seconds],
            **{key: float(value) for key, value in step().items()},
            "memory": trained_memory(path, ids, labels_of[name]),
        }
        for name, step in steps.items()
    }
    return {"tokens": tokens, "targets": few, **found}


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Compare the head on few rows with the head on all.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    results = measure(args.bundle)
    for name in ("all rows", "rows with targets"):
        item = results[name]
        print(
            f"{name:18} {median(item['step_seconds']):.3f} s  {item['memory']['delta_footprint_bytes'] / 1e6:.1f} MB over idle  "
            f"loss {item['loss']:.6f}  squared norm {item['gradient_square_sum']:.6e}"
        )
    write_json(
        args.output,
        {
            "command": "python -m mesp.bench.questions.head_on_targets BUNDLE -o FILE",
            **results,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
