"""Programs to one ExecuTorch file: each program a method, each method one XNNPACK delegate.

A method that is not is refused here, because it would still run, several times slower and with its intermediates in memory: the portable
kernels take over whatever XNNPACK does not know.
"""

import gc
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._export import utils as export_utils
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import NodeSource

from mesp.runtime.engine.manifest import Needs
from mesp.runtime.errors import MespError

from ..programs.program import Arguments, Program

# What may stand outside the delegate: the gathers of embedding rows, and what unpacks the delegate's results. And conversions to and
# from 16 bits, which XNNPACK's partitioner does not take; any other conversion would be a fault.
ALLOWED_OUTSIDE = ("aten.embedding", "executorch_call_delegate", "getitem")


@dataclass(frozen=True)
class Lowered:
    """An ExecuTorch file's bytes, and what its methods need."""

    buffer: bytes
    planned_bytes: dict[str, int]  # memory a method plans for its results, by program
    needs: Needs


class _Traceable(nn.Module):
    """A program as a module of positional tensors, for torch.export."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        names = (argument.name for argument in self.program.inputs)
        return tuple(self.program.body(Arguments(zip(names, tensors, strict=True))))


def lower(programs: Iterable[Program]) -> Lowered:
    """Traces the programs and lowers them together.

    Raises:
        MespError: a program is not one delegate plus the operators allowed beside it.
    """
    logging.getLogger("executorch").setLevel(logging.ERROR)
    with _collector_off(), _operators_listed_once(), _histories_shared(), _annotations_free():
        return lower_traced({program.name: _trace(program) for program in programs})


@contextmanager
def _collector_off() -> Iterator[None]:
    """The passes make graphs of many small objects, which the collector would walk over and over: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _operators_listed_once() -> AbstractContextManager[Any]:
    """Torch asks the dispatcher for all of its operators anew for each program, because some could have been added: a fifth of the time."""
    name = "_collect_all_valid_cia_ops_for_namespace"
    return patch.object(export_utils, name, cache(getattr(export_utils, name)))


def _histories_shared() -> AbstractContextManager[Any]:
    """Each pass copies the history of each node deeply, where nothing changes it: an eighth of the time."""
    return patch.object(NodeSource, "__deepcopy__", lambda self, memo: self, create=True)


class _FreeAnnotation:
    """Stands for collections.abc.Callable where it annotates, or is asked of an object."""

    def __getitem__(self, _: object) -> "_FreeAnnotation":
        return self

    def __instancecheck__(self, instance: object) -> bool:
        return callable(instance)


def _annotations_free() -> AbstractContextManager[Any]:
    """Torch registers 12,000 kernels a program, each by an inner function whose annotations Python makes anew: an eighth of the time."""
    return patch.object(torch._ops, "Callable", _FreeAnnotation())


def lower_traced(exported: Mapping[str, torch.export.ExportedProgram]) -> Lowered:
    """Lowers traced programs, by name, together. What comes out depends on these alone."""
    # Their import takes longer than `mesp plan` does, which makes no use of them.
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.pass_manager import PassType
    from executorch.exir.passes import MemoryPlanningPass

    edge = to_edge_transform_and_lower(
        dict(exported),
        partitioner={name: [XnnpackPartitioner(force_non_static_weights_for_f32_linear=True)] for name in exported},
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    for name in exported:
        _check_delegation(name, edge.exported_program(name))
    # Inputs stay where the caller has them; results get memory of the method's own, because the Java API cannot pass any in.
    planning: dict[str, PassType] = {name: MemoryPlanningPass(alloc_graph_input=False) for name in exported}
    manager = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    plans = manager.executorch_program.execution_plan
    operators = {f"{item.name}.{item.overload}".rstrip(".") for plan in plans for item in plan.operators}
    backends = {delegate.id for plan in plans for delegate in plan.delegates}
    needs = Needs(tuple(sorted(operators)), tuple(sorted(backends)))
    return Lowered(manager.buffer, {plan.name: sum(plan.non_const_buffer_sizes) for plan in plans}, needs)


def _trace(program: Program) -> torch.export.ExportedProgram:
    examples = tuple(torch.zeros(argument.shape, dtype=argument.dtype) for argument in program.inputs)
    module: nn.Module = _Traceable(program)
    if program.decompositions:
        module = make_fx(module, decomposition_table=dict(program.decompositions))(*examples)
    return torch.export.export(module, examples)


def _may_stand_outside(node: torch.fx.Node) -> bool:
    name = str(node.target)
    if "_to_dim_order_copy" in name:
        return torch.float16 in (node.meta["val"].dtype, node.all_input_nodes[0].meta["val"].dtype)
    return any(allowed in name for allowed in ALLOWED_OUTSIDE)


def _check_delegation(name: str, exported: torch.export.ExportedProgram) -> None:
    nodes = [node for node in exported.graph.nodes if node.op == "call_function"]
    outside = sorted({str(node.target) for node in nodes if not _may_stand_outside(node)})
    delegates = sum("executorch_call_delegate" in str(node.target) for node in nodes)
    if delegates > 1 or outside:
        raise MespError(
            f"Program {name} did not become one XNNPACK delegate: {delegates} delegates, and outside them "
            f"{', '.join(outside) or 'nothing'}. It would be several times slower. This is a fault of the program's formulation."
        )
