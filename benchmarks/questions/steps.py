"""What the questions share: random rows, a bundle's step timed in turns with others, and the memory of a bundle's training."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.programs.plan import Plan
from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.engine.session import Session
from mesp.runtime.training.loop import load_adapter
from mesp.runtime.training.optimizer import LearningRate, Optimizer
from mesp.runtime.training.stepper import noise

from ..child import trained

ROUNDS = 9


def random_ids(plan: Plan) -> Tensor:
    """Token ids, one more than the sequence has, the same each time."""
    return torch.randint(plan.architecture.V, (plan.tokens + 1,), generator=torch.Generator().manual_seed(0))


def row(ids: Tensor, labels: Tensor | None = None) -> dict[str, list[int]]:
    """A row of a data file. Every token is a target if no labels are given."""
    return {"input_ids": ids.tolist(), "labels": (ids if labels is None else labels).tolist()}


def trained_memory(path: Path, ids: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
    """What the report says of memory after three steps of SGD on one row, in a process of its own."""
    memory: dict[str, Any] = trained(path, [row(ids, labels)], steps=3, optimizer="sgd", lr=1e-3)["memory"]
    return memory


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def our_step(bundle: Bundle, ids: Tensor) -> Callable[[], Any]:
    """A step of SGD by the bundle's own schedule."""
    optimizer, tokens = Optimizer("sgd", LearningRate(1e-3)), bundle.manifest.tokens
    schedule = f"train.{optimizer.program}.{tokens}"
    session = Session(bundle, [schedule])
    scale = load_adapter(bundle, session.state["adapter"]).at(bundle.manifest.lora.rank)
    inputs: dict[str, Tensor | float] = {
        "input_ids": ids[:-1],
        "targets": ids[1:],
        "token_weight": torch.full((tokens, 1), 1 / tokens),
        "lora_scale": scale,
        **optimizer.scalars(1),
        **noise(0, 1, 0),
    }
    return partial(session.run, schedule, inputs)


# --- In turns ---------------------------------------------------------------------------------------------------------


Prepare = Callable[[Path], Callable[[], Any]]


def seconds_of_our_step(path: Path) -> Callable[[], float]:
    """A function that takes a bundle's step and returns its seconds."""
    bundle = open_bundle(path, verify_files=False)
    return partial(timed, our_step(bundle, random_ids(bundle_plan(bundle))))


def _work(prepare: Prepare, path: Path, pipe: Connection) -> None:
    """A process: prepares, and then answers each message with what one more round gives."""
    measure = prepare(path)
    while pipe.recv():
        pipe.send(measure())


@contextmanager
def workers(prepare: Mapping[str, tuple[Prepare, Path]]) -> Iterator[dict[str, Callable[[], Any]]]:
    """A process for each name, which sleeps while the others work: one's threads would spin on the other's cores.

    Returns:
        by name a function that has its process measure once more, and returns what it found
    """
    context, pipes = get_context("spawn"), {}
    for name, (function, path) in prepare.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=_work, args=(function, path, theirs), daemon=True).start()

    def ask(pipe: Connection) -> Any:
        pipe.send(True)
        return pipe.recv()

    yield {name: partial(ask, pipe) for name, pipe in pipes.items()}
    for pipe in pipes.values():
        pipe.send(False)


def step_seconds(paths: list[Path]) -> list[list[float]]:
    """Seconds of ``ROUNDS`` steps of each bundle after one that warms up. The bundles take turns."""
    with workers({str(number): (seconds_of_our_step, path) for number, path in enumerate(paths)}) as ask:
        rounds = [[measure() for measure in ask.values()] for _ in range(ROUNDS + 1)]
    return [list(values) for values in zip(*rounds[1:], strict=True)]
