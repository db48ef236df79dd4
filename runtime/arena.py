"""One piece of memory for the buffers of a schedule: buffers that are never alive together may share a place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import MespError
from .schedule import Call, For, Instruction, Instructions, Let, Part, Phase, Reference, Source, Store, TensorSpec

ALIGNMENT = 64


@dataclass(frozen=True)
class Placed:
    """A buffer's place in bytes, and its lifetime in positions of the schedule as it is written, both ends included."""

    offset: int
    nbytes: int
    first: int
    last: int

    def alive_with(self, other: "Placed") -> bool:
        return self.first <= other.last and other.first <= self.last

    def overlaps(self, other: "Placed") -> bool:
        return (
            self.alive_with(other)
            and self.offset < other.offset + other.nbytes
            and other.offset < self.offset + self.nbytes
        )


@dataclass(frozen=True)
class Arena:
    """The places of all buffers of one schedule."""

    nbytes: int
    buffers: Mapping[str, Placed]

    def to_json(self) -> dict[str, Any]:
        return {"nbytes": self.nbytes, "buffers": {name: vars(placed) for name, placed in self.buffers.items()}}

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Arena":
        return Arena(json["nbytes"], {name: Placed(**placed) for name, placed in json["buffers"].items()})


def lifetimes(instructions: Instructions, kinds: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """First and last position at which each buffer's contents matter.

    What is used in a loop lives for the whole of the outermost one. An ``input`` lives from the start on, an ``output``
    until the end. ``kinds`` names the arena's buffers and what they are; other tensors are passed over.
    """
    aliases: dict[str, set[str]] = {}
    spans: dict[str, tuple[int, int]] = {}
    end = 0
    for start, end, instruction in _positions(instructions):
        for name in _tensors_of(instruction, aliases):
            first, last = spans.get(name, (start, end))
            spans[name] = min(first, start), max(last, end)
    used = {name: span for name, span in spans.items() if name in kinds}
    return {
        name: (0 if kinds[name] == "input" else first, end if kinds[name] == "output" else last)
        for name, (first, last) in used.items()
    }


def _positions(instructions: Instructions, start: int = 0) -> Iterator[tuple[int, int, Instruction]]:
    """(first, last, instruction) for each instruction that touches tensors: its own position, or all of its outermost loop's."""
    position = start
    for instruction in instructions:
        match instruction:
            case For(_, _, _, _, body):
                inside = list(_positions(body, position))
                last = max((end for _, end, _ in inside), default=position)
                yield from ((position, last, item) for _, _, item in inside)
                position = last + 1
            case Phase(_, body):
                inside = list(_positions(body, position))
                yield from inside
                position = max((end for _, end, _ in inside), default=position) + 1
            case _:
                yield position, position, instruction
                position += 1


def _tensors_of(instruction: Instruction, aliases: dict[str, set[str]]) -> set[str]:
    """The tensors that an instruction touches, by reference or through a value that was once let to be one."""
    match instruction:
        case Call(_, inputs, _):
            sources: tuple[Source, ...] = inputs
        case Let(value, source, _):
            aliases.setdefault(value, set()).update(_named(source, aliases))
            sources = (source,)
        case Store(value, reference):
            sources = (value, reference)
        case _:
            sources = ()
    return {name for source in sources for name in _named(source, aliases)}


def _named(source: Source, aliases: dict[str, set[str]]) -> set[str]:
    if isinstance(source, Reference):
        return {source.tensor}
    return aliases.get(source.value if isinstance(source, Part) else source, set())


def check_arena(
    arena: Arena, instructions: Instructions, tensors: Mapping[str, TensorSpec], kinds: Mapping[str, str]
) -> None:
    """Checks that every buffer has a place of its size for at least its lifetime, and that no two that are alive together overlap.

    Raises:
        MespError: the first thing that is wrong.
    """
    for name, (first, last) in lifetimes(instructions, kinds).items():
        placed = arena.buffers.get(name)
        if placed is None or placed.nbytes < tensors[name].nbytes or placed.offset + placed.nbytes > arena.nbytes:
            raise MespError(f"Arena: {name} has no place of {tensors[name].nbytes} bytes inside {arena.nbytes}.")
        if placed.first > first or placed.last < last:
            raise MespError(
                f"Arena: {name} is kept from {placed.first} to {placed.last}, but used from {first} to {last}."
            )
    names = sorted(arena.buffers)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if arena.buffers[one].overlaps(arena.buffers[other]):
                raise MespError(f"Arena: {one} and {other} are alive together and overlap.")


def plan_arena(instructions: Instructions, tensors: Mapping[str, TensorSpec], kinds: Mapping[str, str]) -> Arena:
    """Greedy by size (Pisarchyk and Lee, 2020): the largest buffer first, each at the lowest place that is free during its life."""
    spans = lifetimes(instructions, kinds)
    placed: dict[str, Placed] = {}
    for name in sorted(spans, key=lambda name: (-tensors[name].nbytes, name)):
        first, last = spans[name]
        size = -(-tensors[name].nbytes // ALIGNMENT) * ALIGNMENT
        candidate = Placed(0, size, first, last)
        for other in sorted(placed.values(), key=lambda item: item.offset):
            if candidate.overlaps(other):
                candidate = Placed(other.offset + other.nbytes, size, first, last)
        placed[name] = candidate
    nbytes = max((item.offset + item.nbytes for item in placed.values()), default=0)
    return Arena(nbytes, dict(sorted(placed.items())))
