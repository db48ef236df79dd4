"""XNNPACK's workspace, program by program, measured and as `mesp plan` predicts it.

    python -m mesp.bench.questions.program_workspace -o benchmarks/results/workspace.json

The workspace is as large as the largest program needs. So the programs that can be the largest are measured: a tile of the head, the
backward passes of a tile of attention and of the feed-forward layer, and MeBP's, which is of a whole block. Each runs in a process of its
own. What the process's anonymous memory grows by is the workspace and the program's results, whose size is known. Times are of random
numbers, on all cores.
"""

import argparse
import ctypes
import gc
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mesp.export.bundle.lower import lower
from mesp.export.bundle.make_plan import make_plan
from mesp.export.export_settings import ExportSettings
from mesp.export.model.architecture import Attention, FeedForward, Sublayer
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.predict.duration import random_input
from mesp.export.programs.autodiff import block_backward
from mesp.export.programs.head import head_tile
from mesp.export.programs.plan import Plan
from mesp.export.programs.program import Program
from mesp.export.programs.sublayer import tile_backward
from mesp.export.programs.workspace import (
    attending_workspace,
    block_workspace,
    columns_workspace,
    dequantizing_workspace,
    head_workspace,
)
from mesp.runtime.engine import executorch_runtime
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

MODELS = ("smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b")
TOKENS = (128, 256, 512, 1024)
CALLS = 9


@dataclass(frozen=True)
class Measured:
    """A program, and what the plan takes its workspace to be at its moments."""

    make: Callable[[Plan], Program]
    predict: Callable[[Plan], dict[str, int]]
    method: str = "mesp"


def _sublayer(plan: Plan, kind: type) -> Sublayer:
    """The model's only one with this middle."""
    (sublayer,) = (sublayer for sublayer in plan.architecture.sublayers if isinstance(sublayer.middle, kind))
    return sublayer


def _backward(plan: Plan, kind: type) -> Program:
    sublayer = _sublayer(plan, kind)
    return tile_backward(plan, sublayer, plan.tiles(sublayer)[0])


def _attention_moments(plan: Plan) -> dict[str, int]:
    middle = _sublayer(plan, Attention).middle
    assert isinstance(middle, Attention)
    return {"dequantizing": dequantizing_workspace(plan, middle), "attending": attending_workspace(plan, middle)}


def _columns_moment(plan: Plan) -> dict[str, int]:
    middle = _sublayer(plan, FeedForward).middle
    assert isinstance(middle, FeedForward)
    return {"columns": columns_workspace(plan, middle)}


PROGRAMS = {
    "head_tile": Measured(lambda plan: head_tile(plan, plan.tokens), lambda plan: {"head": head_workspace(plan)}),
    "attention_backward": Measured(lambda plan: _backward(plan, Attention), _attention_moments),
    "ffn_backward": Measured(lambda plan: _backward(plan, FeedForward), _columns_moment),
    "block_backward": Measured(
        lambda plan: block_backward(plan, plan.architecture.layers[0]),
        lambda plan: {"block": block_workspace(plan, plan.architecture.layers[0])},
        "mebp",
    ),
}


def plans(method: str) -> Iterator[tuple[str, Plan]]:
    """Every model at every length, as `mesp export` makes it of its defaults."""
    for model in MODELS:
        checkpoint = open_checkpoint(str(Path(__file__).parents[1] / "configurations" / model), random_init=True)
        for tokens in TOKENS:
            yield model, make_plan(checkpoint.config, ExportSettings(seq_len=(tokens,), method=method))


def measure(program: Program) -> dict[str, Any]:
    """The workspace of a program, in bytes, and the seconds of its calls."""
    lowered = lower([program])
    context = get_context("fork")  # not spawned: importing the exporter takes longer than the measurement
    with tempfile.NamedTemporaryFile(suffix=".pte") as file:
        file.write(lowered.buffer)
        file.flush()
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(file.name, program, theirs))
        process.start()
        theirs.close()
        try:
            grown, seconds = ours.recv()
        except EOFError:
            raise SystemExit(f"The process that ran {program.name} ended without an answer.") from None
        finally:
            process.join()
    return {"workspace_bytes": grown - lowered.planned_bytes[program.name], "median_seconds": median(seconds)}


def _run(path: str, program: Program, pipe: Connection) -> None:
    """In the process of its own: sends what its anonymous memory grows by, and the seconds of each call."""
    inputs = [random_input(argument) for argument in program.inputs]
    executorch_runtime.use_threads()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or the heap that lowering left would be used again, and not seen
    before, seconds = _anonymous_bytes(), []
    module = executorch_runtime.load(Path(path))
    for _ in range(CALLS):
        start = time.perf_counter()
        module.run_method(program.name, inputs, clone_outputs=False)
        seconds.append(time.perf_counter() - start)
    pipe.send((_anonymous_bytes() - before, seconds))


def _anonymous_bytes() -> int:
    """Resident memory that belongs to no file."""
    resident, of_files = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1:3]
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Measure XNNPACK's workspace of the largest programs.")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(1)  # a forked process would wait for this one's threads
    found = []
    for name, program in PROGRAMS.items():
        for model, plan in plans(program.method):
            measured, parts = measure(program.make(plan)), program.predict(plan)
            found.append({"model": model, "tokens": plan.tokens, "program": name, **measured, "predicted_bytes": parts})
            print(_line(found[-1]), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    command = "python -m mesp.bench.questions.program_workspace -o FILE"
    write_json(args.output, {"command": command, "programs": found, "environment": environment()})


def _line(item: dict[str, Any]) -> str:
    megabytes, parts = item["workspace_bytes"] / 1e6, item["predicted_bytes"]
    line = f"{item['model']:14} {item['tokens']:5} {item['program']:19} {megabytes:6.2f} MB {item['median_seconds'] * 1e3:7.2f} ms"
    name = max(parts, key=lambda part: parts[part])
    return f"{line}  planned {parts[name] / 1e6:6.2f} ({parts[name] / item['workspace_bytes'] - 1:+.1%}, {name})"


if __name__ == "__main__":
    main()
