"""Fine-tuning on the host: policies around a session. One step is one sequence and one run of the bundle's schedule."""

import json
import math
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import psutil

from .adapter import read_adapter, read_peft, write_peft
from .bundle import ADAPTER, TOKENIZER, Bundle, open_bundle
from .data import Dataset, Example, load_dataset
from .errors import MespError, UsageError
from .files import write_json
from .memory import Sample, Sampler
from .optimizer import Name, Optimizer
from .report import write_report
from .session import Session

DEFAULT_LR: dict[Name, float] = {"sgd": 0.1, "adamw": 2e-4}


@dataclass(frozen=True)
class TrainSettings:
    """What a person chooses for a run.

    Args:
        data: training rows; eval_data: held-out rows, evaluated before and after
        adapter: a PEFT adapter folder to start from, instead of the bundle's initial one
        steps: how many; None for ``epochs`` passes over the data
        lr: None for the optimizer's default, ``DEFAULT_LR``
        seed: of the order of the rows
        threads: of the programs; None for one a core
    """

    data: Path
    eval_data: Path | None = None
    adapter: Path | None = None
    steps: int | None = None
    epochs: int = 1
    optimizer: Name = "adamw"
    lr: float | None = None
    weight_decay: float = 0.0
    shuffle: bool = True
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class Step:
    """What a step came to: a line of steps.jsonl."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float
    peak_footprint_bytes: int


class Listener:
    """Hears of a run's progress; this one does nothing."""

    def begin(self, steps: int, dataset: Dataset) -> None:
        """The data is read, and the run is about to start."""

    def evaluated(self, when: str, loss: float) -> None:
        """A held-out loss is known, ``before`` or ``after``."""

    def stepped(self, step: Step) -> None:
        """A step is done."""


def train(bundle_path: Path, output: Path, settings: TrainSettings, listener: Listener | None = None) -> dict[str, Any]:
    """Fine-tunes a bundle's adapter, writes the run folder, and returns what its report.json holds.

    Raises:
        UsageError: a setting, bundle, adapter or data file that cannot be used; no folder is made.
        MespError: the loss is no longer finite; what was logged until then is kept.
    """
    if output.exists():
        raise UsageError(f"{output} exists already. Choose another output, or remove it first.")
    optimizer = _optimizer(settings)
    bundle = open_bundle(bundle_path)
    manifest = bundle.manifest
    vocabulary = manifest.model["config"]["vocab_size"]

    def load(path: Path) -> Dataset:
        return load_dataset(path, manifest.tokens, vocabulary, bundle_path / TOKENIZER)

    data, held_out = load(settings.data), load(settings.eval_data) if settings.eval_data else None
    steps = settings.steps if settings.steps is not None else settings.epochs * len(data.examples)
    order = data.order(math.ceil(steps / len(data.examples)), settings.shuffle, settings.seed)
    listener = listener or Listener()
    with Sampler() as sampler:
        run = _Run(bundle, settings, optimizer, sampler, listener)
        output.mkdir(parents=True)
        write_json(output / "run.json", _run_json(bundle, settings, optimizer, steps))
        listener.begin(steps, data)
        with open(output / "steps.jsonl", "w") as log, open(output / "memory.jsonl", "w") as memory:
            report = run.everything(islice(order, steps), held_out, log, memory)
        write_peft(
            output / "adapter",
            manifest.lora,
            run.session.state["adapter"],
            run.scale * manifest.lora.rank,
            manifest.model["origin"],
        )
        report["memory"] = _memory_json(sampler, manifest.lora.nbytes)
    report |= {
        "cut_rows": data.cut_rows,
        "cut_tokens": data.cut_tokens,
        "environment": environment(),
        "bundle": _bundle_json(bundle),
    }
    write_json(output / "report.json", report)
    write_report(output)
    return report


