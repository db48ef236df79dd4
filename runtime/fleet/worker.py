"""A client's part of a round on this machine: a run of ``mesp train`` from the common adapter, or an evaluation of it."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ..contract.run_files import ADAPTER, CHECKPOINTS, REPORT, RUN, STEPS
from ..data.dataset import Dataset, load_data
from ..engine.bundle import TOKENIZER, Bundle
from ..errors import MespError
from ..files import sha256
from ..training.adapter import WEIGHTS
from ..training.evaluation import evaluate
from ..training.listener import Listener
from ..training.loop import train
from ..training.run_writer import RunWriter
from ..training.settings import TrainSettings
from .settings import NodeSettings


@dataclass(frozen=True)
class Task:
    """What the server asks a client for.

    Args:
        fleet: the fleet's own name, the same in all of its rounds
        round: from 1; of an evaluation, the round that it follows
        adapter: PEFT: the common adapter
        settings: the fleet's, of a run
    """

    fleet: str
    round: int
    adapter: Path
    settings: Mapping[str, Any]

    @property
    def run_settings(self) -> dict[str, Any]:
        """The fleet's settings for this round: each round has a seed, and so an order of the rows, of its own; the first one the fleet's."""
        seed = int(self.settings.get("seed", 0)) + self.round - 1
        return {
            **self.settings,
            "seed": seed,
            "checkpoint_every": self.settings.get("checkpoint_every", 0),
            "adapter": self.adapter,
        }


@dataclass(frozen=True)
class Trained:
    """What a client's run came to: the figures as numbers, by Flower's habit with dashes in their names."""

    adapter: Path
    figures: dict[str, float]


class Worker(Protocol):
    """Who trains for a client."""

    def train(self, task: Task) -> Trained:
        """Trains from the task's adapter on the client's rows.

        Raises:
            MespError: it could not; says why.
        """

    def evaluate(self, task: Task) -> dict[str, float]:
        """The task's adapter on the client's held-out rows: targets and loss; no target without such rows."""


def rounds_folder(node: NodeSettings, task: Task) -> Path:
    """Where a client keeps what it did for a fleet."""
    return node.output / task.fleet


class HostWorker:
    """This machine."""

    def __init__(self, bundle: Bundle, node: NodeSettings):
        self._bundle, self._node = bundle, node

    def train(self, task: Task) -> Trained:
        folder = rounds_folder(self._node, task)
        run = folder / f"round-{task.round}"
        # Rows that are held out of the data are evaluated by the fleet; here they are only left out.
        few = {"eval_sequences": 1} if self._node.eval_split else {}
        settings, rows = self._node.run(task.run_settings, **few), _Rows()
        train(self._bundle, run, settings, rows, resume=_is_begun(run, task))
        forget(folder, task.round - self._node.keep_rounds)
        return trained(run, self._targets(settings, rows.data))

    def _targets(self, settings: TrainSettings, data: Dataset | None) -> int:
        """Of the run's steps; a run that was done before has not told of its rows."""
        return targets_of(data or read_rows(self._bundle, settings), settings)

    def evaluate(self, task: Task) -> dict[str, float]:
        node = self._node
        if node.eval_data is None and node.eval_split is None:
            return no_evaluation()
        settings = replace(node.run(task.run_settings), eval_data=node.eval_data)
        settings = replace(
            settings, seed=int(task.settings.get("seed", 0))
        )  # of the split: the same rows in every round
        return evaluation(*evaluate(self._bundle, settings))


def no_evaluation() -> dict[str, float]:
    """Of a client that holds nothing out."""
    return evaluation(0, 0.0, 0.0)


def evaluation(targets: int, loss: float, seconds: float) -> dict[str, float]:
    """The figures of an evaluation: all clients have the same ones."""
    return {"targets": targets, "loss": loss, "seconds": seconds}


class _Rows(Listener):
    """Keeps the rows of a run."""

    data: Dataset | None = None

    def begin(self, first: int, steps: int, dataset: Dataset) -> None:
        self.data = dataset


def read_rows(bundle: Bundle, settings: TrainSettings) -> Dataset:
    """The rows that a run trains on."""
    model, tokens = bundle.manifest.model, bundle.manifest.tokens
    data, _ = load_data(
        settings.data,
        tokens,
        model.vocabulary,
        bundle.path / TOKENIZER,
        packing=settings.packing,
        eval_split=settings.eval_split,
        seed=settings.seed,
        columns=settings.map,
    )
    return data


def targets_of(data: Dataset, settings: TrainSettings) -> int:
    """How many predictions the steps of a run are made of."""
    examples = settings.steps_of(len(data.examples)) * settings.grad_accumulation
    if settings.steps is None:
        examples = settings.epochs * len(data.examples)
    order = data.order(0, settings.shuffle, settings.seed)
    return sum(example.predictions for example in islice(order, examples))


def trained(run: Path, targets: int) -> Trained:
    """What a run came to, from its folder: the same for this machine and for a phone.

    Args:
        targets: of its steps

    Raises:
        MespError: it is not done.
    """
    report = json.loads((run / REPORT).read_text(encoding="utf-8"))
    if report["status"] != "done":
        raise MespError(f"The run is {report['status']}: {report.get('reason', 'no reason is given')}")
    steps = [json.loads(line) for line in (run / STEPS).read_text(encoding="utf-8").splitlines()]
    losses, memory = [step["loss"] for step in steps], report["memory"]
    figures = {
        "targets": targets,
        "steps": len(steps),
        "loss-first": losses[0],
        "loss-last": losses[-1],
        "loss": sum(losses) / len(losses),
        "seconds": sum(step["seconds"] for step in steps),
        "peak-footprint-bytes": memory.get("peak_footprint_bytes", 0),
        "delta-footprint-bytes": memory.get("delta_footprint_bytes", 0),
    }
    return Trained(run / ADAPTER, figures)


def _is_begun(run: Path, task: Task) -> bool:
    """Whether this very run was begun before, by a client that died or for a server that did. What another adapter left is removed.

    Raises:
        UsageError: another process is in it.
    """
    if not (run / RUN).is_file():
        return False
    with RunWriter.reopen(run) as writer:
        if writer.read_run()["adapter_sha256"] == sha256(task.adapter / WEIGHTS):
            return True
        shutil.rmtree(run)
    return False


def forget(folder: Path, last: int) -> None:
    """Removes what is large of the rounds up to ``last``: adapters and checkpoints. Logs and reports stay."""
    for number in range(max(1, last - 1), last + 1):
        for name in (ADAPTER, CHECKPOINTS):
            with suppress(FileNotFoundError):
                shutil.rmtree(folder / f"round-{number}" / name)
