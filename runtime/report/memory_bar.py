"""Where a run's memory is: a bar stacked from what was planned, with the measured peak marked on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..engine.planned import BLOCK_INPUTS, OTHER_BUFFERS, RESULTS
from .charts import Scale, Tick
from .headline import peak_over_idle
from .run_folder import RunFolder
from .words import MB, megabytes

# Name, colour, what it is, and the parts of the plan that it is the sum of.
_Looks = tuple[str, str, str, tuple[str, ...]]
_PARTS: tuple[_Looks, ...] = (
    ("inputs of the blocks", "c0", "kept from the forward pass for the backward pass", (BLOCK_INPUTS,)),
    ("adapter", "c1", "the LoRA weights that are trained", ("adapter",)),
    ("AdamW's moments", "c2", "two averages for each weight of the adapter", ("adamw.m", "adamw.v")),
    ("momentum", "c2", "an average for each weight of the adapter", ("momentum.velocity",)),
    ("gradients", "c3", "of all layers, for accumulation or clipping", ("gradients",)),
    ("results of the programs", "c4", "what each program works out", (RESULTS,)),
    ("other buffers", "c5", "what one program hands to the next", (OTHER_BUFFERS,)),
)
_REST: _Looks = (
    "workspace and interpreter",
    "rest",
    "XNNPACK's workspace, the programs themselves: measured, not planned",
    (),
)


@dataclass(frozen=True)
class Part:
    """A part of the bar; ``width`` is a percentage of the axis."""

    name: str
    colour: str
    about: str
    megabytes: str
    width: float


@dataclass(frozen=True)
class Bar:
    """A bar. ``peak`` is where the measured peak is marked, with its text; None where it is not known."""

    parts: Sequence[Part]
    peak: Tick | None


def bars(runs: Mapping[str, RunFolder]) -> tuple[dict[str, Bar], list[Tick]]:
    """A bar for each run whose plan is known, on one axis of MB, and the axis's ticks."""
    sizes = {name: (parts, peak) for name, run in runs.items() for parts, peak in [_sizes(run)] if parts}
    longest = max((max(sum(parts.values()), peak or 0) for parts, peak in sizes.values()), default=0)
    scale = Scale(0.0, longest / MB or 1.0)
    return {name: _bar(parts, peak, scale) for name, (parts, peak) in sizes.items()}, scale.ticks(6)


def _sizes(run: RunFolder) -> tuple[dict[str, int], int | None]:
    """The parts in bytes, with the rest up to the measured peak where it is more than was planned; and the peak."""
    planned, peak = run.start.get("planned_bytes", {}), peak_over_idle(run)
    parts = {name: sum(planned.get(key, 0) for key in keys) for name, _, _, keys in _PARTS}
    parts = {name: size for name, size in parts.items() if size}
    if peak is not None and peak > sum(parts.values()) > 0:
        parts[_REST[0]] = peak - sum(parts.values())
    return parts, peak


def _bar(parts: Mapping[str, int], peak: int | None, scale: Scale) -> Bar:
    looks = {name: (colour, about) for name, colour, about, _ in (*_PARTS, _REST)}
    drawn = [
        Part(name, *looks[name], megabytes(size), round(100 * scale.at(size / MB), 3)) for name, size in parts.items()
    ]
    mark = None if peak is None else Tick(round(100 * scale.at(peak / MB), 3), megabytes(peak))
    return Bar(drawn, mark)
