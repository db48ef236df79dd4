"""Lowered programs, kept from one test run to the next: lowering is most of the time that an export of a tiny model takes.

What is kept is named by a hash of all that it depends on: the traced programs, the code that lowers them, and the versions of torch and
ExecuTorch. It lies in build/lowered, or in the folder that MESP_LOWERING_CACHE names. An empty value turns the cache off.
"""

import hashlib
import inspect
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from mesp.export.bundle import lower as lower_module
from mesp.export.bundle.lower import Lowered, lower_traced
from mesp.runtime.engine.manifest import Needs

VARIABLE = "MESP_LOWERING_CACHE"
DEFAULT = Path(__file__).parents[1] / "build" / "lowered"


def lowering_cached() -> AbstractContextManager[Any]:
    """While this is entered, every export takes its lowered programs from the cache, and fills it."""
    folder = os.environ.get(VARIABLE, str(DEFAULT))
    if not folder:
        return nullcontext()
    return patch.object(lower_module, "lower_traced", lambda exported: cached(exported, Path(folder)))


def cached(exported: Mapping[str, ExportedProgram], folder: Path) -> Lowered:
    """What ``lower_traced`` returns, from the folder if it is there. Processes may share the folder."""
    path = folder / fingerprint(exported)
    if not path.exists():
        lowered = lower_traced(exported)
        folder.mkdir(parents=True, exist_ok=True)
        kept = (lowered.buffer, lowered.planned_bytes, lowered.needs.operators, lowered.needs.backends)
        beside = folder / f".{path.name}.{os.getpid()}"
        beside.write_bytes(pickle.dumps(kept))
        beside.rename(path)
        return lowered
    buffer, planned_bytes, operators, backends = pickle.loads(path.read_bytes())
    return Lowered(buffer, planned_bytes, Needs(operators, backends))


def fingerprint(exported: Mapping[str, ExportedProgram]) -> str:
    """A hash of everything that the lowered programs depend on."""
    digest = hashlib.sha256()
    for part in (version("torch"), version("executorch"), inspect.getsource(lower_module), inspect.getsource(Needs)):
        digest.update(part.encode())
    for name, program in exported.items():
        digest.update(f"\nprogram {name}\n{program.graph_signature}\n{program.range_constraints}\n".encode())
        for line in _lines(program.graph_module):
            digest.update(line.encode())
        for key, value in sorted({**program.state_dict, **program.constants}.items()):
            digest.update(f"{key} {_kind(value)} ".encode())
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _lines(module: GraphModule) -> Iterator[str]:
    """The operations of a graph and of those inside it, each with what it is given and the shape of what it returns."""
    for path, graph in module.named_modules():
        if isinstance(graph, GraphModule):
            yield f"graph {path}\n"
            for node in graph.graph.nodes:
                yield f"{node.format_node()} -> {pytree.tree_map(_kind, node.meta.get('val'))}\n"


def _kind(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)} {value.stride()}" if isinstance(value, Tensor) else repr(value)
