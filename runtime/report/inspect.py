"""What is in a bundle, for a person: its contents, its schedule as one would write the algorithm, and its memory plan."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..engine.bundle import Bundle
from ..engine.manifest import Manifest
from ..engine.planned import OTHER_BUFFERS, WORDS, planned_bytes
from ..engine.schedule import (
    Call,
    Draw,
    For,
    Instructions,
    Let,
    Part,
    Phase,
    Reference,
    Source,
    Store,
    references,
)
from .words import weights_in_words

_MB = 1e6


def overview(bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) for what fits on a screen: the contents, and the memory of a step."""
    yield "Bundle", [line for line in _contents(bundle) if not line.startswith(("tiles ", "file "))]
    names = {optimizer: f"train.{optimizer}.{bundle.manifest.tokens}" for optimizer in ("sgd", "adamw")}
    plans = {optimizer: sum(planned_bytes(bundle.manifest, [name]).values()) for optimizer, name in names.items()}
    lines = [f"{size / _MB:9.2f} MB  with {optimizer}, and XNNPACK's workspace" for optimizer, size in plans.items()]
    mapped = sum(item["bytes"] for item in bundle.manifest.files.values())
    yield "Memory of a step, over an idle process", lines
    yield (
        f"{len(bundle.manifest.programs)} programs, {len(bundle.manifest.schedules)} schedules, {mapped / _MB:.1f} MB on disk",
        [],
    )


