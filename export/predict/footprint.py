"""The memory of a step before anything is exported: what the schedules will allocate, and what XNNPACK will need beside it.

Buffers, results and states are counted from the schedules themselves. Two parts are not known from them, and are measured:

    workspace      XNNPACK's, as large as the largest program needs (``workspace``)
    interpreter    programs, schedules and what reads them: 1.8 MB for SmolLM2-135M and for Qwen2.5-0.5B; of a third kind of sublayer as much
                   again, for Gemma 3 1B and LFM2-350M 3.6 to 4.0
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from mesp.runtime.engine.arena import plan_arena
from mesp.runtime.engine.schedule import Call, references, walk
from mesp.runtime.engine.sizes import schedule_names, sizes

from ..bundle.weights_file import weight_tensors
from ..programs.plan import Plan
from ..programs.program import F32, Program
from ..schedules.schedules import Schedules, method_of

SHORTEST = 16  # tokens of a sequence that is looked for
_INTERPRETER_BYTES = 1_800_000
_PLANNED_BESIDE = 64  # bytes of a program's results, for its sizes and alignment


def footprint(plan: Plan, optimizer: str = "adamw", accumulates: bool = False, clips: bool = False) -> dict[str, int]:
    """The peak over an idle process by part, in bytes.

    Args:
        plan: with every length that rows will need
        optimizer: sgd, momentum or adamw
        accumulates, clips: whether a step has several sequences, and whether its gradient is clipped
    """
    schedules = Schedules(plan)
    tensors, written = schedules.tensors(), schedules.schedules()
    # Rows may have targets everywhere; the shorter heads that were asked for are there beside those.
    chosen = [size for size in sizes(plan.lengths, plan.head_rows) if size.head in (size.tokens, *plan.head_rows)]
    names = schedule_names(optimizer, chosen, False, accumulates, clips)
    specs = weight_tensors(plan) | {name: tensor.spec for name, tensor in tensors.items()}
    kinds = {name: tensor.kind for name, tensor in tensors.items() if tensor.in_arena}
    used = {reference.tensor for name in names for reference in references(written[name])}
    called = {item.program for name in names for item in walk(written[name]) if isinstance(item, Call)}
    arena = max(plan_arena(written[name], specs, kinds).nbytes for name in names)
    block_inputs = tensors["block_inputs"].spec.nbytes if "block_inputs" in kinds else 0
    states = {name: tensors[name].spec.nbytes for name in tensors if tensors[name].kind == "state" and name in used}
    return {
        "block inputs": block_inputs,
        "other buffers": arena - block_inputs,
        **states,
        "results of the programs": sum(_result_bytes(plan, schedules.programs[name]) for name in called),
        "XNNPACK's workspace": method_of(plan).workspace(plan),
        "interpreter": _INTERPRETER_BYTES * max(1, len(plan.architecture.sublayers) - 1),
    }


def _result_bytes(plan: Plan, program: Program) -> int:
    """Its results, and rows of the table that are gathered outside of the delegate."""
    results: int = sum(argument.spec.nbytes for argument in program.outputs)
    names = {argument.name: argument for argument in program.inputs}
    gathered = names.get("input_ids") or names.get("targets")
    if gathered and plan.quantized_tables:
        results += gathered.shape[0] * (plan.architecture.D + 4)
    elif gathered and (
        gathered.name == "targets" or plan.architecture.embedding_scale != 1
    ):  # else the rows are its result
        results += gathered.shape[0] * plan.architecture.D * 4
    if any(argument.dtype == torch.float16 for argument in (*program.inputs, *program.outputs)):
        results += replace(program.inputs[0], dtype=F32).spec.nbytes  # between the delegate and the conversion
    return results + _PLANNED_BESIDE


def longest_within(
    budget: int, longest: int, make: Callable[[int], Plan], predict: Callable[[Plan], Mapping[str, int]]
) -> Plan | None:
    """The plan of the longest sequence whose footprint is at most ``budget`` bytes, in steps of ``SHORTEST`` tokens up to ``longest``.

    Args:
        make: the plan of a sequence of so many tokens, with the tiles that an export would have

    Returns:
        None if not even the shortest fits.
    """

    def fits(steps: int) -> bool:
        return sum(predict(make(SHORTEST * steps)).values()) <= budget

    low, high = 0, longest // SHORTEST  # low fits, if it is any length at all
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return make(SHORTEST * low) if low else None
