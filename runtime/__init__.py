"""Runs a bundle on the host: what the app on the phone does, in Python.

The Python API is what this package exports: ``train`` with ``TrainSettings``, a ``Listener`` to follow a run, ``write_report``.

The rooms, in the order in which a run uses them:

    contract/   what Python, Kotlin and the harness share, as JSON Schema
    engine/     a bundle and its interpreter
        manifest, bundle, sizes   the format of a bundle, opening one; the lengths that it has programs for
        schedule, arena           the language of a step, and places for its buffers; both checked
        session                   the interpreter of schedules
        executorch_runtime        ExecuTorch's runtime, without its compiler
        planned                   the memory that schedules are known to take
        scratch, tensor_file      memory in files: what is offloaded, and safetensors written piece by piece
        random_signs              the noise of MeZO, the same on every machine
    data/       from a file to the examples of a step
        hub, records, rows, conversations, opening, labels, dataset
    training/   a run
        settings, config, start, resume, optimizer, stepper, loop, adapter_config, adapter, checkpoints, run_writer, listener
        console_progress, tensorboard, interrupt
    memory/     what a run takes
        sampler, watch, environment
    report/     what a run came to
        outcome                   report.json
        run_folder                a run's folder, read back
        words, headline, memory_bar, figures, comparison, charts, phone_rows, pages    report.html
        texts                     before and after
        inspect                   a bundle, for a person

    errors, files, account        what all rooms share

Each room's own page tells more. Nothing here knows of transformers or of MeSP: a bundle's schedules say what to do, and its manifest says what
to keep and under which names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.bundle import Bundle, open_bundle
    from .engine.session import Session
    from .errors import MespError, UsageError
    from .report.pages import write_comparison, write_report
    from .training.listener import Evaluation, Listener, Step
    from .training.loop import train
    from .training.settings import TrainSettings

# Imported when they are asked for: ExecuTorch takes seconds, and the command line's help should not.
_HOME = {
    "Bundle": "engine.bundle",
    "open_bundle": "engine.bundle",
    "MespError": "errors",
    "UsageError": "errors",
    "Evaluation": "training.listener",
    "Listener": "training.listener",
    "Step": "training.listener",
    "write_comparison": "report.pages",
    "write_report": "report.pages",
    "Session": "engine.session",
    "TrainSettings": "training.settings",
    "train": "training.loop",
}
__all__ = [
    "Bundle",
    "Evaluation",
    "Listener",
    "MespError",
    "Session",
    "Step",
    "TrainSettings",
    "UsageError",
    "open_bundle",
    "train",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
