"""The schedule: the list of instructions that is a training step, and the only thing a runtime has to interpret.

Six instructions, and nothing of transformers or of MeSP in them:

    call    run a program; its inputs are values or references, its results become values
    let     give a name to a part of a tensor or of a value, or a second name to a value
    store   copy a value into a part of a tensor
    draw    fill a part of a tensor with random signs
    for     repeat a body over a variable, forwards or in reverse
    phase   name what its body is doing, for the memory samples

A *tensor* is memory with a name: a weight in the mapped file, the adapter, or a buffer of the arena. A *reference* is a contiguous part of
one; it moves with the loop variables. A *value* is a name for a reference or for a program's result. A result lives in the memory that its
program planned for it, until that program runs again: it is neither copied nor given a second place in the arena. An accumulator
is a result that goes back into the program it came from, which then works in place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ..errors import MespError

Json = dict[str, Any]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of a tensor; the dtype is one of ``ITEM_BYTES``."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]

    def to_json(self) -> Json:
        return {"shape": list(self.shape), "dtype": self.dtype}

    @staticmethod
    def from_json(json: Json) -> "TensorSpec":
        return TensorSpec(tuple(json["shape"]), json["dtype"])


ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1, "int64": 8, "uint8": 1}


@dataclass(frozen=True)
class Reference:
    """A contiguous part of a tensor that starts at ``offset`` plus ``strides[v]`` for each loop variable v, in elements."""

    tensor: str
    offset: int = 0
    strides: Mapping[str, int] = field(default_factory=dict)

    def at(self, variables: Mapping[str, int]) -> int:
        """The first element for these values of the loop variables."""
        return _at(self, variables)

    def to_json(self) -> Json:
        return {"tensor": self.tensor, "offset": self.offset, "strides": dict(self.strides)}


@dataclass(frozen=True)
class Part:
    """A contiguous part of a value, as ``Reference`` is of a tensor."""

    value: str
    offset: int = 0
    strides: Mapping[str, int] = field(default_factory=dict)

    def at(self, variables: Mapping[str, int]) -> int:
        """The first element for these values of the loop variables."""
        return _at(self, variables)

    def to_json(self) -> Json:
        return {"value": self.value, "offset": self.offset, "strides": dict(self.strides)}


def _at(part: Reference | Part, variables: Mapping[str, int]) -> int:
    return part.offset + sum(stride * variables[name] for name, stride in part.strides.items())


@dataclass(frozen=True)
class ProgramSpec:
    """A program's inputs and results in order, and the memory that it plans for its results."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    planned_bytes: int

    def to_json(self) -> Json:
        named = {
            key: [{"name": name, **spec.to_json()} for name, spec in specs.items()]
            for key, specs in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        return {**named, "planned_bytes": self.planned_bytes}

    @staticmethod
    def from_json(json: Json) -> "ProgramSpec":
        inputs, outputs = (
            {item["name"]: TensorSpec.from_json(item) for item in json[key]} for key in ("inputs", "outputs")
        )
        return ProgramSpec(inputs, outputs, json["planned_bytes"])


@dataclass(frozen=True)
class Call:
    """Runs ``program``. ``inputs`` are value names or references, ``outputs`` value names, both in the program's order."""

    program: str
    inputs: tuple[str | Reference, ...]
    outputs: tuple[str, ...]

    def to_json(self) -> Json:
        inputs = [item.to_json() if isinstance(item, Reference) else item for item in self.inputs]
        return {"call": self.program, "inputs": inputs, "outputs": list(self.outputs)}


@dataclass(frozen=True)
class Let:
    """Names a part of a tensor, another value, or a part of one."""

    value: str
    source: "Source"
    spec: TensorSpec

    def to_json(self) -> Json:
        source = self.source if isinstance(self.source, str) else self.source.to_json()
        return {"let": self.value, "be": source, **self.spec.to_json()}


@dataclass(frozen=True)
class Store:
    """Copies a value into a part of a tensor."""

    value: str
    reference: Reference

    def to_json(self) -> Json:
        return {"store": self.value, "to": self.reference.to_json()}


@dataclass(frozen=True)
class Draw:
    """Fills a part of a tensor with +1 and -1, which depend on the seed, an input of the step, and on their places: element i of the part
    is sign number ``strides[v]`` * v for each loop variable v, plus i, of ``random_signs.signs``."""

    reference: Reference
    spec: TensorSpec
    seed: str
    strides: Mapping[str, int]

    def to_json(self) -> Json:
        return {
            "draw": self.reference.to_json(),
            "seed": self.seed,
            "strides": dict(self.strides),
            **self.spec.to_json(),
        }


@dataclass(frozen=True)
class For:
    """Runs ``body`` for variable = first .. first + count - 1, or in reverse."""

    variable: str
    first: int
    count: int
    reverse: bool
    body: "Instructions"

    def range(self) -> range:
        forwards = range(self.first, self.first + self.count)
        return forwards[::-1] if self.reverse else forwards

    def to_json(self) -> Json:
        return {
            "for": self.variable,
            "first": self.first,
            "count": self.count,
            "reverse": self.reverse,
            "body": to_json(self.body),
        }


@dataclass(frozen=True)
class Phase:
    """Names what ``body`` does."""

    name: str
    body: "Instructions"

    def to_json(self) -> Json:
        return {"phase": self.name, "body": to_json(self.body)}


Source = Reference | Part | str
Instruction = Call | Let | Store | Draw | For | Phase
Instructions = tuple[Instruction, ...]


def to_json(instructions: Sequence[Instruction]) -> list[Json]:
    """The instructions as the manifest holds them."""
    return [instruction.to_json() for instruction in instructions]


def from_json(instructions: Sequence[Json]) -> Instructions:
    """The instructions of a manifest.

    Raises:
        MespError: an instruction that this version does not know.
    """
    return tuple(_instruction(item) for item in instructions)


def _reference(item: Json) -> Reference:
    return Reference(item["tensor"], item["offset"], item["strides"])


def _argument(item: Json | str) -> Reference | str:
    return item if isinstance(item, str) else _reference(item)


def _source(item: Json | str) -> Source:
    if isinstance(item, dict) and "value" in item:
        return Part(item["value"], item["offset"], item["strides"])
    return _argument(item)


def _instruction(item: Json) -> Instruction:
    match item:
        case {"call": program, "inputs": inputs, "outputs": outputs}:
            return Call(program, tuple(_argument(value) for value in inputs), tuple(outputs))
        case {"let": value, "be": source}:
            return Let(value, _source(source), TensorSpec.from_json(item))
        case {"store": value, "to": reference}:
            return Store(value, _reference(reference))
        case {"draw": reference, "seed": seed, "strides": strides}:
            return Draw(_reference(reference), TensorSpec.from_json(item), seed, strides)
        case {"for": variable, "first": first, "count": count, "reverse": reverse, "body": body}:
            return For(variable, first, count, reverse, from_json(body))
        case {"phase": name, "body": body}:
            return Phase(name, from_json(body))
    raise MespError(f"The schedule has an instruction that this version does not know: {sorted(item)}.")


# --- The check --------------------------------------------------------------------------------------------------------


@dataclass
class _Value:
    """What the checker knows of a value: its shape, and for a result the run of the program that made it."""

    spec: TensorSpec
    program: str | None = None
    run: int = 0


class _Checker:
    """Interprets a schedule without data."""

    def __init__(self, programs: Mapping[str, ProgramSpec], tensors: Mapping[str, TensorSpec]):
        self.programs, self.tensors = programs, tensors
        self.values: dict[str, _Value] = {}
        self.runs: dict[str, int] = {}

    def run(self, instructions: Instructions, loops: Mapping[str, range]) -> None:
        for instruction in instructions:
            match instruction:
                case Call():
                    self._call(instruction, loops)
                case Let(value, source, spec):
                    self.values[value] = self._source(source, spec, loops, f"let {value}")
                case Store(value, reference):
                    self._reference(reference, self._value(value, "store").spec, loops, f"store {value}")
                case Draw(reference, spec, seed, strides):
                    self._reference(reference, spec, loops, "draw")
                    self._reference(Reference(seed), TensorSpec((1,), "int64"), loops, "draw")
                    if spec.dtype != "float32" or set(strides) - set(loops):
                        raise MespError(f"Schedule: cannot draw {spec} that moves with {sorted(strides)}.")
                case For(variable, _, count, _, body):
                    if variable in loops:
                        raise MespError(f"Schedule: loop variable {variable!r} is used by an outer loop.")
                    # Twice: what the first pass leaves behind is what the second one starts from.
                    for _ in range(min(count, 2)):
                        self.run(body, {**loops, variable: instruction.range()})
                case Phase(_, body):
                    self.run(body, loops)

    def _call(self, call: Call, loops: Mapping[str, range]) -> None:
        program = self.programs.get(call.program)
        if program is None:
            raise MespError(f"Schedule: calls program {call.program!r}, which the bundle does not have.")
        if len(call.inputs) != len(program.inputs) or len(call.outputs) != len(program.outputs):
            raise MespError(f"Schedule: {call.program} is called with the wrong number of inputs or outputs.")
        for argument, (name, spec) in zip(call.inputs, program.inputs.items(), strict=True):
            self._source(argument, spec, loops, f"{call.program}({name})")
        self.runs[call.program] = self.runs.get(call.program, 0) + 1
        for value_name, spec in zip(call.outputs, program.outputs.values(), strict=True):
            self.values[value_name] = _Value(spec, call.program, self.runs[call.program])

    def _source(self, source: Source, spec: TensorSpec, loops: Mapping[str, range], where: str) -> _Value:
        if isinstance(source, Reference):
            self._reference(source, spec, loops, where)
            return _Value(spec)
        if isinstance(source, Part):
            whole = self._value(source.value, where)
            self._inside(source, source.value, whole.spec, spec, loops, where)
            return _Value(spec, whole.program, whole.run)
        value = self._value(source, where)
        if value.spec != spec:
            raise MespError(f"Schedule: {where} is {spec}, but {source} is {value.spec}.")
        return value

    def _value(self, name: str, where: str) -> _Value:
        if name not in self.values:
            raise MespError(f"Schedule: {where} uses {name!r} before it has a value.")
        value = self.values[name]
        if value.program and self.runs[value.program] != value.run:
            raise MespError(f"Schedule: {where} uses {name!r} after {value.program} has run again and overwritten it.")
        return value

    def _reference(self, reference: Reference, spec: TensorSpec, loops: Mapping[str, range], where: str) -> None:
        tensor = self.tensors.get(reference.tensor)
        if tensor is None:
            raise MespError(f"Schedule: {where} refers to tensor {reference.tensor!r}, which the bundle does not have.")
        self._inside(reference, reference.tensor, tensor, spec, loops, where)

    def _inside(
        self,
        part: Reference | Part,
        name: str,
        whole: TensorSpec,
        spec: TensorSpec,
        loops: Mapping[str, range],
        where: str,
    ) -> None:
        if whole.dtype != spec.dtype:
            raise MespError(f"Schedule: {where} is {spec.dtype}, but {name} is {whole.dtype}.")
        if unknown := set(part.strides) - set(loops):
            raise MespError(f"Schedule: {where} moves with {unknown}, outside of such a loop.")
        ends = {variable: (min(range_), max(range_)) for variable, range_ in loops.items() if variable in part.strides}
        first = part.at({variable: low for variable, (low, _) in ends.items()})
        last = part.at({variable: high for variable, (_, high) in ends.items()}) + spec.elements
        if min(first, *part.strides.values(), 0) < 0 or last > whole.elements:
            raise MespError(
                f"Schedule: {where} reaches from element {first} to {last} of {name}, which has {whole.elements}."
            )


def check(instructions: Instructions, programs: Mapping[str, ProgramSpec], tensors: Mapping[str, TensorSpec]) -> None:
    """Checks that every name is defined before it is used, shapes agree, references stay inside, and no overwritten result is read.

    Raises:
        MespError: the first thing that is wrong.
    """
    _Checker(programs, tensors).run(instructions, {})


def walk(instructions: Instructions) -> Iterator[Instruction]:
    """Every instruction in the order in which it is written, bodies after their heads."""
    for instruction in instructions:
        yield instruction
        if isinstance(instruction, For | Phase):
            yield from walk(instruction.body)


def references(instructions: Instructions) -> Iterator[Reference]:
    """Every reference of a schedule."""
    for instruction in walk(instructions):
        match instruction:
            case Call(_, inputs, _):
                yield from (item for item in inputs if isinstance(item, Reference))
            case Let(_, source, _) if isinstance(source, Reference):
                yield source
            case Store(_, reference):
                yield reference
            case Draw(reference, _, seed, _):
                yield from (reference, Reference(seed))
