"""Fine-tuning on the host: the loop of a run, its evaluations and checkpoints.

The loop is a state machine. Its whole state is the session's tensors and a ``Position``. Each round it evaluates if that is due, stops if
there is a reason to, takes a step, and writes a checkpoint if that is due. A run that is resumed enters the loop where its checkpoint left it,
so it does the same as one that was never interrupted.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from ..contract import FINISHED
from ..contract.run_files import ADAPTER, BEST, EVALUATIONS, MEMORY, REPORT, RUN, STEPS
from ..data.dataset import Dataset, Example, load_data, spread
from ..engine import bundle as bundle_files
from ..engine.bundle import TOKENIZER, Bundle
from ..engine.planned import planned_bytes
from ..engine.sizes import smallest
from ..errors import MespError, UsageError
from ..files import folder_that_appears_whole, sha256, write_json
from ..memory.environment import versions
from ..memory.sampler import Sample, Sampler, major_faults
from ..memory.thinning import Thinning
from ..report.outcome import bundle_json, outcome, surroundings
from ..report.pages import write_report
from .adapter import WEIGHTS, Scaling, read_adapter, read_peft, write_peft
from .checkpoints import Position, checkpoints, prune, read_checkpoint, write_checkpoint
from .fit import SystemMemory, memory_warnings
from .listener import Evaluation, Listener, Step
from .run_writer import RunWriter, how_to_go_on
from .settings import PATHS, TrainSettings, differences
from .start import check_start
from .stepper import Stepper, Stopped, schedules_of
from .threads import default_threads, try_threads


def read_data(bundle: Bundle, settings: TrainSettings, now: datetime | None = None) -> tuple[Dataset, Dataset | None]:
    """The settings' rows, and those that are held out.

    Args:
        now: the day that a chat template writes; today if not given

    Raises:
        UsageError: a file that cannot be used.
    """
    return load_data(
        settings.data,
        bundle.manifest.tokens,
        bundle.manifest.model.vocabulary,
        bundle.path / TOKENIZER,
        packing=settings.packing,
        eval_path=settings.eval_data,
        eval_split=settings.eval_split,
        seed=settings.seed,
        columns=settings.map,
        now=now,
    )


def train(
    bundle: Bundle | Path,
    output: Path,
    settings: TrainSettings,
    listener: Listener | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Fine-tunes a bundle's adapter, writes the run folder, and returns what its report.json holds.

    Args:
        bundle: what ``mesp export`` made, or that opened by ``start.check_start``
        output: the run folder
        listener: hears of steps, evaluations and checkpoints
        resume: go on with the run in that folder, from its last checkpoint
        stop: asked before every sequence; once it says yes, a checkpoint and a report are written, and the status is "interrupted"

    Raises:
        UsageError: a setting, bundle, adapter or data file that cannot be used, or a resumed run with other ones; nothing is changed.
        MespError: the loss is no longer finite, or the disk is full; logs and checkpoints until then are kept, and the report has the reason.
    """
    if isinstance(bundle, Path):
        bundle = check_start(bundle, output, settings, resume)
    started = (RunWriter.started(output) if resume else None) or datetime.now().replace(microsecond=0)
    data, held_out = read_data(bundle, settings, started)
    identity = _run_json(bundle, settings, data, held_out)
    if resume:
        folder = RunWriter.reopen(output)
        before = folder.read_run()
        _check_same(before, identity)
        more_steps = identity["settings"]["steps"] > before["settings"]["steps"]
        if (report := folder.read_json(REPORT)) and report.get("status") in FINISHED:
            if not more_steps:
                return report
            _check_can_go_on(folder)
    with Sampler() as sampler:
        # The run's folder is made when nothing can fail any more: what is offloaded goes to where it will be.
        scratch = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
        listener = listener or Listener()
        run = _Run(bundle, settings, data, held_out, sampler, listener, stop, scratch)
        if not resume:
            # With the idle footprint and what the run will take, so that a run that is killed can be reported too.
            start = {
                "started": started.isoformat(),
                "planned_bytes": run.planned,
                "baseline_footprint_bytes": sampler.baseline_footprint_bytes,
                "sampled_since_epoch_seconds": sampler.since_epoch_seconds,
            }
            folder = RunWriter.create(output, {**identity, **start})
        with folder:
            if resume and more_steps:
                changed = {name: identity[name] for name in ("settings", "steps_follow_from_epochs")}
                write_json(output / RUN, before | changed)
            return run.everything(folder)


