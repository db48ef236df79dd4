"""Writes the instructions of a schedule, filling in what a program's arguments say of themselves."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from mesp.runtime.engine.schedule import (
    Call,
    Draw,
    For,
    Instruction,
    Let,
    Part,
    Phase,
    Reference,
    Source,
    Store,
    TensorSpec,
)

from ..model.architecture import Segment
from ..programs.plan import Plan
from ..programs.program import Argument, Program, sized_name
from ..programs.tiles import TileGroup
from ..programs.update import ADAMW_SCALARS

# The scalars and inputs that the trainer writes before a step.
SCALARS = ("lora_scale", "gradient_scale", "lr", "weight_decay", "momentum", "perturbation", *ADAMW_SCALARS)
OF_SEQUENCE = ("input_ids", "targets", "token_weight", "head_positions", "head_places")
INPUTS = (*OF_SEQUENCE, "noise_seed", *SCALARS)


class Writer:
    """A schedule that is being written.

    Args:
        plan: of one sequence length, which tile programs are called for
    """

    def __init__(self, programs: Mapping[str, Program], plan: Plan):
        self.programs, self.plan = programs, plan
        self.instructions: list[Instruction] = []
        self.segment: Segment | None = None  # the layers that the loop goes over

    # --- Calls --------------------------------------------------------------------------------------------------------

    def call(
        self,
        program: str,
        /,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        rows: int | None = None,
    ) -> None:
        """Calls a program. A value passes under the argument's own name unless the mappings say otherwise; stored
        arguments are bound to what they are stored in, and results that belong to a tensor are copied there.

        Args:
            rows: that it runs on, where that is not the sequence's tokens
        """
        inputs, outputs = inputs or {}, outputs or {}
        if program not in self.programs:
            program = sized_name(program, rows or self.plan.tokens)
        spec = self.programs[program]
        results = [(a, outputs.get(a.name, a.name)) for a in spec.outputs]
        self._call(program, tuple(self._source(a, inputs) for a in spec.inputs), [name for _, name in results])
        for argument, name in results:
            if argument.stored:
                self.store(name, self.plan.place(argument, self.segment))

    def call_tiles(
        self,
        program: str,
        /,
        groups: tuple[TileGroup, ...],
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        """Calls the program of each group for each of its tiles."""
        for group in groups:
            with self.repeat("tile", group.count):
                self.call(program + group.suffix, inputs, outputs)

    def call_rows(
        self,
        program: str,
        /,
        inputs: Mapping[str, str | Reference],
        outputs: Mapping[str, Reference],
        rows: int | None = None,
    ) -> None:
        """Calls a row program for all rows of the sequence. Arguments that are ``by_rows`` are cut from the values or tensors of ``inputs``
        and from inputs of the step, results that are go to the tensors of ``outputs``; other results are accumulators.

        Args:
            rows: how many there are, where that is not the sequence's tokens
        """
        for group in self.plan.row_groups(rows or self.plan.tokens):
            name = sized_name(program, group.width)
            spec = self.programs[name]
            with self.repeat("row", group.count):
                given = {a.name: self._cut(a, group.first, inputs) for a in spec.inputs if a.by_rows}
                results = {a: f"{a.name}.rows" if a.by_rows else a.name for a in spec.outputs}
                sources = tuple(given.get(a.name) or self._source(a, inputs) for a in spec.inputs)
                self._call(name, sources, results.values())
                for argument, result in results.items():
                    if argument.by_rows:
                        self.store(result, _rows_of(outputs[argument.name], argument, group.first))

    def call_vector(self, *programs: str) -> None:
        """Calls programs on the layer's vector of the adapter, for each of its parts."""
        assert self.segment
        adapter = self.plan.adapter
        size = adapter.size_of(self.segment.layer)
        with self.repeat("part", adapter.parts(size)):
            for program in programs:
                self.call(adapter.vector_program(program, size))

    def _cut(self, argument: Argument, first: int, inputs: Mapping[str, str | Reference]) -> str | Reference:
        """The rows of an argument; of a value under a name of their own."""
        source = self._source(argument, inputs)
        if isinstance(source, Reference):
            return _rows_of(source, argument, first)
        rows = _rows_of(Reference(source), argument, first)
        name = f"{argument.name}.rows"
        self.instructions.append(Let(name, Part(source, rows.offset, rows.strides), argument.spec))
        return name

    def _call(self, program: str, inputs: tuple[str | Reference, ...], outputs: Iterable[str]) -> None:
        self.instructions.append(Call(program, inputs, tuple(outputs)))

    def _source(self, argument: Argument, inputs: Mapping[str, str | Reference]) -> str | Reference:
        if argument.stored:
            return self.plan.place(argument, self.segment)
        name = inputs.get(argument.name, argument.name)
        return Reference(name) if name in INPUTS else name

    # --- The other instructions ---------------------------------------------------------------------------------------

    def let(self, value: str, source: Source, *shape: int) -> None:
        self.instructions.append(Let(value, source, TensorSpec(shape)))

    def zero(self, value: str, *shape: int) -> None:
        self.let(value, Reference("zeros"), *shape)

    def store(self, value: str, place: Reference) -> None:
        self.instructions.append(Store(value, place))

    def draw(self, place: Reference, elements: int, seed: str, strides: Mapping[str, int]) -> None:
        self.instructions.append(Draw(place, TensorSpec((elements,)), seed, strides))

    @contextmanager
    def repeat(self, variable: str, count: int, reverse: bool = False, first: int = 0) -> Iterator[None]:
        outer, self.instructions = self.instructions, []
        yield
        self.instructions = [*outer, For(variable, first, count, reverse, tuple(self.instructions))]

    @contextmanager
    def layers(self, segment: Segment, reverse: bool = False) -> Iterator[None]:
        """A loop over the layers of a segment."""
        self.segment = segment
        with self.repeat("layer", segment.count, reverse, segment.first):
            yield
        self.segment = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer, self.instructions = self.instructions, []
        yield
        self.instructions = [*outer, Phase(name, tuple(self.instructions))]


def _rows_of(whole: Reference, argument: Argument, first: int) -> Reference:
    """The rows of a group from its first on, moving with the loop over the group."""
    elements = argument.spec.elements
    row = elements // argument.shape[0]
    return replace(whole, offset=whole.offset + first * row, strides={**whole.strides, "row": elements})
