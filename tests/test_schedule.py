"""The checks of a schedule and its arena: what a damaged or badly built bundle could say is refused before it runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from mesp.runtime.engine.arena import Arena, Placed, check_arena, lifetimes, plan_arena
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.schedule import (
    Call,
    For,
    Instruction,
    Instructions,
    Let,
    Phase,
    ProgramSpec,
    Reference,
    Store,
    TensorSpec,
    check,
    from_json,
    to_json,
)
from mesp.runtime.errors import MespError
from mesp.runtime.report.inspect import describe

X = TensorSpec((4,))
PROGRAMS = {
    "double": ProgramSpec({"x": X}, {"y": X}, 16),
    "add": ProgramSpec({"total": X, "x": X}, {"total": X}, 16),
}
TENSORS = {
    "weights": TensorSpec((3, 4)),
    "kept": TensorSpec((3, 4)),
    "ids": TensorSpec((4,), "int64"),
    "input": X,
    "output": X,
}
KINDS = {"kept": "buffer", "input": "input", "output": "output"}
ROW = {"layer": 4}


def loop(*body: Instruction, reverse: bool = False) -> For:
    return For("layer", 0, 3, reverse, body)


GOOD: Instructions = (
    Let("total", Reference("input"), X),
    Phase(
        "forward",
        (
            loop(
                Call("double", (Reference("weights", 0, ROW),), ("y",)),
                Store("y", Reference("kept", 0, ROW)),
                Call("add", ("total", "y"), ("total",)),
            ),
        ),
    ),
    loop(Let("x", Reference("kept", 0, ROW), X), Call("add", ("total", "x"), ("total",)), reverse=True),
    Store("total", Reference("output")),
)


def test_a_good_schedule_passes_and_survives_json() -> None:
    check(GOOD, PROGRAMS, TENSORS)
    assert from_json(to_json(GOOD)) == GOOD


BAD: dict[str, tuple[Instructions, str]] = {
    "undefined value": ((Call("double", ("nothing",), ("y",)),), "uses 'nothing' before it has a value"),
    "unknown program": ((Call("triple", (), ()),), "program 'triple'"),
    "number of inputs": ((Call("double", (), ("y",)),), "wrong number"),
    "unknown tensor": ((Call("double", (Reference("absent"),), ("y",)),), "tensor 'absent'"),
    "dtype": ((Call("double", (Reference("ids"),), ("y",)),), "is float32, but ids is int64"),
    "out of range": ((loop(Call("double", (Reference("weights", 4, ROW),), ("y",))),), "reaches from element 4 to 16"),
    "before the start": ((loop(Call("double", (Reference("weights", -4, ROW),), ("y",))),), "reaches from element -4"),
    "outside a loop": ((Call("double", (Reference("weights", 0, ROW),), ("y",)),), "outside of such a loop"),
    "loop variable twice": ((loop(loop(Let("x", Reference("input"), X))),), "used by an outer loop"),
    "shape of a value": ((Let("x", Reference("input"), TensorSpec((2,))), Call("double", ("x",), ("y",))), "but x is"),
    "overwritten result": (
        (
            Call("double", (Reference("input"),), ("one",)),
            Call("double", (Reference("input"),), ("two",)),
            Call("add", ("one", "two"), ("total",)),
        ),
        "after double has run again",
    ),
    "overwritten in the next pass of a loop": (
        (
            Let("y", Reference("input"), X),
            loop(
                Let("before", "y", X),
                Call("double", (Reference("input"),), ("y",)),
                Call("add", ("before", "y"), ("total",)),
            ),
        ),
        "after double has run again",
    ),
}


@pytest.mark.parametrize(("instructions", "message"), BAD.values(), ids=BAD)
def test_a_bad_schedule_is_refused(instructions: Instructions, message: str) -> None:
    with pytest.raises(MespError, match=message):
        check(instructions, PROGRAMS, TENSORS)


def test_an_instruction_of_a_later_version_is_refused() -> None:
    with pytest.raises(MespError, match="does not know: \\['jump'\\]"):
        from_json([{"jump": 3}])


def test_lifetimes_span_loops_and_aliases() -> None:
    spans = lifetimes(GOOD, KINDS)
    assert spans["input"][0] == 0
    assert spans["kept"][0] < spans["kept"][1] < spans["output"][1]
    aliased: Instructions = (
        Let("a", Reference("kept"), X),
        Let("b", "a", X),
        Call("double", (Reference("input"),), ("y",)),
        Call("add", ("y", "b"), ("total",)),
    )
    assert lifetimes(aliased, KINDS)["kept"] == (0, 3)


def test_the_arena_shares_places_in_time_and_overlaps_nothing() -> None:
    big = {name: TensorSpec((1000,)) for name in "abcd"}
    kinds = dict.fromkeys(big, "buffer")

    def pass_on(source: str, target: str) -> Instructions:
        return Let("v", Reference(source), big["a"]), Store("v", Reference(target))

    chain: Instructions = (*pass_on("a", "b"), Let("w", Reference("b"), big["a"]), Store("w", Reference("c")))
    chain = (*chain, Let("u", Reference("c"), big["a"]), Store("u", Reference("d")))
    arena = plan_arena(chain, big, kinds)
    check_arena(arena, chain, big, kinds)
    assert arena.nbytes < 3 * 4032
    placed = arena.buffers
    moved = replace(placed["b"], offset=placed["a"].offset)
    with pytest.raises(MespError, match="overlap"):
        check_arena(Arena(arena.nbytes, {**placed, "b": moved}), chain, big, kinds)
    with pytest.raises(MespError, match="is kept from"):
        check_arena(Arena(arena.nbytes, {**placed, "b": Placed(placed["b"].offset, 4032, 0, 0)}), chain, big, kinds)
    with pytest.raises(MespError, match="has no place"):
        check_arena(Arena(64, placed), chain, big, kinds)


def test_every_bundle_is_checked_and_can_be_read_by_a_person(qwen2_fp32: Path) -> None:
    bundle = open_bundle(qwen2_fp32)
    parts = dict(describe(bundle))
    of_a_length = ("evaluate", "train.sgd", "train.momentum", "train.adamw", "gradients", "accumulate")
    without = {"gradient_norm", "update.sgd", "update.momentum", "update.adamw"}
    assert (
        set(bundle.manifest.schedules) == {f"{name}.{n}" for name in of_a_length for n in ("5", "13.5", "13")} | without
    )
    assert {name for name in parts if name.startswith("Schedule")} == {
        f"Schedule {name}" for name in without | {f"{name}.13" for name in of_a_length}
    }
    algorithm = "\n".join(parts["Schedule train.sgd.13"])
    for line in (
        "for layer in 0 … 1:",
        "for layer in 1 … 0:",
        "block_inputs[layer] <- x",
        "adapter[layer, part] <- parameter",
    ):
        assert line in algorithm
    assert any("block_inputs" in line for line in parts["Memory of train.sgd.13"])