class _Run:
    """A run: what it reads, its session, and where it is."""

    def __init__(
        self,
        bundle: Bundle,
        settings: TrainSettings,
        data: Dataset,
        held_out: Dataset | None,
        sampler: Sampler,
        listener: Listener,
        stop: Callable[[], bool],
        scratch: Path,
    ):
        self.bundle, self.settings, self.data = bundle, settings, data
        self.held_out = spread(held_out.examples, settings.eval_sequences) if held_out else []
        self.sampler, self.listener = sampler, listener
        self.steps = settings.steps_of(len(data.examples))
        optimizer = settings.make_optimizer(self.steps)
        examples = [*data.examples, *self.held_out]
        available = bundle.manifest.sizes()
        used = sorted({smallest(available, example.tokens, example.predictions) for example in examples})
        self.planned = planned_bytes(bundle.manifest, schedules_of(settings, optimizer, used, bool(self.held_out)))
        self.beforehand = self._beforehand(stop, scratch)
        self.stepper = Stepper(
            bundle, settings, self.beforehand["threads"], optimizer, used, bool(self.held_out), sampler, stop, scratch
        )
        self.state = self.stepper.session.state
        self.scaling = load_adapter(bundle, self.state[bundle.manifest.lora.state], settings)
        self.position = Position()
        self._thinning = Thinning()
        self._seconds_before = 0.0  # of memory.jsonl, when the run is resumed

    def _beforehand(self, stop: Callable[[], bool], scratch: Path) -> dict[str, Any]:
        """What is found out before the run begins, for the report; the listener hears of it."""
        found: dict[str, Any] = {"threads": self.settings.threads or default_threads()}
        weights_bytes = (self.bundle.path / bundle_files.WEIGHTS).stat().st_size
        if warnings := memory_warnings(self.planned, weights_bytes, SystemMemory.now()):
            found["warnings"] = warnings
        for warning in warnings:
            self.listener.warned(warning)
        # What the library keeps of the trials is the run's own: idle was measured before.
        find = self.settings.find_threads
        if find and (trials := try_threads(self.bundle, self.settings, self.data, stop, scratch)):
            found["threads"] = min(trials, key=lambda trial: trial.seconds).threads
            found["threads_tried"] = [asdict(trial) for trial in trials]
            self.listener.tried_threads(trials, found["threads"])
            self.sampler.skip()
        return found

    def everything(self, folder: RunWriter) -> dict[str, Any]:
        """From where the folder's last checkpoint is to the report. A run that fails has a report too, with the reason."""
        self.folder = folder
        self._restore()
        self.stepper.scale = self.scaling.at(self.bundle.manifest.lora.rank)
        self.listener.idle(self.sampler.baseline_footprint_bytes)
        self.listener.begin(self.position.step, self.steps, self.data)
        try:
            status = self._loop()
            self._checkpoint()
            if status in FINISHED:
                self._write_adapter()
            self.sampler.finish()
            self._log_samples([*self._thinning.step(self.position.step, self.sampler.phases()), *self._thinning.rest()])
            return self._write_report(status)
        except Exception as error:
            with suppress(OSError, MespError):  # a full disk may not take it either; what is told is the first error
                self._write_report("failed", reason=str(error))
            raise

    def _write_report(self, status: str, **more: str) -> dict[str, Any]:
        report = self._report(status) | more
        write_json(self.folder.path / REPORT, report)
        write_report(self.folder.path)
        return report

    def _report(self, status: str) -> dict[str, Any]:
        best = self.position.best_step if self.settings.eval_every else None
        lines = self.folder.lines
        return (
            outcome(status, lines(STEPS), lines(EVALUATIONS), best)
            | surroundings(self.bundle, self.data, self.sampler)
            | self.beforehand
        )

    def _restore(self) -> None:
        """Takes over the last checkpoint, if there is one, and cuts the logs to it."""
        last = list(checkpoints(self.folder.checkpoints).values())[-1:]
        for path in last:
            self.scaling, self.position = read_checkpoint(path, self.bundle.manifest, self.state)
        self.folder.open_logs(self.position.log_bytes)
        self.folder.remove_reports()  # they are of the run as it was interrupted
        sample = self.folder.last_line(MEMORY)
        self._seconds_before = sample["seconds"] if sample else 0.0

    def _loop(self) -> str:
        """Until the run is over; returns its status."""
        settings, batches = self.settings, self._batches()
        try:
            while True:
                if self._evaluation_is_due():
                    self._evaluate()
                if self.position.step == self.steps:
                    return "done"
                if settings.patience and self.position.worse >= settings.patience:
                    return "stopped_early"
                self._step(next(batches))
                if settings.checkpoint_every and self.position.step % settings.checkpoint_every == 0:
                    self._checkpoint()
        except Stopped:
            return "interrupted"

    def _batches(self) -> Iterator[list[Example]]:
        """The examples of each step from the run's position on. An epoch's end is not a step's: only the last step may be a short one."""
        size = self.settings.grad_accumulation
        done, total = self.position.step * size, self.steps * size
        if self.settings.steps is None:
            total = self.settings.epochs * len(self.data.examples)
        order = islice(self.data.order(done, self.settings.shuffle, self.settings.seed), total - done)
        while batch := list(islice(order, size)):
            yield batch

    def _step(self, examples: list[Example]) -> None:
        number, faults, began = self.position.step + 1, major_faults(), time.perf_counter()
        loss, norm = self.stepper.step(number, examples)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(number, loss, norm)
        step = Step(
            step=number,
            loss=loss,
            lr=self.stepper.optimizer.lr.at(number),
            grad_norm=norm,
            tokens=sum(example.tokens for example in examples),
            seconds=round(time.perf_counter() - began, 6),
            peak_footprint_bytes=self.sampler.end_of_step(),
            major_faults=major_faults() - faults,
        )
        self._log_samples(self._thinning.step(number, self.sampler.phases()))
        self.folder.log(STEPS, step)
        self.position = replace(self.position, step=number)
        self.listener.stepped(step)

    def _diverged(self, number: int, loss: float, norm: float) -> MespError:
        more = self.bundle.manifest.gradient_not_finite if math.isfinite(loss) else None
        return MespError(
            f"Step {number}: the loss is {loss}, and the norm of its gradient {norm}. {self._how_to_go_on(number - 1)}"
            + (f" {more}" if more else "")
        )

    def _how_to_go_on(self, failed: int) -> str:
        """What to do where the adapter after step ``failed`` is no good: a checkpoint of that step is not either."""
        good = [path for step, path in checkpoints(self.folder.checkpoints).items() if step < failed][-1:]
        where = f"The last good checkpoint is {good[0]}" if good else "No checkpoint from before that is kept"
        how = f", or from there: --adapter {good[0]}" if good else ""
        return f"{where}, and the log until here. Start a new run with a lower --lr, with --clip-norm or with --warmup{how}."

    def _log_samples(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            self.folder.log(MEMORY, replace(sample, seconds=round(self._seconds_before + sample.seconds, 4)))

    def _evaluation_is_due(self) -> bool:
        step, every = self.position.step, self.settings.eval_every
        due = step in (0, self.steps) or (every is not None and step % every == 0)
        return bool(self.held_out) and due and self.position.evaluated_step != step

    def _evaluate(self) -> None:
        step, began = self.position.step, time.perf_counter()
        loss = self.stepper.evaluate(self.held_out, self._evaluating)
        if not math.isfinite(loss):
            raise MespError(f"After step {step} the held-out loss is {loss}. {self._how_to_go_on(step)}")
        evaluation = Evaluation(step, loss, round(time.perf_counter() - began, 6))
        self.folder.log(EVALUATIONS, evaluation)
        self.position = replace(self.position, evaluated_step=step)
        if step and (self.position.best_loss is None or loss < self.position.best_loss):
            self.position = replace(self.position, best_step=step, best_loss=loss, worse=0)
            if self.settings.eval_every:
                self._write_peft(BEST)
        elif step:
            self.position = replace(self.position, worse=self.position.worse + 1)
        self.listener.evaluated(evaluation)

    def _evaluating(self, done: int) -> None:
        self.sampler.end_of_step()
        sequences, samples = len(self.held_out), self.sampler.phases()
        self._log_samples(self._thinning.sequence(self.position.step, done, sequences, samples))
        self.listener.evaluating(done, sequences)

    def _checkpoint(self) -> None:
        if self.position.step in checkpoints(self.folder.checkpoints):
            return
        with _going_on_later(self.folder.path):
            self.position = replace(self.position, log_bytes=self.folder.log_bytes())
            path = write_checkpoint(
                self.folder.checkpoints, self.bundle.manifest, self.state, self.scaling, self.position
            )
        prune(self.folder.checkpoints, self.settings.keep_checkpoints)
        self.listener.checkpointed(path)

    def _write_adapter(self) -> None:
        """RUN/adapter: the best evaluation's where there were evaluations in between, else the last."""
        if self.settings.eval_every:
            lora = self.bundle.manifest.lora
            read_peft(self.folder.path / BEST, lora, self.state[lora.state])
        self._write_peft(ADAPTER)

    def _write_peft(self, name: str) -> None:
        manifest = self.bundle.manifest
        with _going_on_later(self.folder.path), folder_that_appears_whole(self.folder.path / name, replace=True) as new:
            write_peft(new, manifest.lora, self.state[manifest.lora.state], self.scaling, manifest.model.origin)


@contextmanager
def _going_on_later(run: Path) -> Iterator[None]:
    """Adds to what the disk did not take how to go on."""
    try:
        yield
    except MespError as error:
        raise MespError(f"{error} {how_to_go_on(run)}") from error
    except OSError as error:
        raise MespError(f"The disk did not take it: {error.strerror or error}. {how_to_go_on(run)}") from error


def load_adapter(bundle: Bundle, adapter: Tensor, settings: TrainSettings | None = None) -> Scaling:
    """Fills an adapter from the settings' PEFT folder, or with the bundle's initial one, and returns its scaling."""
    lora = bundle.manifest.lora
    if settings and settings.adapter:
        origin = None if settings.allow_other_base else bundle.manifest.model.origin
        return read_peft(settings.adapter, lora, adapter, origin)
    read_adapter(bundle.path / bundle_files.ADAPTER, lora, adapter)
    return Scaling(lora.alpha)


# --- What a run is: two runs that agree in this do the same ------------------------------------------------------------


def _run_json(bundle: Bundle, settings: TrainSettings, data: Dataset, held_out: Dataset | None) -> dict[str, Any]:
    steps = settings.steps_of(len(data.examples))
    start = settings.adapter / WEIGHTS if settings.adapter else None
    return {
        "settings": settings.to_json() | _whole_paths(settings) | {"steps": steps},
        "steps_follow_from_epochs": settings.steps is None,
        "bundle": bundle_json(bundle),
        "data": _data_json(data),
        "eval_data": _data_json(held_out) if held_out else None,
        "adapter_sha256": sha256(start) if start and start.is_file() else None,
        "versions": versions(),
    }


def _whole_paths(settings: TrainSettings) -> dict[str, str]:
    """Where the files are, from wherever the run is resumed."""
    paths = {name: getattr(settings, name) for name in PATHS}
    return {name: os.path.abspath(path) for name, path in paths.items() if path is not None and path.exists()}


def _data_json(data: Dataset) -> dict[str, Any]:
    return {"examples": len(data.examples), "sha256": data.fingerprint}


def _check_can_go_on(folder: RunWriter) -> None:
    """Refuses more steps where nothing is left to go on from."""
    if not checkpoints(folder.checkpoints):
        raise UsageError(
            f"{folder.path} is done, and has no checkpoint to go on from. Start another run from its adapter: --adapter {folder.path / ADAPTER}"
        )


def _or_other_tokens(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The same file may give other tokens by another version of the library that tokenizes it."""
    was, is_ = before.get("versions"), now["versions"]["transformers"]
    if not isinstance(was, dict) or was.get("transformers") in (None, is_):
        return ""
    return f", or other tokens by transformers {is_} than by {was['transformers']}"


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to go on with a run with other settings, bundle or data than it began with."""
    found = differences(now["settings"], before["settings"])
    found += [
        f"{name} of the bundle has changed"
        for name, digest in now["bundle"]["sha256"].items()
        if digest != before["bundle"]["sha256"].get(name)
    ]
    for key, what in (("data", "--data"), ("eval_data", "the held-out data"), ("adapter_sha256", "--adapter")):
        if now[key] != before[key]:
            found.append(f"{what} has other contents{_or_other_tokens(before, now) if 'data' in key else ''}")
    if found:
        raise UsageError(
            f"This is not the run that was interrupted: {'; '.join(found)}. Resume with what it was started with, or start another run."
        )
