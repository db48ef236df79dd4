"""Whether a run fits into the memory that there is, before it begins; Fit.kt has the same for the app.

What is planned is what is surely taken: XNNPACK's workspace comes on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from ..errors import UsageError
from ..report.words import megabytes


@dataclass(frozen=True)
class SystemMemory:
    """The machine's memory: what can be taken without swapping, and all."""

    available_bytes: int
    total_bytes: int

    @staticmethod
    def now() -> "SystemMemory":
        memory = psutil.virtual_memory()
        return SystemMemory(memory.available, memory.total)


def memory_warnings(planned: Mapping[str, int], weights_bytes: int, there: SystemMemory) -> list[str]:
    """What to say of a run's memory before it begins; nothing where there is enough.

    Args:
        planned: the parts of what it takes, in bytes
        weights_bytes: of the mapped weights

    Raises:
        UsageError: it takes more than there is in all.
    """
    taken = sum(planned.values())
    takes = f"The run takes at least {megabytes(taken)} of memory"
    if taken > there.total_bytes:
        raise UsageError(f"{takes}, and there are {megabytes(there.total_bytes)} in all. {_how_to_take_less(planned)}")
    if taken > there.available_bytes:
        free = megabytes(there.available_bytes)
        return [f"{takes}, and {free} are free: it may be ended for that. {_how_to_take_less(planned)}"]
    left = there.available_bytes - taken
    if weights_bytes <= left:
        return []
    return [
        f"The weights have {megabytes(weights_bytes)}, and {megabytes(left)} stay free beside the run: a step reads some of "
        "them from the storage again, and takes longer. End other programs, or export a smaller model."
    ]


def _how_to_take_less(planned: Mapping[str, int]) -> str:
    """The settings and the export's options that would save memory, with how much where that is known."""
    savings = {
        "--optimizer sgd": ("adamw.m", "adamw.v"),
        "no --momentum": ("momentum.velocity",),
        "--grad-accumulation 1 and no --clip-norm": ("gradients",),
        "an export with --offload inputs": ("block_inputs",),
    }
    parts = {how: sum(planned.get(name, 0) for name in names) for how, names in savings.items()}
    known = [f"{how} ({megabytes(size)})" for how, size in parts.items() if size]
    return f"To save: {'; '.join([*known, 'an export with a smaller --seq-len, --rank or --layers'])}."
