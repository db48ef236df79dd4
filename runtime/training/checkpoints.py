"""Checkpoints: everything that a run needs to go on as if it had never stopped. RUN/checkpoints/step-N is complete or absent.

    adapter_config.json, adapter_model.safetensors    the adapter, as PEFT loads it
    optimizer.safetensors                             the optimizer's state, if it has one
    trainer_state.json                                where the run is; the position in the data and the learning rate follow from the step

A checkpoint is written into a folder beside its place, flushed to the device, and renamed.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..engine.manifest import Manifest
from ..engine.schedule import TensorSpec
from ..engine.tensor_file import TensorFile
from ..errors import MespError, UsageError
from ..files import folder_that_appears_whole, write_json
from .adapter import Scaling, read_peft, write_peft

OPTIMIZER, STATE = "optimizer.safetensors", "trainer_state.json"


@dataclass(frozen=True)
class Position:
    """Where a run is.

    Args:
        step: steps done
        evaluated_step: the step of the last evaluation, -1 for none
        best_step, best_loss: of the best evaluation after a step of training
        worse: evaluations in a row that were not better than it
        log_bytes: length of each log of the run folder at that moment
    """

    step: int = 0
    evaluated_step: int = -1
    best_step: int | None = None
    best_loss: float | None = None
    worse: int = 0
    log_bytes: Mapping[str, int] = field(default_factory=dict)


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by step, oldest first."""
    found = {int(m[1]): path for path in folder.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", path.name))}
    return dict(sorted(found.items()))


def write_checkpoint(
    folder: Path, manifest: Manifest, state: Mapping[str, Tensor], scaling: Scaling, position: Position
) -> Path:
    """Writes ``folder/step-N`` and returns it. ``state`` is the session's: the adapter and the optimizer's tensors.

    Raises:
        MespError: the disk is full or cannot be written; what was there stays as it was.
    """
    path = folder / f"step-{position.step}"
    with folder_that_appears_whole(path) as new:
        write_peft(new, manifest.lora, state[manifest.lora.state], scaling, manifest.model.origin)
        moments = _moments(manifest, state)
        if moments:
            specs = {name: TensorSpec(tuple(tensor.shape)) for name, tensor in moments.items()}
            with TensorFile(new / OPTIMIZER, specs) as file:
                for name, tensor in moments.items():
                    file.write(name, tensor)
        write_json(new / STATE, asdict(position))
    return path


def read_checkpoint(path: Path, manifest: Manifest, state: Mapping[str, Tensor]) -> tuple[Scaling, Position]:
    """Fills the session's state from a checkpoint.

    Raises:
        UsageError: it was damaged after it was written; names the file.
    """
    try:
        position = _position(json.loads((path / STATE).read_text(encoding="utf-8")))
        scaling = read_peft(path, manifest.lora, state[manifest.lora.state])
        _read_moments(path / OPTIMIZER, _moments(manifest, state))
    except (UsageError, OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise UsageError(
            f"The checkpoint {path} is damaged: {error} Remove that folder, and --resume goes on from the one before, "
            "or from the beginning."
        ) from error
    return scaling, position


def _position(values: dict[str, Any]) -> Position:
    """Raises TypeError or ValueError for what is none."""
    position = Position(**values)
    counts = (position.step, position.evaluated_step, position.worse, *dict(position.log_bytes).values())
    best = (position.best_step, position.best_loss)
    numbers = [*counts, *(value for value in best if value is not None)]
    if not all(isinstance(number, int | float) and number >= -1 for number in numbers) or (best[0] is None) != (
        best[1] is None
    ):
        raise ValueError(f"{STATE} says {values}.")
    return position


def _moments(manifest: Manifest, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The states that the manifest wants in a checkpoint, of those that the session has."""
    return {name: state[name] for name in manifest.checkpoint if name in state}


def _read_moments(path: Path, moments: Mapping[str, Tensor]) -> None:
    if not moments:
        return
    with safe_open(path, "pt") as file:
        if set(file.keys()) != set(moments):
            raise ValueError(f"{path.name} holds {sorted(file.keys())}, not {sorted(moments)}.")
        for name, tensor in moments.items():
            tensor.copy_(file.get_tensor(name))


def prune(folder: Path, keep: int) -> None:
    """Removes all but the latest checkpoints.

    Raises:
        MespError: one could not be removed.
    """
    for path in list(checkpoints(folder).values())[:-keep]:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        doomed = path.with_name(f".{path.name}")
        try:
            path.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise MespError(f"Could not remove the old checkpoint {path}: {error.strerror}.") from error