def describe(bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) for each part, all of them."""
    yield "Bundle", list(_contents(bundle))
    shown = list(_of_longest(bundle.manifest))
    for name in shown:
        instructions = bundle.manifest.schedules[name].instructions
        yield f"Schedule {name}", list(_Printer(bundle.manifest).lines(instructions))
    yield "Programs", list(_programs(bundle.manifest))
    for name in shown:
        yield f"Memory of {name}", list(_memory_lines(bundle, name))


def _of_longest(manifest: Manifest) -> Iterator[str]:
    """The schedules that have no sequence, and those of the largest size: those of others differ from these in shapes, or in the head."""
    for name in manifest.schedules:
        size = [part for part in name.split(".") if part.isdigit()]
        if not size or size == [str(manifest.tokens)]:
            yield name


def _contents(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    lora, plan = manifest.lora, manifest.plan
    yield f"model     {manifest.model.origin}"
    for line in manifest.model.description:
        yield f"          {line}"
    yield f"sequence  {' or '.join(map(str, manifest.lengths))} tokens"
    if plan["head_rows"]:
        yield f"head      on {', '.join(map(str, plan['head_rows']))} rows too, for sequences with no more targets"
    yield f"weights   {weights_in_words(plan)}"
    yield f"adapter   rank {lora.rank}, alpha {lora.alpha:g}, {lora.nbytes / _MB:.2f} MB, on {', '.join(lora.targets)}"
    yield f"          in {'all' if lora.layers_to_transform is None else plan['layers']} layers"
    yield f"method    {plan['method']}"
    yield f"tiles     {', '.join(f'{name} {size}' for name, size in plan['tiling'].items())}"
    yield f"made by   {', '.join(f'{name} {version}' for name, version in manifest.versions.items())}"
    for name, item in manifest.files.items():
        yield f"file      {name}  {item['bytes'] / _MB:.2f} MB  sha256 {item['sha256'][:16]}…"


def _memory_lines(bundle: Bundle, schedule: str) -> Iterator[str]:
    plan = planned_bytes(bundle.manifest, [schedule])
    for name, size in plan.items():
        yield f"{size / _MB:9.2f} MB  {WORDS.get(name, name)}"
        if name == OTHER_BUFFERS:
            for buffer, placed in sorted(
                bundle.manifest.schedules[schedule].arena.buffers.items(), key=lambda item: -item[1].nbytes
            ):
                if placed.nbytes > 1024:
                    yield f"{'':14}{placed.nbytes / _MB:9.2f} MB  {buffer}, at {placed.offset}, alive {placed.first} to {placed.last}"
    yield f"{sum(plan.values()) / _MB:9.2f} MB  in all, and XNNPACK's workspace: as much as its largest program needs"
    for name in {reference.tensor for reference in references(bundle.manifest.schedules[schedule].instructions)}:
        if name in bundle.manifest.tensors and bundle.manifest.tensors[name].kind == "file":
            yield f"{bundle.manifest.tensors[name].spec.nbytes / _MB:9.2f} MB  {name} in a file, written and read once a step"
    mapped = bundle.manifest.files["weights.safetensors"]["bytes"]
    yield f"{mapped / _MB:9.2f} MB  of weights are mapped: clean pages, not counted"


def _programs(manifest: Manifest) -> Iterator[str]:
    for name, program in manifest.programs.items():
        results = ", ".join(f"{result} {list(spec.shape)}" for result, spec in program.outputs.items())
        yield f"{name}: {len(program.inputs)} inputs, {program.planned_bytes / _MB:.2f} MB of results: {results}"


class _Printer:
    """Writes a schedule as an algorithm."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest
        self.elements: dict[str, int] = {}  # of each value
        self._first: dict[str, int] = {}  # of each loop that is open: where its variable begins

    def lines(self, instructions: Instructions, indent: str = "") -> Iterator[str]:
        for instruction in instructions:
            match instruction:
                case Call():
                    yield indent + self._call(instruction)
                case Let(value, source, spec):
                    self.elements[value] = spec.elements
                    yield f"{indent}{value} = {self._source(source, spec.elements)}"
                case Store(value, reference):
                    yield f"{indent}{self._reference(reference, self.elements[value])} <- {value}"
                case Draw(reference, spec, seed, strides):
                    yield f"{indent}{self._reference(reference, spec.elements)} <- signs({', '.join([seed, *strides])})"
                case For(variable, _, _, _, body):
                    values = instruction.range()
                    yield f"{indent}for {variable} in {values[0]} … {values[-1]}:"
                    self._first[variable] = instruction.first
                    yield from self.lines(body, indent + "    ")
                    del self._first[variable]
                case Phase(name, body):
                    yield f"{indent}# {name}"
                    yield from self.lines(body, indent)

    def _call(self, call: Call) -> str:
        inputs = self.manifest.programs[call.program].inputs
        given = [
            f"{name}={item}" if name != item else name
            for name, item in zip(inputs, call.inputs, strict=True)
            if isinstance(item, str)
        ]
        stored = _unique(
            self._reference(item, spec.elements)
            for item, spec in zip(call.inputs, inputs.values(), strict=True)
            if isinstance(item, Reference)
        )
        results = self.manifest.programs[call.program].outputs
        self.elements |= {name: spec.elements for name, spec in zip(call.outputs, results.values(), strict=True)}
        outputs = ", ".join(call.outputs)
        return f"{outputs} = {call.program}({', '.join(given)}{' | ' if given and stored else ''}{', '.join(stored)})"

    def _source(self, source: Source, elements: int) -> str:
        match source:
            case Reference():
                return self._reference(source, elements)
            case Part(value, _, strides):
                return f"{value}[{', '.join(strides)}]"
        return source

    def _reference(self, reference: Reference, elements: int = 0) -> str:
        """A weight by its projection, an adapter's slice by its tensor; then the loop variables that it moves with."""
        name = reference.tensor
        if name in (self.manifest.lora.state, "gradient") and "part" not in reference.strides:
            name = f"{name}{self._factor(reference, elements)}"
        elif name.count(".") == 1 and name.split(".")[1] in ("quants", "scale", "offset", "values", "bias"):
            name = name.split(".")[0]
        return f"{name}[{', '.join(reference.strides)}]" if reference.strides else name

    def _factor(self, reference: Reference, elements: int) -> str:
        """The tensor of the adapter that a place is in, as .q_proj.lora_A; nothing for a place that is a whole layer's."""
        tensors = self.manifest.lora.tensors
        first = reference.at({name: self._first.get(name, 0) for name in reference.strides})
        tensor = next(tensor for tensor in reversed(tensors) if tensor.offset <= first)
        if first + elements > tensor.offset + tensor.elements:
            return ""
        return "." + ".".join(tensor.name.removesuffix(".weight").split(".")[-2:])


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def to_json(bundle: Bundle) -> Mapping[str, Any]:
    """The same as JSON: the manifest, and the memory plan of each schedule in bytes."""
    return {
        **bundle.manifest.to_json(),
        "memory_plan": {name: planned_bytes(bundle.manifest, [name]) for name in bundle.manifest.schedules},
    }
