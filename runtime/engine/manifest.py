"""The manifest: what manifest.json of a bundle says. ``runtime/contract/manifest.schema.json`` has the same as data.

Whatever a runtime needs to know of a model or of a method is in it, so that no runtime knows of transformers or of MeSP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from .arena import Arena
from .schedule import Instructions, ProgramSpec, TensorSpec, from_json, to_json
from .sizes import Size, sizes

FORMAT_VERSION = 5

Json = dict[str, Any]


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

    def to_json(self) -> Json:
        return {"kind": self.kind, **self.spec.to_json()}

    @staticmethod
    def from_json(json: Json) -> "Tensor":
        return Tensor(json["kind"], TensorSpec.from_json(json))


@dataclass(frozen=True)
class Schedule:
    """A list of instructions and the arena that it runs in."""

    instructions: Instructions
    arena: Arena

    def to_json(self) -> Json:
        return {"arena": self.arena.to_json(), "instructions": to_json(self.instructions)}

    @staticmethod
    def from_json(json: Json) -> "Schedule":
        return Schedule(from_json(json["instructions"]), Arena.from_json(json["arena"]))


@dataclass(frozen=True)
class AdapterTensor:
    """One tensor of the adapter.

    Args:
        name: PEFT's
        offset: of its first element in the state, in elements
        shape: as it lies in memory: A is [in, rank], B is [out, rank]
        transposed: PEFT's file has it the other way round
    """

    name: str
    offset: int
    shape: tuple[int, int]
    transposed: bool

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Lora:
    """The adapter that a bundle trains.

    Args:
        targets: projections, as PEFT's target_modules
        layers_to_transform: the model's layers that have adapters; None for all
        state: the tensor that holds it
        tensors: of every layer, one after the other
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    layers_to_transform: tuple[int, ...] | None
    state: str
    tensors: tuple[AdapterTensor, ...]

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        return self.elements * 4

    def to_json(self) -> Json:
        layers = self.layers_to_transform
        return {
            **vars(self),
            "targets": list(self.targets),
            "layers_to_transform": None if layers is None else list(layers),
            "tensors": [{**vars(tensor), "shape": list(tensor.shape)} for tensor in self.tensors],
        }

    @staticmethod
    def from_json(json: Json) -> "Lora":
        layers = json["layers_to_transform"]
        return Lora(
            json["rank"],
            json["alpha"],
            tuple(json["targets"]),
            None if layers is None else tuple(layers),
            json["state"],
            tuple(AdapterTensor(**{**item, "shape": tuple(item["shape"])}) for item in json["tensors"]),
        )


@dataclass(frozen=True)
class Needs:
    """What an ExecuTorch library must have for the programs to run, by the names that it lists them under."""

    operators: tuple[str, ...]  # that run outside of the delegates, such as aten::embedding.out
    backends: tuple[str, ...]

    def to_json(self) -> Json:
        return {"operators": list(self.operators), "backends": list(self.backends)}

    @staticmethod
    def from_json(json: Json) -> "Needs":
        return Needs(tuple(json["operators"]), tuple(json["backends"]))


@dataclass(frozen=True)
class Model:
    """The model that a bundle was made of.

    Args:
        origin: what a person would call it
        description: its sizes, a line each
        config: transformers' own, for what compares with transformers
        vocabulary: token ids are below
        max_tokens: the longest sequence that it takes
    """

    origin: str
    description: tuple[str, ...]
    config: Mapping[str, Any]
    vocabulary: int
    max_tokens: int

    def to_json(self) -> Json:
        return {**vars(self), "description": list(self.description), "config": dict(self.config)}


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    Args:
        plan: everything that was chosen for the export, by the command line's names
        warm_up: programs by workspace, the largest first
        checkpoint: the states that a checkpoint holds beside the adapter
        constants: inputs that every run of a schedule is given with this value
        gradient_not_finite: what more to say when the loss is finite and its gradient is not
        files: sha256 and bytes of each
    """

    model: Model
    plan: Mapping[str, Any]
    lora: Lora
    tensors: Mapping[str, Tensor]
    programs: Mapping[str, ProgramSpec]
    needs: Needs
    warm_up: tuple[str, ...]
    schedules: Mapping[str, Schedule]
    checkpoint: tuple[str, ...]
    constants: Mapping[str, float]
    gradient_not_finite: str | None
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> Json:
        def jsons(items: Mapping[str, Any]) -> Json:
            return {name: item.to_json() for name, item in items.items()}

        return {
            "format": "mesp-bundle",
            "format_version": FORMAT_VERSION,
            "versions": dict(self.versions),
            "model": self.model.to_json(),
            "plan": dict(self.plan),
            "lora": self.lora.to_json(),
            "files": dict(self.files),
            "tensors": jsons(self.tensors),
            "programs": jsons(self.programs),
            "needs": self.needs.to_json(),
            "warm_up": list(self.warm_up),
            "checkpoint": list(self.checkpoint),
            "constants": dict(self.constants),
            "gradient_not_finite": self.gradient_not_finite,
            "schedules": jsons(self.schedules),
        }

    @staticmethod
    def from_json(json: Json) -> "Manifest":
        return Manifest(
            model=Model(**{**json["model"], "description": tuple(json["model"]["description"])}),
            plan=json["plan"],
            lora=Lora.from_json(json["lora"]),
            tensors={name: Tensor.from_json(item) for name, item in json["tensors"].items()},
            programs={name: ProgramSpec.from_json(item) for name, item in json["programs"].items()},
            needs=Needs.from_json(json["needs"]),
            warm_up=tuple(json["warm_up"]),
            schedules={name: Schedule.from_json(item) for name, item in json["schedules"].items()},
            checkpoint=tuple(json["checkpoint"]),
            constants=json["constants"],
            gradient_not_finite=json["gradient_not_finite"],
            versions=json["versions"],
            files=json["files"],
        )

    @property
    def lengths(self) -> list[int]:
        """Of the sequences that there are programs for, ascending."""
        return list(self.plan["seq_len"])

    @property
    def tokens(self) -> int:
        """The longest sequence."""
        return self.lengths[-1]

    def sizes(self) -> list[Size]:
        """What there are schedules for."""
        return sizes(self.lengths, self.plan["head_rows"])

    def arena_kinds(self) -> dict[str, str]:
        """The tensors that live in the arena, and their kinds."""
        return {name: tensor.kind for name, tensor in self.tensors.items() if tensor.in_arena}
