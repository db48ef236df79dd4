"""The sizes of sequence that a bundle has schedules for: how many tokens, and on how many rows the head runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Size:
    """A sequence of ``tokens`` of which at most ``head`` are targets: the head runs on those rows alone."""

    tokens: int
    head: int

    @property
    def name(self) -> str:
        """What follows a schedule's name."""
        return f"{self.tokens}" if self.head == self.tokens else f"{self.tokens}.{self.head}"

    def __str__(self) -> str:
        return f"{self.tokens} tokens" + (f", {self.head} targets" if self.head < self.tokens else "")


def sizes(lengths: Iterable[int], head_rows: Iterable[int]) -> list[Size]:
    """Every length with every number of rows that is not above it; there are programs of the head for the shorter lengths anyway."""
    lengths = sorted(set(lengths))
    heads = sorted({*lengths, *head_rows})
    return [Size(tokens, head) for tokens in lengths for head in heads if head <= tokens]


def smallest(among: Iterable[Size], tokens: int, targets: int) -> Size:
    """The shortest sequence that holds the tokens, and of those the one with the fewest rows that hold the targets."""
    return min(size for size in among if size.tokens >= tokens and size.head >= targets)


def schedule_names(optimizer: str, used: Sequence[Size], evaluates: bool, accumulates: bool, clips: bool) -> list[str]:
    """The schedules of a bundle that a run uses, and therefore allocates for."""
    names = [f"evaluate.{size.name}" for size in used] if evaluates else []
    if not (accumulates or clips):
        return names + [f"train.{optimizer}.{size.name}" for size in used]
    kinds = ("gradients", "accumulate") if accumulates else ("gradients",)
    return [*names, *(f"{kind}.{size.name}" for kind in kinds for size in used), "gradient_norm", f"update.{optimizer}"]
