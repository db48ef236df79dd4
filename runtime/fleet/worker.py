"""A client's part of a round on this machine: a run of ``mesp train`` from the common adapter, or an evaluation of it."""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ..contract.run_files import ADAPTER, CHECKPOINTS, REPORT, RUN, STEPS
from ..data.dataset import Dataset
from ..engine.bundle import Bundle
from ..errors import MespError
from ..files import sha256
from ..training.adapter import WEIGHTS
from ..training.evaluation import evaluate
from ..training.loop import read_data, train
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
        seconds: after which the server does not wait for the answer any more
    """

    fleet: str
    round: int
    adapter: Path
    settings: Mapping[str, Any]
    seconds: float = 3600.0

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
        folder, until = rounds_folder(self._node, task), time.monotonic() + task.seconds
        run, settings = folder / f"round-{task.round}", training_settings(self._node, task)
        resume = is_begun(run, task)
        train(self._bundle, run, settings, resume=resume, stop=lambda: time.monotonic() > until)
        done = trained(run, self._bundle, settings)
        forget(folder, task.round - self._node.keep_rounds)
        return done

    def evaluate(self, task: Task) -> dict[str, float]:
        if not holds_out(self._node):
            return no_evaluation()
        return evaluation(*evaluate(self._bundle, evaluation_settings(self._node, task)))


def training_settings(node: NodeSettings, task: Task) -> TrainSettings:
    """Of a client's run in a round. Rows that are held out of the data are evaluated by the fleet; a run is to leave them out, and no more."""
    return node.run(task.run_settings, **({"eval_sequences": 1} if node.eval_split else {}))


def evaluation_settings(node: NodeSettings, task: Task) -> TrainSettings:
    """Of a client's evaluation: on the same rows after every round."""
    seed = int(task.settings.get("seed", 0))
    return replace(node.run(task.run_settings), eval_data=node.eval_data, seed=seed)


def holds_out(node: NodeSettings) -> bool:
    """Whether a client has rows to evaluate on."""
    return node.eval_data is not None or node.eval_split is not None


def no_evaluation() -> dict[str, float]:
    """Of a client that holds nothing out."""
    return evaluation(0, 0.0, 0.0)


def evaluation(targets: int, loss: float, seconds: float) -> dict[str, float]:
    """The figures of an evaluation: all clients have the same ones."""
    return {"targets": targets, "loss": loss, "seconds": seconds}


def read_rows(bundle: Bundle, settings: TrainSettings) -> Dataset:
    """The rows that a run trains on."""
    data, _ = read_data(bundle, settings)
    return data


def targets_of(bundle: Bundle, settings: TrainSettings) -> int:
    """How many predictions the steps of a run are made of."""
    data = read_rows(bundle, settings)
    examples = settings.steps_of(len(data.examples)) * settings.grad_accumulation
    if settings.steps is None:
        examples = settings.epochs * len(data.examples)
    order = data.order(0, settings.shuffle, settings.seed)
    return sum(example.predictions for example in islice(order, examples))


def trained(run: Path, bundle: Bundle, settings: TrainSettings) -> Trained:
    """What a run came to, from its folder: the same for this machine and for a phone.

    Raises:
        MespError: it is not done.
    """
    report = json.loads((run / REPORT).read_text(encoding="utf-8"))
    if report["status"] == "interrupted":
        raise MespError(
            f"{report['steps']} steps were done when the round's time was over. Give it more: round-seconds."
        )
    if report["status"] != "done":
        raise MespError(str(report.get("reason") or f"The run is {report['status']}."))
    steps = [json.loads(line) for line in (run / STEPS).read_text(encoding="utf-8").splitlines()]
    losses, memory = [step["loss"] for step in steps], report["memory"]
    figures = {
        "targets": targets_of(bundle, settings),
        "steps": len(steps),
        "loss-first": losses[0],
        "loss-last": losses[-1],
        "loss": sum(losses) / len(losses),
        "seconds": sum(step["seconds"] for step in steps),
        "peak-footprint-bytes": memory.get("peak_footprint_bytes", 0),
        "delta-footprint-bytes": memory.get("delta_footprint_bytes", 0),
    }
    return Trained(run / ADAPTER, figures)


def is_begun(run: Path, task: Task) -> bool:
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
