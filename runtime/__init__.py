"""Runs a bundle on the host: what the app on the phone does, in Python.

The Python API is what this package exports: ``train`` with ``TrainSettings``, a ``Listener`` to follow a run, ``write_report``.

    schedule         the language of a step: five instructions, and the check of a list of them
    arena            places for the buffers of a schedule
    bundle           the format of a bundle, and opening one
    session          the interpreter
    adapter          PEFT's adapters, in and out

    rows             the rows of a data file, checked
    labels           a row to tokens, and which of them are trained on
    data             examples: windows, cutting, the held-out part, the order
    settings         what a person chooses
    optimizer        learning rates, and the scalars of a step
    stepper          one step, one evaluation
    training         the loop
    checkpoint       what a run needs to go on
    run_writer       the folder of a run, written
    outcome          report.json
    listener         what a run tells; progress, tensorboard, interrupt

    memory, watch    samples of the footprint, by a process of their own
    run_folder       the folder of a run, read
    figures, charts  what is drawn of it, and how
    report           pages: of a run, of several
    inspect          a bundle for a person

    files, tensor_file, errors, environment    what all of them share

Nothing here knows of transformers' models or of MeSP: a bundle's schedules say what to do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.bundle import Bundle, open_bundle
    from .engine.session import Session
    from .errors import MespError, UsageError
    from .report.report import write_comparison, write_report
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
    "write_comparison": "report.report",
    "write_report": "report.report",
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
