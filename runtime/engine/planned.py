"""The memory that schedules are known to take before they run. XNNPACK's workspace and the interpreter come on top."""

from collections.abc import Iterable

from .manifest import Manifest
from .schedule import Call, references, walk

BLOCK_INPUTS, OTHER_BUFFERS, RESULTS = "block_inputs", "other_buffers", "program_results"
# As `mesp plan` calls them. A state's name is its own.
WORDS = {BLOCK_INPUTS: "block inputs", OTHER_BUFFERS: "other buffers", RESULTS: "results of the programs"}


def planned_bytes(manifest: Manifest, schedules: Iterable[str]) -> dict[str, int]:
    """The parts of a session's memory, in bytes: the arena as the inputs of the blocks that are kept and all else in it, each state by its
    name, and the results that the programs have planned for themselves. What is kept in files is in none of them.

    Args:
        schedules: names of those that the session runs
    """
    chosen = [manifest.schedules[name] for name in schedules]
    called = {item.program for schedule in chosen for item in walk(schedule.instructions) if isinstance(item, Call)}
    used = {reference.tensor for schedule in chosen for reference in references(schedule.instructions)}
    arena = max(schedule.arena.nbytes for schedule in chosen)
    kept = [
        schedule.arena.buffers["block_inputs"].nbytes for schedule in chosen if "block_inputs" in schedule.arena.buffers
    ]
    block_inputs = max(kept, default=0)
    states = {
        name: tensor.spec.nbytes for name, tensor in manifest.tensors.items() if tensor.kind == "state" and name in used
    }
    results = sum(manifest.programs[name].planned_bytes for name in called)
    return {BLOCK_INPUTS: block_inputs, OTHER_BUFFERS: arena - block_inputs, **states, RESULTS: results}
