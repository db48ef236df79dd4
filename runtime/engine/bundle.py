"""A bundle: the directory that export writes and every runtime reads.

manifest.json         what is in it, the programs' signatures, the tensors, the schedules with their arenas, SHA-256 of each file
program.pte           a method for each program
weights.safetensors   frozen weights in the programs' layout, mapped and never copied
adapter.safetensors   the initial adapter, in PEFT's layout
tokenizer/            what the tokenizer needs, and mobile.json, what a phone needs; absent if the checkpoint had none
"""

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MespError, UsageError
from .arena import Arena, check_arena
from .schedule import Instructions, ProgramSpec, TensorSpec, check, from_json, to_json
from .sizes import Size, sizes

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
PROGRAM = "program.pte"
WEIGHTS = "weights.safetensors"
ADAPTER = "adapter.safetensors"
TOKENIZER = "tokenizer"

_DTYPES = {"F32": "float32", "I8": "int8", "U8": "uint8", "I64": "int64"}


@dataclass(frozen=True)
class Tensor:
    """Memory with a name that the runtime provides.

    ``kind``: ``state`` is kept from run to run and starts as zeros; a ``file`` is kept on the disk; the others live in the arena: an
    ``input`` is written before a run, an ``output`` is read after it, a ``buffer`` is neither.
    """

    kind: str
    spec: TensorSpec

    @property
    def in_arena(self) -> bool:
        return self.kind not in ("state", "file")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.spec.to_json()}

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Tensor":
        return Tensor(json["kind"], TensorSpec.from_json(json))


@dataclass(frozen=True)
class Schedule:
    """A list of instructions and the arena that it runs in."""

    instructions: Instructions
    arena: Arena

    def to_json(self) -> dict[str, Any]:
        return {"arena": self.arena.to_json(), "instructions": to_json(self.instructions)}

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Schedule":
        return Schedule(from_json(json["instructions"]), Arena.from_json(json["arena"]))


@dataclass(frozen=True)
class AdapterTensor:
    """One tensor of the adapter in a layer's vector: A is [in, rank], B is [out, rank]."""

    projection: str
    factor: str  # lora_a or lora_b
    offset: int  # in elements
    shape: tuple[int, int]