class _Run:
    """The session of a run, and the loops over examples."""

    def __init__(
        self, bundle: Bundle, settings: TrainSettings, optimizer: Optimizer, sampler: Sampler, listener: Listener
    ):
        schedules = [optimizer.schedule, *(["evaluate"] if settings.eval_data else [])]
        self.session = Session(bundle, schedules, settings.threads, sampler)
        self.scale = load_adapter(bundle, self.session, settings.adapter)
        self._optimizer, self._sampler, self._listener = optimizer, sampler, listener

    def everything(
        self, order: Iterable[Example], held_out: Dataset | None, log: TextIO, memory: TextIO
    ) -> dict[str, Any]:
        before = self._evaluate(held_out, "before", memory)
        began = time.perf_counter()
        steps = [self._step(number, example, log, memory) for number, example in enumerate(order, 1)]
        seconds = time.perf_counter() - began
        after = self._evaluate(held_out, "after", memory)
        return {
            "status": "done",
            "steps": len(steps),
            "loss_first": steps[0].loss if steps else None,
            "loss_last": steps[-1].loss if steps else None,
            "eval_loss_before": before,
            "eval_loss_after": after,
            "step_seconds_median": median(step.seconds for step in steps) if steps else None,
            "tokens_per_second": sum(step.tokens for step in steps) / seconds if steps else None,
        }

    def _inputs(self, example: Example) -> dict[str, Any]:
        return {
            "input_ids": example.input_ids,
            "targets": example.targets,
            "token_weight": example.token_weight,
            "lora_scale": self.scale,
        }

    def _step(self, number: int, example: Example, log: TextIO, memory: TextIO) -> Step:
        began = time.perf_counter()
        outputs = self.session.run(self._optimizer.schedule, self._inputs(example) | self._optimizer.scalars(number))
        seconds = time.perf_counter() - began
        step = Step(
            step=number,
            loss=float(outputs["loss"]),
            lr=self._optimizer.lr,
            grad_norm=math.sqrt(float(outputs["gradient_square_sum"])),
            tokens=example.tokens,
            seconds=round(seconds, 6),
            peak_footprint_bytes=self._sampler.end_of_step(),
        )
        log.write(json.dumps(asdict(step)) + "\n")
        log.flush()
        _write_samples(memory, self._sampler.phases())
        if not math.isfinite(step.loss) or not math.isfinite(step.grad_norm):
            raise MespError(
                f"Step {number}: the loss is {step.loss} and the gradient's norm {step.grad_norm}. Lower --lr; the log until here is kept."
            )
        self._listener.stepped(step)
        return step

    def _evaluate(self, dataset: Dataset | None, when: str, memory: TextIO) -> float | None:
        """The mean loss over the data's unmasked targets."""
        if dataset is None:
            return None
        total = 0.0
        for example in dataset.examples:
            total += example.predictions * float(self.session.run("evaluate", self._inputs(example))["loss"])
            self._sampler.end_of_step()
            _write_samples(memory, self._sampler.phases())
        loss = total / sum(example.predictions for example in dataset.examples)
        self._listener.evaluated(when, loss)
        return loss


def load_adapter(bundle: Bundle, session: Session, peft_folder: Path | None) -> float:
    """Fills the session's adapter, from a PEFT folder or with the bundle's initial one, and returns its scale."""
    lora, adapter = bundle.manifest.lora, session.state["adapter"]
    if peft_folder:
        return read_peft(peft_folder, lora, adapter)
    read_adapter(bundle.path / ADAPTER, lora, adapter)
    return lora.alpha / lora.rank


def _optimizer(settings: TrainSettings) -> Optimizer:
    lr = DEFAULT_LR[settings.optimizer] if settings.lr is None else settings.lr
    for name, value, least in (("--lr", lr, 0.0), ("--weight-decay", settings.weight_decay, 0.0)):
        if not (math.isfinite(value) and value >= least):
            raise UsageError(f"{name} {value} must be a number of at least {least}.")
    for name, count in (("--steps", settings.steps), ("--epochs", settings.epochs), ("--threads", settings.threads)):
        if count is not None and count < 1:
            raise UsageError(f"{name} {count} must be at least 1.")
    return Optimizer(settings.optimizer, lr, settings.weight_decay)


def _memory_json(sampler: Sampler, least_bytes: int) -> dict[str, Any]:
    """The memory report, or why there is none: training is not lost because its measurement is."""
    try:
        return asdict(sampler.report(least_bytes))
    except MespError as error:
        return {"refused": str(error)}


def _write_samples(file: TextIO, samples: Iterable[Sample]) -> None:
    for sample in samples:
        file.write(json.dumps({**asdict(sample), "seconds": round(sample.seconds, 4)}) + "\n")
    file.flush()


def _run_json(bundle: Bundle, settings: TrainSettings, optimizer: Optimizer, steps: int) -> dict[str, Any]:
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    return {
        "settings": {**chosen, "steps": steps, "lr": optimizer.lr},
        "optimizer": asdict(optimizer),
        "bundle": _bundle_json(bundle),
        "versions": _versions(),
    }


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    lora = {"rank": manifest.lora.rank, "alpha": manifest.lora.alpha, "targets": list(manifest.lora.targets)}
    hashes = {name: item["sha256"] for name, item in manifest.files.items()}
    return {
        "path": str(bundle.path),
        "model": manifest.model["origin"],
        "tokens": manifest.tokens,
        "weights": dict(manifest.weights),
        "lora": lora,
        "sha256": hashes,
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "executorch", "transformers", "numpy")},
    }


def environment() -> dict[str, Any]:
    """The machine and the versions, for the report."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        **_versions(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
