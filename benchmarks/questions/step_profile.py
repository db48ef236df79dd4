"""Where the time of one training step goes: by program, and by kind of work.

    python -m mesp.bench.questions.step_profile BUNDLE -o benchmarks/results/profile-NAME.json

Steps are of SGD. Each call of a program is timed from outside, and medians are over the steps after one that warms up. Then the parts of a
program are measured one by one, in turns with the steps. A part counts with its fastest call in this run:

    products        with frozen weights, each shape alone, as ``against_pytorch`` does
    dequantization  of each tile of a weight, alone
    attention       between tokens, one key-value head with its query heads: scores, softmax, and their gradients
    rest            what is left of the program: norms, thin products with the adapter, elementwise work
    slower calls    what calls took beyond the fastest one, which does the same work: other processes, cold caches and pages
    interpreter     a step's time outside of programs: the schedule, copies between tensors

A part that is measured by itself has its operands in cache and its result in memory. Inside of a program that is partly otherwise. So the
rest is a difference of measurements, and can be below zero. On a machine that others use, slower calls can be most of a step.
"""

import argparse
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.model.architecture import Attention
from mesp.export.model.quantize import Fp32, WeightFormat, to_float
from mesp.export.predict.duration import TimedPrograms, product_program
from mesp.export.predict.flops import Product, gigaflop, products
from mesp.export.programs import ops
from mesp.export.programs.attention import window_of
from mesp.export.programs.plan import Plan
from mesp.export.programs.program import Argument, Arguments, Program
from mesp.export.schedules.schedules import training_programs
from mesp.runtime.engine import executorch_runtime
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.errors import UsageError
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words

from .steps import our_step, random_ids, timed

KINDS = ("products", "dequantization", "attention", "rest", "slower calls")


class Calls:
    """Stands for ExecuTorch's module: calls it, and counts the seconds that each program takes."""

    def __init__(self, module: Any):
        self._module = module
        self.seconds: dict[str, float] = defaultdict(float)
        self.count: dict[str, int] = defaultdict(int)
        self.fastest: dict[str, float] = defaultdict(lambda: float("inf"))  # call so far

    def run_method(self, program: str, arguments: list[Tensor], clone_outputs: bool) -> Any:
        start = time.perf_counter()
        results = self._module.run_method(program, arguments, clone_outputs=clone_outputs)
        seconds = time.perf_counter() - start
        self.seconds[program] += seconds
        self.fastest[program] = min(self.fastest[program], seconds)
        self.count[program] += 1
        return results

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """(seconds, calls) by program since the last time."""
        taken = dict(self.seconds), dict(self.count)
        self.seconds.clear()
        self.count.clear()
        return taken


@contextmanager
def timed_calls() -> Iterator[list[Calls]]:
    """Times the calls of sessions that are opened while the ``with`` lasts: an entry for each session."""
    opened: list[Calls] = []
    load = executorch_runtime.load

    def wrapped(path: Path) -> Calls:
        opened.append(Calls(load(path)))
        return opened[-1]

    with patch.object(executorch_runtime, "load", wrapped):
        yield opened


# --- What a program consists of ---------------------------------------------------------------------------------------


class _Dequantizations(Arguments):
    """A program's inputs that note which weights its body dequantizes."""

    def __init__(self, inputs: Mapping[str, Tensor]):
        super().__init__(inputs)
        self.projections: list[str] = []

    def weight(self, projection: str, fmt: WeightFormat) -> Tensor:
        self.projections.append(projection)
        weight: Tensor = super().weight(projection, fmt)
        return weight


