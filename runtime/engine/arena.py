"""One piece of memory for the buffers of a schedule: buffers that are never alive together may share a place."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import MespError
from .schedule import Call, Draw, For, Instruction, Instructions, Let, Part, Phase, Reference, Source, Store, TensorSpec

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


Span = tuple[int, int]
Aliases = dict[str, frozenset[str]]  # the tensors that a value may be a part of


def lifetimes(instructions: Instructions, kinds: Mapping[str, str]) -> dict[str, Span]:
    """First and last position at which each buffer's contents matter.

    What is used in a loop lives for the whole of the outermost one. An ``input`` lives from the start on, an ``output``
    until the end. ``kinds`` names the arena's buffers and what they are; other tensors are passed over.
    """
    spans: dict[str, Span] = {}

    def touch(name: str, span: Span) -> None:
        first, last = spans.get(name, span)
        spans[name] = min(first, span[0]), max(last, span[1])

    nodes, end = _nodes(instructions, 0)
    _visit(nodes, {}, touch)
    used = {name: span for name, span in spans.items() if name in kinds}
    return {
        name: (0 if kinds[name] == "input" else first, end if kinds[name] == "output" else last)
        for name, (first, last) in used.items()
    }


@dataclass(frozen=True)
class _Node:
    """An instruction, and its position, or that of the outermost loop that it is in."""

    instruction: Instruction
    span: Span
    body: "list[_Node]"

    def within(self, span: Span) -> "_Node":
        return _Node(self.instruction, span, [node.within(span) for node in self.body])


def _nodes(instructions: Instructions, start: int) -> tuple[list[_Node], int]:
    """The instructions from position ``start`` on, and the position after them."""
    nodes = []
    for instruction in instructions:
        body = instruction.body if isinstance(instruction, For | Phase) else ()
        inside, end = _nodes(body, start)
        end = max(end, start + 1)
        span = start, end - 1
        nodes.append(
            _Node(instruction, span, [n.within(span) for n in inside] if isinstance(instruction, For) else inside)
        )
        start = end
    return nodes, start


def _visit(nodes: Iterable[_Node], aliases: Aliases, touch: Callable[[str, Span], None]) -> None:
    """Follows the values through the schedule, and touches what each instruction does."""

    def named(source: Source) -> frozenset[str]:
        if isinstance(source, Reference):
            return frozenset((source.tensor,))
        return aliases.get(source.value if isinstance(source, Part) else source, frozenset())

    for node in nodes:
        sources: tuple[Source, ...] = ()
        match node.instruction:
            case Call(_, inputs, _):
                sources = inputs
            case Let(_, source, _):
                sources = (source,)
            case Store(value, reference):
                sources = (value, reference)
            case Draw(reference, _, seed, _):
                sources = (reference, Reference(seed))
        for source in sources:
            for name in named(source):
                touch(name, node.span)
        match node.instruction:
            case Call(_, _, outputs):
                for value in outputs:
                    aliases.pop(value, None)
            case Let(value, source, _):
                aliases[value] = named(source)
            case For():
                # Until a round begins as another one did: what is named at the end of a round is what the next one starts with.
                begun: list[Aliases] = []
                while aliases not in begun:
                    begun.append(dict(aliases))
                    _visit(node.body, aliases, touch)
            case Phase():
                _visit(node.body, aliases, touch)


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
