"""A bundle: the directory that export writes and every runtime reads.

manifest.json         what is in it, the programs' signatures, the tensors, the schedules with their arenas, SHA-256 of each file
program.pte           a method for each program
weights.safetensors   frozen weights in the programs' layout, mapped and never copied
adapter.safetensors   the initial adapter, in PEFT's layout
tokenizer/            what the tokenizer needs, and mobile.json, what a phone needs; absent if the checkpoint had none
"""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..account import shown
from ..errors import MespError, UsageError
from ..files import read_json_object, sha256
from .arena import check_arena
from .manifest import FORMAT_VERSION, Manifest
from .schedule import TensorSpec, check
from .tensor_file import read_layout

MANIFEST = "manifest.json"
PROGRAM = "program.pte"
WEIGHTS = "weights.safetensors"
ADAPTER = "adapter.safetensors"
TOKENIZER = "tokenizer"


class Bundle:
    """An opened bundle, its files checked."""

    def __init__(self, path: Path, manifest: Manifest, weights: Mapping[str, tuple[TensorSpec, int]]):
        self.path, self.manifest = path, manifest
        self.weights = weights  # spec and place in bytes in the weights file

    def tensors(self) -> dict[str, TensorSpec]:
        """Every tensor that a schedule may refer to."""
        return {name: spec for name, (spec, _) in self.weights.items()} | {
            name: tensor.spec for name, tensor in self.manifest.tensors.items()
        }

    def map_weights(self) -> mmap.mmap:
        """The weights file, mapped for reading: its pages stay clean, and the kernel can drop and read them again."""
        with open(self.path / WEIGHTS, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def open_bundle(path: Path, verify_files: bool = True) -> Bundle:
    """Opens a bundle and checks it: version, hashes, and each schedule against the programs and tensors.

    Raises:
        UsageError: no bundle, one of a newer format, or one that was changed after it was written.
        MespError: a schedule that does not fit its programs.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise UsageError(f"{path} is not a bundle: {_what_it_is(path)}")
    json_ = read_json_object(file, "a bundle's manifest")
    version = json_.get("format_version")
    if version != FORMAT_VERSION:
        raise UsageError(
            f"{path} has bundle format {shown(version)}; this version of mesp reads format {FORMAT_VERSION}. Export it again, or update mesp."
        )
    try:
        return _opened(path, json_, verify_files)
    except (OSError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        # What a manifest says is used as it is: whatever is of another kind fails here, where all of it is looked at.
        raise UsageError(
            f"{file} is damaged ({type(error).__name__}: {shown(str(error))}). Export the bundle again."
        ) from error


def _opened(path: Path, json_: dict[str, Any], verify_files: bool) -> Bundle:
    manifest = Manifest.from_json(json_)
    if verify_files:
        _check_files(path, manifest)
    bundle = Bundle(path, manifest, read_layout(path / WEIGHTS))
    if unknown := set(manifest.warm_up) - set(manifest.programs):
        raise MespError(
            f"{path / MANIFEST} would warm up with {', '.join(sorted(unknown))}, which the bundle does not have."
        )
    for schedule in manifest.schedules.values():
        check(schedule.instructions, manifest.programs, bundle.tensors())
        check_arena(schedule.arena, schedule.instructions, bundle.tensors(), manifest.arena_kinds())
    return bundle


def _what_it_is(path: Path) -> str:
    """What stands in a bundle's place, and how to get a bundle."""
    export = f"Make a bundle of it: mesp export {path} -o BUNDLE"
    if not path.exists():
        if path.suffix == ".gguf" or path.parent.exists():
            return f"there is nothing. Make one with: mesp export CHECKPOINT -o {path}"
        return f"there is nothing. If it is a model on the Hugging Face Hub: mesp export {path} -o BUNDLE"
    if path.suffix.lower() == ".zip":
        return "it is an archive. Unpack it, and give the folder."
    if path.is_file():
        gguf = path.open("rb").read(4) == b"GGUF"
        return f"it is a checkpoint. {export}" if gguf else f"it is a file. {_EXPECTED}"
    for name, what in _FOLDERS.items():
        if (path / name).is_file():
            return what.format(export=export, path=path)
    below = sorted(item.parent.name for item in path.glob(f"*/{MANIFEST}"))
    if below:
        return f"it holds {', '.join(below[:4])}. Give one of them."
    return f"it has no {MANIFEST}. {_EXPECTED}"


_EXPECTED = "Expected a folder that was made with: mesp export CHECKPOINT -o BUNDLE"
_FOLDERS = {
    "run.json": "it is the folder of a run. Go on with that run: mesp train --resume {path}",
    "adapter_config.json": "it is an adapter. Give the bundle, and the adapter as: --adapter {path}",
    "config.json": "it is a checkpoint. {export}",
}


def _check_files(path: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise UsageError(f"{path} lacks {name}. Export the bundle again.")
        if file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            raise UsageError(
                f"{file} was changed or damaged after the bundle was written: its SHA-256 is not the manifest's. Export the bundle again."
            )