def dequantizations(program: Program, plan: Plan) -> list[Program]:
    """For each time that one call dequantizes a weight, a program that does only that."""
    if isinstance(plan.weights, Fp32):
        return []
    noted = _Dequantizations({a.name: torch.empty(a.shape, dtype=a.dtype, device="meta") for a in program.inputs})
    program.body(noted)
    parts = {argument.name: replace(argument, stored=None) for argument in program.inputs}
    alone = [_dequantization(projection, parts, plan.weights) for projection in noted.projections]
    if program.name.startswith(("head_tile", "head_loss_tile")):
        quants = parts["table.quants"]
        body = lambda a: (torch.floor(to_float(a["table.quants"])),)  # noqa: E731  # as ``head._tile_rows``
        alone.append(Program("dequantize_table", (quants,), (Argument("rows", quants.shape),), body))
    return alone


def _dequantization(projection: str, parts: Mapping[str, Argument], fmt: WeightFormat) -> Program:
    inputs = tuple(parts[f"{projection}.{part}"] for part in fmt.part_names)
    meta = Arguments({a.name: torch.empty(a.shape, dtype=a.dtype, device="meta") for a in inputs})
    output = Argument("weight", tuple(meta.weight(projection, fmt).shape))
    name = f"dequantize_{projection}_{output.shape[0]}_{output.shape[1]}"
    return Program(name, inputs, (output,), lambda a: (a.weight(projection, fmt),))


def attention(program: Program, plan: Plan) -> list[Program]:
    """A program that does only the attention between tokens of one call."""
    for sublayer in plan.architecture.sublayers:
        if isinstance(sublayer.middle, Attention):
            if program.name.startswith(f"{sublayer.name}_forward."):
                return [_attention_forward(plan, sublayer.name, sublayer.middle)]
            if program.name.startswith(f"{sublayer.name}_backward."):
                return [_attention_backward(plan, sublayer.name, sublayer.middle)]
    return []


def _attention_inputs(plan: Plan, middle: Attention) -> tuple[Argument, Argument, Argument, Argument]:
    q = Argument("q", (middle.G, plan.tokens, middle.C))
    k, v = (Argument(name, (plan.tokens, middle.C)) for name in ("k", "v"))
    return q, k, v, Argument("mask", ops.mask_shape(plan.tokens, plan.query_rows, window_of(middle, plan.tokens)))


def _attention_forward(plan: Plan, name: str, middle: Attention) -> Program:
    q, k, v, mask = _attention_inputs(plan, middle)
    how = (middle.scale, window_of(middle, plan.tokens))
    body = lambda a: (ops.attention(a["q"], a["k"], a["v"], a["mask"], *how),)  # noqa: E731
    return Program(name, (q, k, v, mask), (replace(q, name="o"),), body)


def _attention_backward(plan: Plan, name: str, middle: Attention) -> Program:
    q, k, v, mask = _attention_inputs(plan, middle)
    how = (middle.scale, window_of(middle, plan.tokens))
    do, ones = replace(q, name="do"), Argument("ones", (middle.C, 1))
    outputs = (*[replace(item, name=f"d{item.name}") for item in (q, k, v)], replace(q, name="o"))
    body = lambda a: ops.attention_backward(a["do"], a["q"], a["k"], a["v"], a["mask"], a["ones"], *how)  # noqa: E731
    return Program(f"{name}_gradient", (do, q, k, v, mask, ones), outputs, body)


class Parts:
    """The parts of a plan's programs, each measured by itself."""

    def __init__(self, plan: Plan, names: list[str]):
        programs = training_programs(plan)
        self.products: dict[str, Counter[Product]] = {
            name: Counter({p: n for p, n in products(programs[name]).items() if p.frozen}) for name in names
        }
        self.dequantizations = {name: dequantizations(programs[name], plan) for name in names}
        self.attention = {name: attention(programs[name], plan) for name in names}
        shapes = {product for counted in self.products.values() for product in counted}
        alone = {program.name: program for program in map(product_program, shapes)}
        for kind in (self.dequantizations, self.attention):
            alone |= {program.name: program for programs in kind.values() for program in programs}
        self.alone = TimedPrograms(alone.values())

    def seconds(self, name: str) -> dict[str, float]:
        """Seconds of one call of a program by kind of part, without the rest."""
        best = self.alone.best
        return {
            "products": sum(best(product.name) * count for product, count in self.products[name].items()),
            "dequantization": sum(best(program.name) for program in self.dequantizations[name]),
            "attention": sum(best(program.name) for program in self.attention[name]),
        }


