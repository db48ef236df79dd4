"""The products of a step, counted before anything is exported: each program is run once on tensors without data, and its products are written
down; the schedule says how often it is called.

All that a step computes beside products is left out, which is the smaller part: ``duration`` has a factor for it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mesp.runtime.engine.schedule import Call, For, Instructions, Phase

from ..export_settings import WEIGHTS
from ..model.quantize import weight_format
from ..programs.plan import Plan
from ..programs.program import Argument, Program, sized_name
from ..schedules.schedules import Schedules

_aten = torch.ops.aten
# What the weight formats store a projection as.
_WEIGHT_PARTS = {part for name in WEIGHTS for part in weight_format(name).part_names}


@dataclass(frozen=True)
class Product:
    """x [rows, inner] times w [inner, columns].

    Args:
        transposed: w lies in memory as [columns, inner]
        frozen: w is a frozen weight: a projection's or the head's; else both are activations or the adapter's
    """

    rows: int
    inner: int
    columns: int
    transposed: bool
    frozen: bool

    @property
    def name(self) -> str:
        """One for each shape."""
        return f"product_{self.rows}_{self.inner}_{self.columns}{'_transposed' if self.transposed else ''}"

    @property
    def flop(self) -> int:
        return 2 * self.rows * self.inner * self.columns


def is_frozen(argument: Argument) -> bool:
    """Whether an argument is a part of a projection's weight, or of a table's."""
    owner, _, part = argument.name.rpartition(".")
    return owner == "table" or part in _WEIGHT_PARTS


class _Recorder(TorchDispatchMode):
    """Writes down the products of what runs under it. What is made of frozen tensors alone is frozen too: a dequantized weight is."""

    def __init__(self, frozen: list[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.products: Counter[Product] = Counter()
        self._frozen = frozen  # kept, so that no other tensor is given their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is _aten.mm.default:
            self._record(*args)
        else:
            assert func not in (_aten.bmm.default, _aten.addmm.default, _aten.baddbmm.default), func
            operands = [item for item in tree_leaves(args) if isinstance(item, Tensor)]
            if isinstance(result, Tensor) and operands and all(self._is_frozen(item) for item in operands):
                self._frozen.append(result)
        return result

    def _record(self, x: Tensor, weight: Tensor) -> None:
        (rows, inner), columns = x.shape, weight.shape[1]
        self.products[Product(rows, inner, columns, not weight.is_contiguous(), self._is_frozen(weight))] += 1

    def _is_frozen(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()._cdata
        return any(storage == item.untyped_storage()._cdata for item in self._frozen)


def products(program: Program) -> Counter[Product]:
    """The products of one call; also the few thin ones whose result a body leaves unused, which lowering takes out."""
    inputs = {a.name: torch.empty(a.shape, dtype=a.dtype, device="meta") for a in program.inputs}
    recorder = _Recorder([inputs[a.name] for a in program.inputs if is_frozen(a)])
    with recorder:
        program.run(inputs)
    return recorder.products


def calls(instructions: Instructions) -> dict[str, Counter[str]]:
    """How often a schedule calls each program, by the phase in which it does; calls outside of any are of the phase ""."""
    counted: dict[str, Counter[str]] = {}

    def count(body: Instructions, phase: str, times: int) -> None:
        for instruction in body:
            match instruction:
                case Call(program):
                    counted.setdefault(phase, Counter())[program] += times
                case For():
                    count(instruction.body, phase, times * instruction.count)
                case Phase(name):
                    count(instruction.body, name, times)

    count(instructions, "", 1)
    return counted


def step_products(plan: Plan, optimizer: str = "sgd") -> dict[str, Counter[Product]]:
    """The products of a step on one sequence of ``plan.tokens``, by phase."""
    schedules = Schedules(plan.at(plan.tokens))
    instructions = schedules.schedules()[sized_name(f"train.{optimizer}", plan.tokens)]
    once: dict[str, Counter[Product]] = {}
    return {phase: _all(programs, schedules.programs, once) for phase, programs in calls(instructions).items()}


def _all(
    counted: Mapping[str, int], programs: Mapping[str, Program], once: dict[str, Counter[Product]]
) -> Counter[Product]:
    """The products of all calls; ``once`` keeps those of one call."""
    total: Counter[Product] = Counter()
    for name, times in counted.items():
        if name not in once:
            once[name] = products(programs[name])
        total.update({product: times * count for product, count in once[name].items()})
    return total


def frozen_products(plan: Plan) -> Counter[Product]:
    """Those of a step with a frozen weight."""
    total: Counter[Product] = Counter()
    for counted in step_products(plan).values():
        total.update({product: times for product, times in counted.items() if product.frozen})
    return total


def gigaflop(counted: Mapping[Product, int]) -> float:
    """Of all of them."""
    return sum(product.flop * times for product, times in counted.items()) / 1e9
