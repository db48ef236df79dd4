"""Shows that a wrong schedule is found: every store left out, every stride lost and every pass over the layers turned round is caught, either
by the check that each bundle goes through when it is opened, or by the gradients."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.export.bundle.export import program_specs
from mesp.export.export_settings import Tiling
from mesp.runtime.engine.schedule import (
    Call,
    Draw,
    For,
    Instruction,
    Instructions,
    Let,
    Phase,
    Reference,
    Store,
    TensorSpec,
    check,
)
from mesp.runtime.errors import MespError
from mesp.runtime.training.adapter import named

from .checks import relative_error
from .models import LLAMA, EagerSession, example, plan_of, save_checkpoint
from .test_model import peft_gradients
from .tolerances import FINITE_DIFFERENCE, SCHEDULE_FP64

TOKENS = 7
TILES = Tiling(query_rows=4, ffn=32, vocabulary=40, rows=3)  # several of each kind, so that every stride counts
CONFIG = {**LLAMA, "num_hidden_layers": 3}
METHODS = ("mesp", "store-h", "mebp", "mezo")
# Stores of what is there already, so nothing is wrong without them: MeSP's second rebuilding of an attention's norm in a layer, and MeZO's
# second embedding of the same tokens. Each is of whole groups of rows and of the rest.
SPARE = {
    "mesp": Counter({f"no h.{p}.rows -> h.{p}": 2 for p in ("q_proj", "k_proj", "v_proj")}),
    "mezo": Counter({"no x.rows -> embedded": 2}),
}


@dataclass(frozen=True)
class Mutant:
    """A schedule with one thing wrong, and what that is."""

    name: str
    instructions: Instructions


def mutants(instructions: Instructions, loops: dict[str, int] | None = None) -> Iterator[Mutant]:
    """Every schedule that differs from this one in one place."""
    loops = loops or {}
    for place, instruction in enumerate(instructions):
        before, after = instructions[:place], instructions[place + 1 :]
        if isinstance(instruction, Store):
            yield Mutant(f"no {instruction.value} -> {instruction.reference.tensor}", before + after)
        if isinstance(instruction, For) and order_matters(instruction):
            turned = replace(instruction, reverse=not instruction.reverse)
            yield Mutant(f"{phase_of(instruction)} turned round", (*before, turned, *after))
        if isinstance(instruction, For | Phase):
            inner = {**loops, instruction.variable: instruction.count} if isinstance(instruction, For) else loops
            for mutant in mutants(instruction.body, inner):
                yield replace(mutant, instructions=(*before, replace(instruction, body=mutant.instructions), *after))
        for name, wrong in without_a_stride(instruction, loops):
            yield Mutant(name, (*before, wrong, *after))


def order_matters(loop: For) -> bool:
    """Each layer needs what the one before it gave; but perturbing and estimating take each by itself, and tiles and rows too."""
    return loop.variable == "layer" and loop.count > 1 and phase_of(loop) not in ("perturb", "update")


def phase_of(loop: For) -> str:
    return next((item.name for item in loop.body if isinstance(item, Phase)), "loop")


def without_a_stride(instruction: Instruction, loops: dict[str, int]) -> Iterator[tuple[str, Instruction]]:
    match instruction:
        case Store(_, reference):
            for name, wrong in stuck(reference, loops):
                yield f"store: {name}", replace(instruction, reference=wrong)
        case Let(_, Reference() as source, _):
            for name, wrong in stuck(source, loops):
                yield f"let: {name}", replace(instruction, source=wrong)
        case Call(program, inputs, _):
            for i, item in enumerate(inputs):
                for name, wrong in stuck(item, loops) if isinstance(item, Reference) else ():
                    yield f"{program}: {name}", replace(instruction, inputs=(*inputs[:i], wrong, *inputs[i + 1 :]))
        case Draw(_, _, _, strides):
            for variable in strides:
                yield f"draw: the same for every {variable}", replace(instruction, strides={**strides, variable: 0})


def stuck(reference: Reference, loops: dict[str, int]) -> Iterator[tuple[str, Reference]]:
    """The reference without one of its strides, of those loops that have more than one pass."""
    for variable in reference.strides:
        if loops[variable] > 1:
            strides = {**reference.strides, variable: 0}
            yield f"{reference.tensor} of every {variable} is the first's", replace(reference, strides=strides)


class Checked:
    """A method's schedule of gradients, run eagerly, and what transformers and PEFT say that it must give."""

    def __init__(self, method: str, folder: Path):
        model = save_checkpoint(folder / "checkpoint", **CONFIG)
        plan = plan_of(model.config, (TOKENS,), 2, tiling=TILES, layers=2, method=method)
        self.session = EagerSession(plan, folder / "checkpoint", folder)
        self.tolerance = SCHEDULE_FP64
        weights = torch.arange(1, TOKENS + 1, dtype=torch.float64).view(
            -1, 1
        )  # each row's own, so that a wrong one shows
        self.data: dict[str, Any] = {**example(TOKENS, CONFIG["vocab_size"]), "token_weight": weights / weights.sum()}
        loss, gradients = peft_gradients(model, self.session, self.data)
        self.instructions = self.session.schedules.schedules()[f"gradients.{TOKENS}"]
        self.start = {name: tensor.clone() for name, tensor in self.session.tensors.items()}
        if method == "mezo":
            self.data |= {"noise_seed": torch.tensor(7), "perturbation": 1e-5}
            self.tolerance = FINITE_DIFFERENCE
        self.expected: tuple[Tensor, dict[str, Tensor]] = loss.view(1, 1), gradients
        if (
            method == "mezo"
        ):  # an estimate: what the right schedule gives, which test_model.py holds against the exact slope
            assert not self.problem(self.instructions, only_loss=True)
            self.expected = self.session.get("loss").clone(), self.gradients()

    def gradients(self) -> dict[str, Tensor]:
        return {
            name: tensor.clone() for name, tensor in named(self.session.lora, self.session.get("gradients")).items()
        }

    def problem(self, instructions: Instructions, only_loss: bool = False) -> str:
        """What is wrong with a schedule; nothing if it is right."""
        for name, tensor in self.start.items():
            self.session.tensors[name].copy_(tensor)
        for name, value in self.data.items():
            value = torch.as_tensor(value).reshape(-1)
            self.session.tensors[name][: len(value)] = value
        programs = self.session.programs
        specs = {name: TensorSpec((t.numel(),), dtype_of(t, self.session.dtype)) for name, t in self.start.items()}
        try:
            check(instructions, program_specs(programs, dict.fromkeys(programs, 0)), specs)
        except MespError as error:
            return str(error)
        self.session._run(instructions, {}, {})
        loss, gradients = self.expected
        if not relative_error(self.session.get("loss"), loss) <= self.tolerance:
            return "loss"
        adapter = self.session.tensors["adapter"]
        if not relative_error(adapter, self.start["adapter"]) <= self.tolerance:
            return "adapter"
        found = {} if only_loss else self.gradients()
        return next((name for name in found if not relative_error(found[name], gradients[name]) <= self.tolerance), "")


def dtype_of(tensor: Tensor, precision: torch.dtype) -> str:
    return "float32" if tensor.dtype == precision else str(tensor.dtype).removeprefix("torch.")


@cache
def checked(method: str) -> Checked:
    with TemporaryDirectory() as folder:
        return Checked(method, Path(folder))


@pytest.mark.parametrize("method", METHODS)
def test_the_right_schedule_has_no_problem(method: str) -> None:
    assert checked(method).problem(checked(method).instructions) == ""


@pytest.mark.parametrize("method", ["mesp", *(pytest.param(name, marks=pytest.mark.thorough) for name in METHODS[1:])])
def test_every_wrong_schedule_is_caught(method: str) -> None:
    all_of_them = list(mutants(checked(method).instructions))
    missed = Counter(mutant.name for mutant in all_of_them if not checked(method).problem(mutant.instructions))
    assert missed == SPARE.get(method, Counter())
    for kind in ("no ", "is the first's", "turned round"):
        assert any(kind in mutant.name for mutant in all_of_them)