# --- All of it --------------------------------------------------------------------------------------------------------


def profile(path: Path, steps: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Takes the steps and returns the results.

    Raises:
        UsageError: a bundle of MeBP, whose backward pass is one program: its parts cannot be told apart.
    """
    bundle = open_bundle(path)
    plan = bundle_plan(bundle)
    if plan.settings.method == "mebp":
        raise UsageError(f"{path} is of method mebp, whose backward pass is one program: its attention is not known.")
    with timed_calls() as opened:
        step = our_step(bundle, random_ids(plan))
    (calls,) = opened
    calls.take()  # what a session runs when it is made
    step()
    _, count = calls.take()
    say(f"lowering the parts of {len(count)} programs")
    parts = Parts(plan, list(count))
    whole: list[float] = []
    by_program: dict[str, list[float]] = {name: [] for name in count}
    for number in range(1, steps + 1):
        whole.append(timed(step))
        seconds, _ = calls.take()
        for name, value in seconds.items():
            by_program[name].append(value)
        parts.alone.measure()
        say(f"step {number} of {steps}: {whole[-1]:.2f} s, {sum(seconds.values()):.2f} in programs")
    outside = [all_of_it - sum(inside) for all_of_it, *inside in zip(whole, *by_program.values(), strict=True)]
    programs = [
        _program(name, count[name], median(by_program[name]), calls.fastest[name], parts.seconds(name))
        for name in count
    ]
    return {
        "command": "python -m mesp.bench.questions.step_profile BUNDLE -o FILE",
        "model": bundle.manifest.model.config["model_type"],
        "method": plan.settings.method,
        "tokens": plan.tokens,
        "rank": plan.rank,
        "weights": weights_in_words(bundle.manifest.plan),
        "step_seconds": whole,
        "median_step_seconds": median(whole),
        "products_gflop": sum(gigaflop(parts.products[name]) * count[name] for name in count),
        "seconds": {kind: sum(item[kind] for item in programs) for kind in KINDS} | {"interpreter": median(outside)},
        "programs": sorted(programs, key=lambda item: -item["seconds"]),
        "environment": environment(),
    }


def _program(name: str, count: int, seconds: float, fastest: float, parts: dict[str, float]) -> dict[str, Any]:
    """A program's seconds in a step, by kind, from the seconds of the parts of a call."""
    kinds = {kind: value * count for kind, value in parts.items()}
    kinds |= {"rest": fastest * count - sum(kinds.values()), "slower calls": seconds - fastest * count}
    return {
        "program": name,
        "calls": count,
        "seconds": seconds,
        **kinds,
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Prints the results as a table."""
    step = results["median_step_seconds"]
    table = Table("program", "calls", "s", "share", "prod.", "deq.", "att.", "rest", "slower", box=SIMPLE)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for item in results["programs"]:
        if item["seconds"] >= step / 1000:
            kinds = [f"{item[kind]:.3f}" for kind in KINDS]
            table.add_row(
                item["program"], str(item["calls"]), f"{item['seconds']:.3f}", f"{item['seconds'] / step:.1%}", *kinds
            )
    console.print(table)
    for kind, seconds in results["seconds"].items():
        console.print(f"{seconds:8.3f} s  {seconds / step:6.1%}  {kind}", highlight=False)
    console.print(f"{step:8.3f} s          a step, median of {len(results['step_seconds'])}", highlight=False)


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Show where the time of a training step goes.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=7, help="that are timed")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps {args.steps} must be at least 1")
    warnings.simplefilter("ignore", FutureWarning)
    console = Console()
    try:
        results = profile(args.bundle, args.steps, lambda text: console.print(text, highlight=False))
    except UsageError as error:
        parser.error(str(error))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, results)
    show(results, console)


if __name__ == "__main__":
    main()
