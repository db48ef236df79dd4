"""The programs of a plan by what they are for. Methods choose among them; the schedules call them by name."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..model.architecture import Segment, Sublayer
from . import head
from . import sublayer as of_sublayer
from .plan import Plan
from .program import Program


def sublayers_of(segments: Iterable[Segment]) -> tuple[Sublayer, ...]:
    """The sublayers that differ, in the order in which they come first."""
    return tuple(dict.fromkeys(sublayer for segment in segments for sublayer in segment.layer))


def head_tiles(plan: Plan, rows: int) -> list[Program]:
    """The head by tiles, on so many rows."""
    return [head.head_tile(plan, rows), head.head_loss_tile(plan, rows)]


def head_ends(plan: Plan, rows: int) -> list[Program]:
    """Embedding, and both ends of the head, for so many rows."""
    return [make(plan, rows) for make in (head.embed, head.head_start, head.head_end, head.head_loss)]


def tiles_forward(plan: Plan, sublayers: Sequence[Sublayer], keeps_h: bool = False) -> list[Program]:
    """Sublayers forward by tiles; ``keeps_h`` if the h of the projections out of a sublayer is a result too."""
    return [
        of_sublayer.tile_forward(plan, sublayer, group, keeps_h)
        for sublayer in sublayers
        for group in plan.tiles(sublayer)
    ]


def tiles_backward(plan: Plan, sublayers: Sequence[Sublayer], keeps_h: bool = False) -> list[Program]:
    """The hand-derived backward pass of sublayers by tiles."""
    programs = [
        of_sublayer.tile_backward(plan, sublayer, group, keeps_h)
        for sublayer in sublayers
        for group in plan.tiles(sublayer)
    ]
    return [*programs, of_sublayer.output_gradient(plan)] if keeps_h else programs


def norms_forward(plan: Plan, sublayers: Sequence[Sublayer], rows: int) -> list[Program]:
    """Norms forward, for so many tokens."""
    return [of_sublayer.norm_forward(plan, sublayer, rows) for sublayer in sublayers]


def norms_backward(plan: Plan, sublayers: Sequence[Sublayer], rows: int) -> list[Program]:
    """Norms backward, for so many tokens."""
    return [of_sublayer.norm_backward(plan, sublayer, rows) for sublayer in sublayers]


def norms_after(plan: Plan, sublayers: Sequence[Sublayer], rows: int) -> list[Program]:
    """Norms after sublayers forward, of those that have one. They have no adapters."""
    return [of_sublayer.norm_after(plan, s, s.norm_after, rows) for s in sublayers if s.norm_after]


def norms_after_backward(plan: Plan, sublayers: Sequence[Sublayer], rows: int) -> list[Program]:
    """Norms after sublayers backward, of those that have one."""
    return [of_sublayer.norm_after_backward(plan, s, s.norm_after, rows) for s in sublayers if s.norm_after]


def prefixed(prefix: str, programs: Iterable[Program]) -> list[Program]:
    """The same programs under names of their own."""
    return [replace(program, name=prefix + program.name) for program in programs]
