"""The time of a step before anything is exported: its products at a rate, times a factor for all that is not products.

The rate is XNNPACK's for the products that a step has the most of, on this machine or on another one. The factor is for what a step does
beside them: dequantization, attention's softmax, norms, thin products with the adapter, calls. It is one number, so what is unlike the steps
that it was fitted to is predicted less well: a weight is dequantized once for all tokens, which weighs more in a short sequence.
"""

import time
from collections.abc import Iterable

import torch
from torch import Tensor

from mesp.runtime.engine import executorch_runtime

from ..bundle.lower import lower
from ..programs.plan import Plan
from ..programs.program import Argument, Arguments, Program
from .flops import Product, frozen_products, gigaflop, step_products

# Seconds of a step for each second of its products, at 256 tokens and int4. Between the two that benchmarks/results/ has, of steps and products
# measured in turns: Qwen2.5-0.5B 5.94 s for 683 GFLOP at 183 GFLOP/s, 1.60; SmolLM2-135M 2.11 s for 209 GFLOP at 180, 1.82.
OVER_PRODUCTS = 1.7
PARTS = ("forward", "head", "backward")  # the phases that have products to speak of
_MEASURED = 3  # products
_CALLS = 12


def duration(plan: Plan, gflops: float, sequences: int = 1) -> dict[str, float]:
    """Seconds of a step by part.

    Args:
        plan: the longest of its lengths is meant
        gflops: the rate of the products, in GFLOP/s
        sequences: of a step
    """
    phases = step_products(plan)
    return {part: sequences * OVER_PRODUCTS * gigaflop(phases[part]) / gflops for part in PARTS if part in phases}


def measured_gflops(plan: Plan) -> float:
    """XNNPACK's rate on this machine, over the frozen products that a step of the plan has the most of."""
    total = frozen_products(plan)
    largest = sorted(total, key=lambda product: product.flop * total[product])[-_MEASURED:]
    executorch_runtime.use_threads()
    timed = TimedPrograms(product_program(product) for product in largest)
    timed.measure()
    seconds = sum(timed.best(product.name) * total[product] for product in largest)
    return gigaflop({product: total[product] for product in largest}) / seconds


class TimedPrograms:
    """Programs that are timed alone, on random numbers. ``calls`` has the seconds of each one's calls so far, by name.

    A weight is an argument of theirs, as of a bundle's programs: a static one would be unpacked into memory.
    """

    def __init__(self, programs: Iterable[Program]):
        programs = list(programs)
        self._file = lower(programs).buffer
        self._module = executorch_runtime.load_from(self._file)  # reads its programs from there
        self._inputs = {program.name: [random_input(item) for item in program.inputs] for program in programs}
        self.calls: dict[str, list[float]] = {name: [] for name in self._inputs}

    def measure(self) -> None:
        """A round of calls of each."""
        for name, inputs in self._inputs.items():
            for _ in range(_CALLS):
                start = time.perf_counter()
                self._module.run_method(name, inputs, clone_outputs=False)
                self.calls[name].append(time.perf_counter() - start)

    def best(self, name: str) -> float:
        """The fastest call."""
        return min(self.calls[name])


def random_input(argument: Argument) -> Tensor:
    """Numbers for a program whose time is all that counts."""
    if argument.dtype.is_floating_point:
        return (torch.randn(argument.shape) * 0.05).to(argument.dtype)
    return torch.randint(-100, 100, argument.shape, dtype=argument.dtype)


def product_program(product: Product) -> Program:
    """A product alone, by its own name."""
    weight = (product.inner, product.columns)
    inputs = (
        Argument("x", (product.rows, product.inner)),
        Argument("weight", weight[::-1] if product.transposed else weight),
    )
    output = Argument("y", (product.rows, product.columns))

    def body(a: Arguments) -> tuple[Tensor, ...]:
        return (torch.mm(a["x"], a["weight"].t() if product.transposed else a["weight"]),)

    return Program(product.name, inputs, (output,), body)
