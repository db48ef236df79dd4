"""One step of a bundle against PyTorch, and against the time of its matrix products alone; the results as JSON.

    python benchmarks/compare.py BUNDLE -o benchmarks/results/NAME.json

A step of the bundle (SGD), one of PyTorch eager with PEFT and gradient checkpointing on the same dequantized weights, tokens and cores, and a
round of the products take turns, so that a machine that is slow for a while is slow for all. Each has a process of its own, which
sleeps while the others work: one's threads would spin on the other's cores. Memory is what `mesp train` reports.

The products alone: every product of a step with a frozen weight, each at the best rate that XNNPACK reached for that shape in this run
(weights as arguments: a static weight would be unpacked into memory), and once more at the median rate, which a shared machine's noise
slows as it does the steps. Attention's products between tokens, norms, dequantization and
calls are what the rest of a step's time is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mesp.export.predict.duration import TimedPrograms, product_program
from mesp.export.predict.flops import frozen_products, gigaflop
from mesp.export.programs.plan import Plan
from mesp.export.reference.verify import bundle_plan, reference_model
from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.engine.session import Session
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.training.loop import load_adapter
from mesp.runtime.training.optimizer import LearningRate, Optimizer
from mesp.runtime.training.stepper import noise

ROUNDS = 9


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def eager_step(bundle: Bundle, ids: Tensor) -> Callable[[], None]:
    """transformers and PEFT, fp32, gradient checkpointing, torch.optim.SGD."""
    from peft import LoraConfig, get_peft_model

    lora = bundle.manifest.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    base = reference_model(bundle)
    base.set_attn_implementation("sdpa")
    model = get_peft_model(base, config)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step() -> None:
        torch.autograd.backward(model(input_ids=ids[None, :-1], labels=ids[None, :-1]).loss)
        optimizer.step()
        optimizer.zero_grad()

    return step


# --- The products alone -----------------------------------------------------------------------------------------------


class ProductsAlone:
    """The frozen products of a step, each shape in a program of its own."""

    def __init__(self, plan: Plan):
        self._counts = frozen_products(plan)
        self._alone = TimedPrograms(map(product_program, self._counts))

    def measure(self) -> dict[str, float]:
        """After one more round: GFLOP, and the seconds of all products, each at its best and at its median rate so far."""
        self._alone.measure()
        calls = [(self._alone.calls[product.name], count) for product, count in self._counts.items()]
        return {
            "gflop": gigaflop(self._counts),
            "at best rate": sum(min(seconds) * count for seconds, count in calls),
            "at median rate": sum(median(seconds) * count for seconds, count in calls),
        }


# --- All of it --------------------------------------------------------------------------------------------------------


def trained_memory(path: Path, ids: Tensor, labels: Tensor) -> dict[str, Any]:
    """Three steps of SGD on one row, in a process of their own: what its report says of memory."""
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "rows.jsonl", Path(folder) / "run"
        data.write_text(json.dumps({"input_ids": ids.tolist(), "labels": labels.tolist()}) + "\n")
        mesp = str(Path(sys.executable).with_name("mesp"))
        settings = ("--steps", "3", "--optimizer", "sgd", "--lr", "1e-3")
        command = [mesp, "train", str(path), "--data", str(data), *settings, "-o", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        memory: dict[str, Any] = json.loads((run / "report.json").read_text())["memory"]
        return memory


def our_step(bundle: Bundle, ids: Tensor) -> Callable[[], Any]:
    """A step of SGD by the bundle's own schedule."""
    optimizer, tokens = Optimizer("sgd", LearningRate(1e-3)), bundle.manifest.tokens
    schedule = f"train.{optimizer.program}.{tokens}"
    session = Session(bundle, [schedule])
    inputs = {"input_ids": ids[:-1], "targets": ids[1:], "token_weight": torch.full((tokens, 1), 1 / tokens)}
    scale = load_adapter(bundle, session.state["adapter"]).at(bundle.manifest.lora.rank)
    inputs |= {"lora_scale": scale, **optimizer.scalars(1), **noise(0, 1, 0)}
    return partial(session.run, schedule, inputs)


def random_ids(plan: Plan) -> Tensor:
    """One token more than the sequence."""
    return torch.randint(plan.architecture.V, (plan.tokens + 1,), generator=torch.Generator().manual_seed(0))


def work(path: Path, kind: str, pipe: Connection) -> None:
    """A process: prepares, then does a round for each message and answers with its seconds."""
    bundle = open_bundle(path, verify_files=False)
    plan = bundle_plan(bundle)
    if kind == "products":
        alone = ProductsAlone(plan)
        while pipe.recv():
            pipe.send(alone.measure())
        return
    step = (our_step if kind == "ours" else eager_step)(bundle, random_ids(plan))
    while pipe.recv():
        pipe.send(timed(step))


def compare(path: Path) -> dict[str, Any]:
    """Runs everything and returns the results."""
    bundle = open_bundle(path)
    plan = bundle_plan(bundle)
    ids = random_ids(plan)
    memory = trained_memory(path, ids, ids)
    context, pipes, workers = get_context("spawn"), {}, []
    seconds: dict[str, list[float]] = {"ours": [], "eager": []}
    for kind in (*seconds, "products"):
        pipes[kind], theirs = context.Pipe()
        workers.append(context.Process(target=work, args=(path, kind, theirs), daemon=True))
        workers[-1].start()

    def ask(kind: str) -> Any:
        pipes[kind].send(True)
        return pipes[kind].recv()

    for number in range(ROUNDS + 1):
        round_ = {kind: ask(kind) for kind in seconds}
        products = ask("products")
        if number:  # the first round warms up
            for kind, value in round_.items():
                seconds[kind].append(value)
            print(
                f"round {number}: {round_['ours']:.3f} s, PyTorch {round_['eager']:.3f} s, products "
                f"{products['at best rate']:.3f} s, {products['at median rate']:.3f} at the median rate",
                flush=True,
            )
    for pipe, worker in zip(pipes.values(), workers, strict=True):
        pipe.send(False)
        worker.join()
    ours, eager = seconds["ours"], seconds["eager"]
    return {
        "model": bundle.manifest.model["config"]["model_type"],
        "tokens": plan.tokens,
        "rank": plan.rank,
        "weights": dict(bundle.manifest.weights),
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
    """The command line."""
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
