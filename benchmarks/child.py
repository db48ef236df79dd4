"""A function of export or runtime in a process of its own, so that its time and its memory are its own.

    python -m mesp.bench.child FUNCTION ARGUMENTS

ARGUMENTS are the function's, as a JSON object. What it returns goes to standard output, as JSON. An error's message goes to standard error,
and the exit status is 1, or 2 for bad input.
"""

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.errors import MespError

if TYPE_CHECKING:
    from mesp.export.export_settings import ExportSettings

Settings = Mapping[str, Any]


def export(checkpoint: str, output: str, settings: Settings) -> None:
    """A bundle of a configuration, with random weights. ``settings`` are ExportSettings' fields."""
    from mesp.export.bundle.export import export_bundle

    export_bundle(checkpoint, Path(output), _export_settings(settings), random_init=True)


def plan(checkpoint: str, settings: Settings, optimizer: str) -> dict[str, int]:
    """The predicted peak over idle by part, in bytes."""
    from mesp.export.bundle.make_plan import make_plan
    from mesp.export.model.checkpoint import open_checkpoint
    from mesp.export.predict.footprint import footprint

    opened = open_checkpoint(checkpoint, random_init=True)
    return footprint(make_plan(opened.config, _export_settings(settings)), optimizer)


def inspect(bundle: str) -> Mapping[str, Any]:
    """What is in a bundle."""
    from mesp.runtime.engine.bundle import open_bundle
    from mesp.runtime.report.inspect import to_json

    return to_json(open_bundle(Path(bundle)))


def train(
    bundle: str, output: str, settings: Settings, resume: bool = False, tensorboard: bool = False
) -> dict[str, Any]:
    """A run of training. ``settings`` are TrainSettings' fields; returns its report."""
    from mesp.runtime.training.loop import train
    from mesp.runtime.training.settings import TrainSettings

    chosen = TrainSettings(**{**settings, "data": Path(settings["data"])})
    if not tensorboard:
        return train(Path(bundle), Path(output), chosen, resume=resume)
    from mesp.runtime.training.tensorboard import TensorBoard

    with TensorBoard(Path(output)) as listener:
        return train(Path(bundle), Path(output), chosen, listener, resume)


FUNCTIONS: dict[str, Callable[..., Any]] = {"export": export, "plan": plan, "inspect": inspect, "train": train}


def _export_settings(settings: Settings) -> "ExportSettings":
    from mesp.export.export_settings import ExportSettings

    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return ExportSettings(**chosen)


# --- For the parent ---------------------------------------------------------------------------------------------------


def command(function: str, **arguments: Any) -> list[str]:
    """The command line that calls a function of ``FUNCTIONS``. Paths among the arguments become texts."""
    assert function in FUNCTIONS
    return [sys.executable, "-m", "mesp.bench.child", function, json.dumps(arguments, default=str)]


def trained(
    bundle: Path, rows: list[dict[str, list[int]]], tensorboard: bool = False, **settings: Any
) -> dict[str, Any]:
    """Trains on rows in a process of its own, and returns its report.

    Raises:
        CalledProcessError: it failed; it has said why on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "rows.jsonl", Path(folder) / "run"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        line = command("train", bundle=bundle, output=run, settings={"data": data, **settings}, tensorboard=tensorboard)
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
        report: dict[str, Any] = json.loads(done.stdout)
        return report


# --- In the child -----------------------------------------------------------------------------------------------------


def main() -> int:
    """Calls the function; returns the exit status."""
    name, arguments = sys.argv[1:]
    warnings.simplefilter("ignore")
    for library in ("torch.utils._pytree", "executorch", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        json.dump(FUNCTIONS[name](**json.loads(arguments)), sys.stdout)
    except (MespError, OSError) as error:
        print(error, file=sys.stderr)
        return error.exit_status if isinstance(error, MespError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
