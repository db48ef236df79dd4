"""ExecuTorch's own training: forward and backward pass as one program, made by autodiff, run by its TrainingModule and its SGD.

    python -m mesp.bench.baselines.executorch_training --model benchmarks/configurations/NAME --tokens 256 -o FILE

The model, its random weights and the row are those of ``eager``. The program is made in a process of its own, and the training process maps
its file: frozen weights are clean pages there and do not count, as in `mesp train`. Trainable parameters, activations and gradients are in the
memory that the program plans.

Where this differs from ExecuTorch's recipe:
    attention   the fused operator's derivative has no kernel in ExecuTorch, so it is traced as its products and its softmax
    silu        its derivative is decomposed into aten.empty_permuted, which has no kernel either: aten.empty is the same there
"""

import argparse
import gc
import logging
import resource
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mesp.runtime.errors import MespError

from .baseline import (
    LEARNING_RATE,
    Step,
    build_parser,
    cores,
    measure_steps,
    parameter_bytes,
    random_model,
    random_row,
    read_config,
    run,
)


class _Loss(nn.Module):
    """Token ids to their loss: autodiff starts from a module's first output."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        loss: Tensor = self.model(input_ids=ids, labels=ids).loss
        return loss


def joint_graph(model: Any, ids: Tensor) -> torch.export.ExportedProgram:
    """Loss and gradients of the model's trainable parameters, by autodiff, in operators that ExecuTorch has kernels for."""
    from torch.export.experimental import _export_forward_backward
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        joint = _export_forward_backward(torch.export.export(_Loss(model), (ids,)))
    for node in joint.graph.nodes:
        if node.target == torch.ops.aten.empty_permuted.default:
            node.target, node.args = torch.ops.aten.empty.memory_format, node.args[:1]
    return joint


def write_program(path: Path, config: Any, tokens: int, rank: int, xnnpack: bool) -> dict[str, Any]:
    """Writes a configuration's training program. Run it in a process of its own: it changes settings of torch and of the garbage collector.

    Returns:
        weights_bytes and adapter_bytes; and ``program``: seconds and peak_rss_bytes of making it, planned_bytes of memory for its tensors,
        file_bytes, how many instructions it is, and of how many delegates of XNNPACK
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge, to_edge_transform_and_lower

    began = time.perf_counter()
    gc.disable()
    logging.getLogger("executorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    model = random_model(config, rank)
    joint = joint_graph(model, random_row(config, tokens))
    checks = EdgeCompileConfig(_check_ir_validity=False)
    if xnnpack:
        edge = to_edge_transform_and_lower(joint, partitioner=[XnnpackPartitioner()], compile_config=checks)
    else:
        edge = to_edge(joint, compile_config=checks)
    manager = edge.to_executorch()
    with open(path, "wb") as file:
        manager.write_to_file(file)
    plan = manager.executorch_program.execution_plan[0]
    return {
        "weights_bytes": parameter_bytes(model, trainable=False),
        "adapter_bytes": parameter_bytes(model, trainable=True),
        "program": {
            "seconds": time.perf_counter() - began,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "planned_bytes": sum(plan.non_const_buffer_sizes),
            "file_bytes": path.stat().st_size,
            "instructions": sum(len(chain.instructions or []) for chain in plan.chains),
            "delegates": len(plan.delegates),
        },
    }


def sgd_step(path: Path, ids: Tensor) -> Step:
    """A step of ExecuTorch's SGD on one row by a program's file."""
    from executorch.extension.training import _load_for_executorch_for_training, get_sgd_optimizer

    module = _load_for_executorch_for_training(str(path))
    optimizer = None

    def step() -> float:
        nonlocal optimizer
        (loss,) = module.forward_backward("forward", (ids,))
        # The parameters have no names before the first pass.
        optimizer = optimizer or get_sgd_optimizer(module.named_parameters(), LEARNING_RATE)
        optimizer.step(module.named_gradients())
        return float(loss)

    return step


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The results, without what all baselines write."""
    import executorch.extension.training  # noqa: F401
    from executorch.extension.pybindings import portable_lib

    config = read_config(args.model)
    with tempfile.TemporaryDirectory(prefix=f".{args.output.name}.", dir=args.output.parent) as folder:
        path = Path(folder) / "training.pte"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            try:
                program = process.submit(write_program, path, config, args.tokens, args.rank, args.xnnpack).result()
            except BrokenProcessPool as error:
                raise MespError("The process that makes the program was ended: was memory short?") from error
        torch.set_num_threads(1)  # torch's own threads would take the cores from ExecuTorch's
        portable_lib._unsafe_reset_threadpool(cores())
        ids = random_row(config, args.tokens)
        results = measure_steps(partial(sgd_step, path, ids), args.steps, program.pop("adapter_bytes"))
    return {**results, **program}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = build_parser("Measure a few steps of ExecuTorch's own training of the same model: autodiff, fp32, SGD.")
    parser.prog = "mesp.bench.baselines.executorch_training"
    parser.add_argument(
        "--xnnpack",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let XNNPACK take what it can of the joint graph; else ExecuTorch's own kernels run all of it",
    )
    return run(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
