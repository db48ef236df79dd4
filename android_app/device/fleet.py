"""A fleet's clients: this machine, or a phone that is connected to it.

The phone keeps the bundle and its rows, which are sent once. Each round sends the common adapter, has the app train from it, brings the run's
folder back and removes what the round left there. The app has no evaluation alone: it evaluates before a run's first step, so an
evaluation is a run of one step at a learning rate of 0.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from mesp.runtime.contract.run_files import REPORT, RUN
from mesp.runtime.engine.bundle import MANIFEST, Bundle
from mesp.runtime.errors import MespError
from mesp.runtime.files import read_json_object, sha256
from mesp.runtime.fleet.settings import NodeSettings
from mesp.runtime.fleet.worker import (
    HostWorker,
    Task,
    Trained,
    Worker,
    evaluation,
    evaluation_settings,
    forget,
    holds_out,
    no_evaluation,
    rounds_folder,
    trained,
    training_settings,
)
from mesp.runtime.report.pages import write_report
from mesp.runtime.training.adapter import WEIGHTS
from mesp.runtime.training.evaluation import held_out_examples
from mesp.runtime.training.settings import PATHS, TrainSettings

from . import app
from .adb import Adb, Device
from .follow import Beginning, follow_and_fetch, phone_seconds
from .phone import describe
from .phone_data import checked_data
from .transfer import Item, adapter_items, bundle_items, data_item, missing, pull_run, send, tidy

_SAMPLE_SECONDS = 2.0
# How long a phone that was unplugged is waited for, within what is left of the round.
_PATIENCE_SECONDS = 120.0
# As the app does where nothing is said; said here, so that its rows are known here too.
_EVAL_SEQUENCES = 64


def worker(bundle: Bundle, node: NodeSettings) -> Worker:
    """Who trains for a node."""
    return PhoneWorker(bundle, node, node.phone) if node.phone else HostWorker(bundle, node)


@dataclass(frozen=True)
class _Run:
    """A run on the phone: its name there, its folder here, its settings, and the common adapter that it begins from."""

    name: str
    folder: Path
    settings: TrainSettings
    adapter: Path


class PhoneWorker:
    """A phone.

    Args:
        serial: as adb lists it, or the phone's own
    """

    def __init__(self, bundle: Bundle, node: NodeSettings, serial: str):
        self._bundle, self._node, self._serial = bundle, node, serial
        self._name = f"fleet-{sha256(bundle.path / MANIFEST)[:12]}"

    def train(self, task: Task) -> Trained:
        folder = rounds_folder(self._node, task)
        settings = training_settings(self._node, task)
        run = _Run(f"{task.fleet}-{task.round}", folder / f"round-{task.round}", settings, task.adapter)
        self._do(run, task.seconds)
        done = trained(run.folder, self._bundle, settings)
        write_report(run.folder)
        forget(folder, task.round - self._node.keep_rounds)
        return done

    def evaluate(self, task: Task) -> dict[str, float]:
        if not holds_out(self._node):
            return no_evaluation()
        few = task.settings.get("eval_sequences") or _EVAL_SEQUENCES
        settings = replace(evaluation_settings(self._node, task), eval_sequences=few)
        targets = sum(example.predictions for example in held_out_examples(self._bundle, settings))
        still = {"steps": 1, "epochs": 1, "optimizer": "sgd", "momentum": 0.0, "lr": 0.0, "weight_decay": 0.0}
        settings = replace(settings, **still, warmup=0.0, grad_accumulation=1, clip_norm=None)  # type: ignore[arg-type]
        run = _Run(
            f"{task.fleet}-{task.round}-loss",
            rounds_folder(self._node, task) / f"evaluation-{task.round}",
            settings,
            task.adapter,
        )
        began = time.monotonic()
        self._do(run, task.seconds)
        report = read_json_object(run.folder / REPORT, "what a run came to")
        shutil.rmtree(run.folder)
        return evaluation(targets, float(report["eval_loss_before"]), time.monotonic() - began)

    def _do(self, run: _Run, seconds: float) -> None:
        """Has a run done, or gone on with where a client or a server died in it, and brings it here.

        Raises:
            MespError: it is not done: why not.
        """
        if self._is_here(run):
            return
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(run.folder.parent / "phone.log", "a", encoding="utf-8") as log:
            console = Console(file=log, width=160)
            device = Adb.find(lambda text: console.print(text, markup=False)).choose(self._serial)
            device.patience_seconds = min(_PATIENCE_SECONDS, seconds)
            app.need_installed(device)
            resume = self._is_there(device, run)
            if not resume:
                shutil.rmtree(run.folder, ignore_errors=True)
            items = [] if resume else self._send(device, run)
            if self._is_here(run):
                return
            since, ahead = phone_seconds(device)
            about: dict[str, Any] = {"clock_ahead_seconds": round(ahead, 3)}
            if not resume:
                data, settings = PurePosixPath(items[0].target).name, _as_json(run.settings, items)
                app.start(device, run.name, self._name, data, settings, resume=False)
                about |= {"bundle": self._name, "data": data, "settings": settings}
            else:
                app.start(device, run.name, None, None, {}, resume=True)
            with _stopped_after(device, seconds):
                beginning = Beginning(since, since, in_log=True)
                end = follow_and_fetch(device, run.name, run.folder, beginning, _SAMPLE_SECONDS, about, console)
            if end.status == "interrupted":
                raise MespError(f"{self._serial} did not come to the run's end in the round's time: {_why(device)}.")
            if end.exit_status:
                raise MespError(f"{self._serial}: the run is {end.status}: {end.reason or 'no reason is known'}.")
            self._clear(device, run)

    def _is_here(self, run: _Run) -> bool:
        """Whether the run was done before, from this adapter, and brought here."""
        if not (run.folder / REPORT).is_file() or not _is_from(run):
            return False
        return bool(read_json_object(run.folder / REPORT, "what a run came to")["status"] == "done")

    def _is_there(self, device: Device, run: _Run) -> bool:
        """Whether the phone has begun this very run. What is of another adapter is removed there."""
        script = f"ls {app.RUNS}/{run.name}/{RUN} 2>/dev/null || true"
        if not device.patiently(lambda: device.shell(script)).strip():
            return False
        pull_run(device, run.name, run.folder)
        if _is_from(run):
            return True
        device.patiently(lambda: device.shell(f"rm -rf {app.RUNS}/{run.name}"))
        return False

    def _send(self, device: Device, run: _Run) -> list[Item]:
        """Sends what is not there yet; returns the files of the run itself: data first, then held-out data, then the adapter."""
        settings = run.settings
        files = [settings.data, *([settings.eval_data] if settings.eval_data else [])]
        items = [data_item(checked_data(file, settings.map)[0]) for file in files] + adapter_items(run.adapter)
        bundle = bundle_items(self._bundle.path, self._name)
        if todo := missing(device, [*bundle, *items]):
            app.make_folders(device)
            send(device, todo, describe(device).free_storage_bytes, lambda count: None)
            tidy(device, bundle)
        return items

    def _clear(self, device: Device, run: _Run) -> None:
        """Removes from the phone what a round leaves there."""
        adapter = PurePosixPath(adapter_items(run.adapter)[0].target).parent
        device.patiently(lambda: device.shell(f"rm -rf {app.RUNS}/{run.name} {adapter}"))


def _is_from(run: _Run) -> bool:
    """Whether what is here of a run began from the adapter that the round begins from."""
    start = read_json_object(run.folder / RUN, "what a run was started with")
    return bool(start.get("adapter_sha256") == sha256(run.adapter / WEIGHTS))


def _as_json(settings: TrainSettings, items: list[Item]) -> dict[str, Any]:
    """The settings as the app takes them."""
    found = {name: value for name, value in settings.to_json().items() if name not in PATHS and value is not None}
    if settings.eval_data:
        found["eval_data"] = f"data/{PurePosixPath(items[1].target).name}"
    return {**found, "adapter": f"adapters/{PurePosixPath(items[-1].target).parent.name}"}


@contextmanager
def _stopped_after(device: Device, seconds: float) -> Iterator[None]:
    """Has the app stop the run, with a checkpoint, when the round's time is over."""

    def stop() -> None:
        with suppress(MespError):  # a phone that is not there is told of by who follows the run
            app.tell(device, "stop")

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _why(device: Device) -> str:
    """What may have kept the phone from it."""
    phone = describe(device)
    heat = f"its battery is at {phone.battery_celsius:.0f} °C" if phone.battery_celsius is not None else ""
    charge = f"{phone.battery_percent:.0f}% charged" if phone.battery_percent is not None else ""
    return ", ".join(part for part in (heat, charge) if part) or "it does not tell more"
