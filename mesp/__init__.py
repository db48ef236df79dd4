"""Fine-tune language models on Android: LoRA with exact gradients in little memory.

The Python API, by the names of the command line:

    export      a checkpoint to a bundle, which is what the others call a bundle
    plan        the memory that training will take, before anything is exported
    train       a bundle's adapter here; returns a Run
    generate    text before and after
    merge       an adapter into its model's weights
    convert     an adapter as other programs take it
    verify, inspect, report, open_run

    bundle = mesp.export("SmolLM2-135M-Instruct.Q4_1.gguf", "bundle", seq_len=[64, 256])
    run = mesp.train(bundle, "run", data="text.txt", steps=20)
    print(run.loss_last, run.memory.delta_footprint_bytes, run.adapter)

What cannot be used raises ``UsageError``, and what fails ``MespError``, its base. The packages:

    runtime        runs a bundle on the host, and has what is shared with the app
    export         from a checkpoint to a bundle
    bench          measures tables of figures, and answers single questions
    device         fine-tunes on a phone over adb
    command_line   ``mesp``: stands above all of them

The first four are links to runtime/, export/, benchmarks/ and android_app/device/. Each has a page that lists its rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export.api import convert, export, generate, merge, plan, verify
    from .export.export_settings import ExportSettings
    from .runtime.api import Run, inspect, open_run, report, train
    from .runtime.engine.bundle import Bundle
    from .runtime.errors import MespError, UsageError
    from .runtime.generation.options import GenerateOptions
    from .runtime.training.listener import Evaluation, Listener, Step
    from .runtime.training.settings import TrainSettings

    __version__: str

# Imported when they are asked for: torch takes seconds, and a help text should not.
_HOMES = {
    "export.api": ("convert", "generate", "merge", "plan", "verify"),
    "export.export_settings": ("ExportSettings",),
    "runtime.generation.options": ("GenerateOptions",),
    "runtime.api": ("Run", "inspect", "open_run", "report", "train"),
    "runtime.engine.bundle": ("Bundle",),
    "runtime.errors": ("MespError", "UsageError"),
    "runtime.training.listener": ("Evaluation", "Listener", "Step"),
    "runtime.training.settings": ("TrainSettings",),
}
__all__ = [
    "Bundle",
    "Evaluation",
    "ExportSettings",
    "GenerateOptions",
    "Listener",
    "MespError",
    "Run",
    "Step",
    "TrainSettings",
    "UsageError",
    "__version__",
    "convert",
    "export",
    "generate",
    "inspect",
    "merge",
    "open_run",
    "plan",
    "report",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("mesp")
    if name == "export":  # the package, which can be called
        return import_module(".export", __name__)
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