@dataclass(frozen=True)
class Lora:
    """The adapter that a bundle trains."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    first_layer: int  # the lowest of the model's that has adapters
    layers: int  # how many, up to the last
    layer_elements: int
    tensors: tuple[AdapterTensor, ...]

    @property
    def nbytes(self) -> int:
        return self.layers * self.layer_elements * 4

    def to_json(self) -> dict[str, Any]:
        tensors = [{**vars(tensor), "shape": list(tensor.shape)} for tensor in self.tensors]
        return {**vars(self), "targets": list(self.targets), "tensors": tensors}

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Lora":
        tensors = tuple(AdapterTensor(**{**item, "shape": tuple(item["shape"])}) for item in json["tensors"])
        return Lora(**{**json, "targets": tuple(json["targets"]), "tensors": tensors})


@dataclass(frozen=True)
class Needs:
    """What an ExecuTorch library must have for the programs to run, by the names that it lists them under."""

    operators: tuple[str, ...]  # that run outside of the delegates, such as aten::embedding.out
    backends: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"operators": list(self.operators), "backends": list(self.backends)}

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Needs":
        return Needs(tuple(json["operators"]), tuple(json["backends"]))


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    model: Mapping[str, Any]  # origin, config (transformers' own), parameters
    weights: Mapping[str, Any]  # format, group_size
    lengths: tuple[int, ...]  # of the sequences that there are programs for, ascending
    head_rows: tuple[int, ...]  # numbers of targets that there are programs of the head for, beside the lengths
    tiling: Mapping[str, int]
    method: str
    lora: Lora
    tensors: Mapping[str, Tensor]
    programs: Mapping[str, ProgramSpec]
    needs: Needs
    warm_up: tuple[str, ...]  # programs by workspace, the largest first
    schedules: Mapping[str, Schedule]
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]  # sha256, bytes

    def to_json(self) -> dict[str, Any]:
        def jsons(items: Mapping[str, Any]) -> dict[str, Any]:
            return {name: item.to_json() for name, item in items.items()}

        return {
            "format": "mesp-bundle",
            "format_version": FORMAT_VERSION,
            "versions": dict(self.versions),
            "model": dict(self.model),
            "weights": dict(self.weights),
            "lengths": list(self.lengths),
            "head_rows": list(self.head_rows),
            "tiling": dict(self.tiling),
            "method": self.method,
            "lora": self.lora.to_json(),
            "files": dict(self.files),
            "tensors": jsons(self.tensors),
            "programs": jsons(self.programs),
            "needs": self.needs.to_json(),
            "warm_up": list(self.warm_up),
            "schedules": jsons(self.schedules),
        }

    @staticmethod
    def from_json(json: dict[str, Any]) -> "Manifest":
        return Manifest(
            model=json["model"],
            weights=json["weights"],
            lengths=tuple(json["lengths"]),
            head_rows=tuple(json["head_rows"]),
            tiling=json["tiling"],
            method=json["method"],
            lora=Lora.from_json(json["lora"]),
            tensors={name: Tensor.from_json(item) for name, item in json["tensors"].items()},
            programs={name: ProgramSpec.from_json(item) for name, item in json["programs"].items()},
            needs=Needs.from_json(json["needs"]),
            warm_up=tuple(json["warm_up"]),
            schedules={name: Schedule.from_json(item) for name, item in json["schedules"].items()},
            versions=json["versions"],
            files=json["files"],
        )

    @property
    def tokens(self) -> int:
        """The longest sequence."""
        return self.lengths[-1]

    def sizes(self) -> list[Size]:
        """What there are schedules for."""
        return sizes(self.lengths, self.head_rows)

    def arena_kinds(self) -> dict[str, str]:
        """The tensors that live in the arena, and their kinds."""
        return {name: tensor.kind for name, tensor in self.tensors.items() if tensor.in_arena}


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
        raise UsageError(
            f"{path} is not a bundle: it has no {MANIFEST}. Make one with: mesp export CHECKPOINT -o {path}"
        )
    try:
        json_ = json.loads(file.read_text())
        version = json_["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a bundle's manifest. Export the bundle again.") from error
    if version != FORMAT_VERSION:
        raise UsageError(
            f"{path} has bundle format {version}; this version of mesp reads format {FORMAT_VERSION}. Export it again, or update mesp."
        )
    try:
        manifest = Manifest.from_json(json_)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} is damaged ({error!r}). Export the bundle again.") from error
    if verify_files:
        _check_files(path, manifest)
    bundle = Bundle(path, manifest, read_layout(path / WEIGHTS))
    if unknown := set(manifest.warm_up) - set(manifest.programs):
        raise MespError(f"{file} would warm up with {', '.join(sorted(unknown))}, which the bundle does not have.")
    for schedule in manifest.schedules.values():
        check(schedule.instructions, manifest.programs, bundle.tensors())
        check_arena(schedule.arena, schedule.instructions, bundle.tensors(), manifest.arena_kinds())
    return bundle


def _check_files(path: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise UsageError(f"{path} lacks {name}. Export the bundle again.")
        if file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            raise UsageError(
                f"{file} was changed or damaged after the bundle was written: its SHA-256 is not the manifest's. Export the bundle again."
            )


def sha256(path: Path) -> str:
    """Of a file's contents, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_layout(path: Path) -> dict[str, tuple[TensorSpec, int]]:
    """The tensors of a safetensors file and their places in bytes from its start."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > os.path.getsize(path):
            raise MespError(f"{path} is not a safetensors file.")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: (TensorSpec(tuple(item["shape"]), _DTYPES[item["dtype"]]), 8 + size + item["data_offsets"][0])
        for name, item in header.items()
        if not name.startswith("padding.")
    }
