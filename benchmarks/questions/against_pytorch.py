"""A step of a bundle against PyTorch's, and against the time of its matrix products alone.

    python -m mesp.bench.questions.against_pytorch BUNDLE -o benchmarks/results/NAME.json

Three processes take turns, so that a machine that is slow for a while is slow for all. Each sleeps while the others work, since its
threads would spin on their cores.

    ours        a step of the bundle, SGD
    eager       a step of PyTorch with PEFT and gradient checkpointing, on the same dequantized weights, tokens and cores
    products    every product of a step with a frozen weight, and nothing else

A product's time is that of its shape at the best rate that XNNPACK reached in this run, and once more at the median rate, which noise slows
as it slows the steps. Weights are arguments: static ones would be unpacked into memory. The rest of a step's time is attention between
tokens, norms, dequantization and calls. Memory is what training reports.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.predict.duration import TimedPrograms, product_program
from mesp.export.predict.flops import frozen_products, gigaflop
from mesp.export.programs.plan import Plan
from mesp.export.reference.transformers_model import reference_model
from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words

from ..baselines.baseline import with_adapters
from .steps import ROUNDS, random_ids, seconds_of_our_step, timed, trained_memory, workers

# --- PyTorch ----------------------------------------------------------------------------------------------------------


def eager_step(bundle: Bundle, ids: Tensor) -> Callable[[], None]:
    """transformers and PEFT, fp32, gradient checkpointing, torch.optim.SGD."""
    lora = bundle.manifest.lora
    base = reference_model(bundle)
    base.set_attn_implementation("sdpa")
    model = with_adapters(base, lora.rank, lora.alpha, lora.targets)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step() -> None:
        torch.autograd.backward(model(input_ids=ids[None, :-1], labels=ids[None, :-1]).loss)
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds_of_eager_step(path: Path) -> Callable[[], float]:
    """A function that takes PyTorch's step of a bundle and returns its seconds."""
    bundle = open_bundle(path, verify_files=False)
    return partial(timed, eager_step(bundle, random_ids(bundle_plan(bundle))))


# --- The products alone -----------------------------------------------------------------------------------------------


class ProductsAlone:
    """The frozen products of a step, each shape in a program of its own."""

    def __init__(self, plan: Plan):
        self._counts = frozen_products(plan)
        self._alone = TimedPrograms(map(product_program, self._counts))

    def measure(self) -> dict[str, float]:
        """Runs one more round. Returns GFLOP, and the seconds of all products at their best and at their median rates so far."""
        self._alone.measure()
        calls = [(self._alone.calls[product.name], count) for product, count in self._counts.items()]
        return {
            "gflop": gigaflop(self._counts),
            "at best rate": sum(min(seconds) * count for seconds, count in calls),
            "at median rate": sum(median(seconds) * count for seconds, count in calls),
        }


def seconds_of_products(path: Path) -> Callable[[], dict[str, float]]:
    """A function that measures a bundle's products once more."""
    return ProductsAlone(bundle_plan(open_bundle(path, verify_files=False))).measure


# --- All of it --------------------------------------------------------------------------------------------------------


def compare(path: Path) -> dict[str, Any]:
    """Runs everything and returns the results."""
    bundle = open_bundle(path)
    plan = bundle_plan(bundle)
    memory = trained_memory(path, random_ids(plan))
    processes = {
        "ours": (seconds_of_our_step, path),
        "eager": (seconds_of_eager_step, path),
        "products": (seconds_of_products, path),
    }
    seconds: dict[str, list[float]] = {"ours": [], "eager": []}
    with workers(processes) as ask:
        for number in range(ROUNDS + 1):
            round_ = {kind: ask[kind]() for kind in seconds}
            products = ask["products"]()
            if number:  # the first round warms up
                for kind, value in round_.items():
                    seconds[kind].append(value)
                print(
                    f"round {number}: {round_['ours']:.3f} s, PyTorch {round_['eager']:.3f} s, products "
                    f"{products['at best rate']:.3f} s, {products['at median rate']:.3f} at the median rate",
                    flush=True,
                )
    ours, eager = seconds["ours"], seconds["eager"]
    return {
        "model": bundle.manifest.model.config["model_type"],
        "tokens": plan.tokens,
        "rank": plan.rank,
        "weights": weights_in_words(bundle.manifest.plan),
        "step_seconds": ours,
        "eager_step_seconds": eager,
        "step_over_eager": median(ours) / median(eager),
        "products_seconds_at_best_rate": products["at best rate"],
        "products_seconds_at_median_rate": products["at median rate"],
        "products_gflop": products["gflop"],
        "step_over_products": median(ours) / products["at best rate"],
        "fastest_step_over_products": min(ours) / products["at best rate"],
        "step_over_products_at_median_rate": median(ours) / products["at median rate"],
        "memory": memory,
        "environment": environment(),
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(
        description="Compare a step of a bundle with PyTorch and with its matrix products alone."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    results = compare(args.bundle)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, results)
    for name in (name for name in results if "_over_" in name):
        print(f"{name:34} {results[name]:.3f}")
    print(f"{'peak over idle':34} {results['memory']['delta_footprint_bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
