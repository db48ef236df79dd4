"""What every method's schedule of one sequence shares: the forward pass, the head, and the ways a layer's gradient is used."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from mesp.runtime.engine.bundle import Tensor
from mesp.runtime.engine.schedule import (
    Call,
    Draw,
    For,
    Instruction,
    Instructions,
    Let,
    Part,
    Phase,
    Reference,
    Source,
    Store,
    TensorSpec,
)

from ..predict.workspace import tiles_workspace
from ..programs.block import norms
from ..programs.plan import Argument, Plan, Program, TileGroup, length_name
from ..programs.program_list import (
    adapter_programs,
    block_programs,
    forward_programs,
    forward_rows,
    norm_programs,
    prefixed,
)
from ..programs.update import ADAMW_SCALARS

# The scalars and inputs that the trainer writes before a step.
SCALARS = ("lora_scale", "gradient_scale", "lr", "weight_decay", "momentum", "perturbation", *ADAMW_SCALARS)
OF_SEQUENCE = ("input_ids", "targets", "token_weight", "head_positions", "head_places")
INPUTS = (*OF_SEQUENCE, "noise_seed", *SCALARS)


def dtype_name(argument: Argument) -> str:
    """The dtype as the manifest writes it."""
    return str(argument.dtype).removeprefix("torch.")


def spec_of(argument: Argument) -> TensorSpec:
    """Shape and dtype as the manifest writes them."""
    return TensorSpec(argument.shape, dtype_name(argument))


class Writer:
    """Writes instructions, filling in what a program's arguments say of themselves.

    Args:
        plan: of one sequence length; None for a schedule without a sequence
    """

    def __init__(self, programs: Mapping[str, Program], plan: Plan | None = None):
        self.programs, self.plan = programs, plan
        self.instructions: list[Instruction] = []

    def call(
        self, program: str, /, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> None:
        """Calls a program. A value passes under the argument's own name unless the mappings say otherwise; stored
        arguments are bound to what they are stored in, and results that belong to a tensor are copied there."""
        inputs, outputs = inputs or {}, outputs or {}
        if program not in self.programs and self.plan:
            program = length_name(program, self.plan.tokens)
        spec = self.programs[program]
        results = [(a, outputs.get(a.name, a.name)) for a in spec.outputs]
        self._call(program, tuple(_source(a, inputs) for a in spec.inputs), [name for _, name in results])
        for argument, name in results:
            if argument.stored:
                self.store(name, argument.stored)

    def call_rows(
        self, program: str, /, inputs: Mapping[str, str | Reference], outputs: Mapping[str, Reference]
    ) -> None:
        """Calls a row program for all rows of the sequence. Arguments that are ``by_rows`` are cut from the values or tensors of ``inputs``
        and from inputs of the step, results that are go to the tensors of ``outputs``; other results are accumulators."""
        assert self.plan
        for group in self.plan.rows():
            name = length_name(program, group.width)
            spec = self.programs[name]
            with self.repeat("row", group.count):
                given = {a.name: self._cut(a, group.first, inputs) for a in spec.inputs if a.by_rows}
                results = {a: f"{a.name}.rows" if a.by_rows else a.name for a in spec.outputs}
                self._call(name, tuple(given.get(a.name) or _source(a, inputs) for a in spec.inputs), results.values())
                for argument, result in results.items():
                    if argument.by_rows:
                        self.store(result, _rows_of(outputs[argument.name], argument, group.first))

    def _cut(self, argument: Argument, first: int, inputs: Mapping[str, str | Reference]) -> str | Reference:
        """The rows of an argument; of a value under a name of their own."""
        source = _source(argument, inputs)
        if isinstance(source, Reference):
            return _rows_of(source, argument, first)
        rows = _rows_of(Reference(source), argument, first)
        name = f"{argument.name}.rows"
        self.instructions.append(Let(name, Part(source, rows.offset, rows.strides), spec_of(argument)))
        return name

    def _call(self, program: str, inputs: tuple[str | Reference, ...], outputs: Iterable[str]) -> None:
        self.instructions.append(Call(program, inputs, tuple(outputs)))

    @contextmanager
    def sized(self, tokens: int) -> Iterator[None]:
        """Programs are called for so many tokens."""
        outer = self.plan
        assert outer
        self.plan = outer.at(tokens)
        yield
        self.plan = outer

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
    def phase(self, name: str) -> Iterator[None]:
        outer, self.instructions = self.instructions, []
        yield
        self.instructions = [*outer, Phase(name, tuple(self.instructions))]


def _source(argument: Argument, inputs: Mapping[str, str | Reference]) -> str | Reference:
    if argument.stored:
        return argument.stored
    name = inputs.get(argument.name, argument.name)
    return Reference(name) if name in INPUTS else name


def _rows_of(whole: Reference, argument: Argument, first: int) -> Reference:
    """The rows of a group from its first on, moving with the loop over the group."""
    elements = spec_of(argument).elements
    row = elements // argument.shape[0]
    return replace(whole, offset=whole.offset + first * row, strides={**whole.strides, "row": elements})


class Sequence(ABC):
    """A method: its programs, and its schedules of one sequence length, ``plan.tokens``.

    Args:
        head: rows that the head runs on; None for all
    """

    def __init__(self, plan: Plan, programs: Mapping[str, Program], head: int | None = None):
        self.plan, self.programs, self.head_rows = plan, programs, head or plan.tokens
        self.wide = (plan.tokens, plan.architecture.D)
        self.first_layer = plan.adapter.first_layer

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        """The programs for sequences of ``plan.tokens``."""
        plain = block_programs(replace(plan, targets=())) if plan.adapter.first_layer else []
        return forward_programs(plan) + prefixed("plain_", plain)

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        """The programs for so many tokens."""
        plain = norm_programs(replace(plan, targets=()), rows) if plan.adapter.first_layer else []
        return forward_rows(plan, rows) + prefixed("plain_", plain)

    @classmethod
    def adapter_programs(cls, plan: Plan) -> list[Program]:
        """The programs that are the same for every length."""
        return adapter_programs(plan)

    @classmethod
    @abstractmethod
    def largest_program(cls, plan: Plan) -> str:
        """The program of ``plan.tokens`` with the largest workspace."""

    @classmethod
    def workspace(cls, plan: Plan) -> int:
        """XNNPACK's, in bytes: what the largest program of ``plan.tokens`` needs."""
        return tiles_workspace(plan)

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        """The memory of the schedules beside inputs, outputs and states, for the longest sequence."""
        wide, thin = (plan.tokens, plan.architecture.D), (plan.tokens, plan.rank)
        shapes = {
            "embedded": wide,
            "n": wide,
            **{f"h.{p}": thin for _, _, readers in norms() for p in plan.targeted(*readers)},
            "z_target": (plan.tokens, 1),
            "head_x": wide,
            "head_dx": (plan.tokens + 1, plan.architecture.D),
            "gradient": (plan.adapter.size,),
        }
        return {name: Tensor("buffer", TensorSpec(shape)) for name, shape in shapes.items()}

    @abstractmethod
    def each_gradient(self, w: Writer) -> AbstractContextManager[None]:
        """The loss, and then a loop over the layers; the body is what is done with a layer's ``gradient``."""

    def evaluate(self) -> Instructions:
        w = Writer(self.programs, self.plan)
        self.loss(w, Reference("loss"))
        return tuple(w.instructions)

    def train(self, optimizer: str) -> Instructions:
        w = Writer(self.programs, self.plan)
        w.zero("square_sum", 1, 1)
        with self.each_gradient(w), w.repeat("part", self.plan.adapter.parts):
            w.call("square_sum")
            w.call(optimizer)
        w.store("square_sum", Reference("gradient_square_sum"))
        return tuple(w.instructions)

    def gradients(self, accumulate: bool) -> Instructions:
        w = Writer(self.programs, self.plan)
        with self.each_gradient(w):
            if accumulate:
                with w.repeat("part", self.plan.adapter.parts):
                    w.call("accumulate")
            else:
                w.let("gradient", Reference("gradient"), self.plan.adapter.size)
                w.store("gradient", self.plan.adapter.of_layer("gradients"))
        return tuple(w.instructions)

    # --- The forward pass ---------------------------------------------------------------------------------------------

    def loss(self, w: Writer, place: Reference) -> None:
        """The loss without a gradient."""
        self.embed(w)
        with w.repeat("layer", self.plan.layers, first=self.first_layer), w.phase("forward"):
            self.forward(w)
        with w.phase("head"):
            self._pick_targets(w)
            with w.sized(self.head_rows):
                self._head_start(w)
                with w.repeat("tile", self.plan.vocabulary().count):
                    w.call("head_loss_tile")
                w.zero("loss", 1, 1)
                w.call_rows("head_loss", {}, {})
            w.store("loss", place)

    def embed(self, w: Writer) -> None:
        """x, the input of the first block with an adapter."""
        with w.phase("embed"):
            w.call_rows("embed", {}, {"x": Reference("embedded")})
            w.let("x", Reference("embedded"), *self.wide)
        if self.first_layer:
            with w.repeat("layer", self.first_layer), w.phase("forward"):
                self.forward(w, "plain_")

    def forward(self, w: Writer, kind: str = "") -> None:
        """One block: x <- block(x). With ``kind`` "plain_" one without adapters."""
        for sublayer, groups in (("attention", self.plan.heads()), ("ffn", self.plan.ffn())):
            self.norm(w, f"{kind}{sublayer}", x="x")
            self.tiles(w, f"{kind}{sublayer}_forward", groups, {"y": "x"}, {"y": "x"})

    def tiles(
        self,
        w: Writer,
        program: str,
        groups: tuple[TileGroup, ...],
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        """Calls the program of each group for each of its tiles."""
        for group in groups:
            with w.repeat("tile", group.count):
                w.call(program + group.suffix, inputs, outputs)

    def norm(self, w: Writer, sublayer: str, x: str) -> None:
        """n and the h's of a sublayer from x."""
        program = f"{sublayer}_norm_forward"
        outputs = self.programs[length_name(program, self.plan.rows()[0].width)].outputs
        places = {a.name: self.place(a.name) for a in outputs}
        w.call_rows(program, {"x": x}, places)
        for argument in outputs:
            w.let(argument.name, places[argument.name], self.plan.tokens, *argument.shape[1:])

    def place(self, name: str) -> Reference:
        """Where a norm's results are kept."""
        return Reference(name)

    def head(self, w: Writer, dx: Reference) -> None:
        """The loss, and its gradient at the last block's output."""
        rows, width = self.head_rows, self.wide[1]
        some = rows < self.plan.tokens
        with w.phase("head"):
            self._pick_targets(w)
            with w.sized(rows):
                self._head_start(w)
                w.zero("dn", rows, width)
                with w.repeat("tile", self.plan.vocabulary().count):
                    w.call("head_tile")
                w.zero("loss", 1, 1)
                w.call_rows("head_end", {}, {"dx": Reference("head_dx") if some else dx})
            w.store("loss", Reference("loss"))
            if some:
                w.zero("none", 1, width)
                w.store("none", Reference("head_dx", rows * width))
                w.let("table", Reference("head_dx"), rows + 1, width)
                w.call_rows(f"pick.{rows + 1}", {"positions": "head_places"}, {"picked": dx})

    def _pick_targets(self, w: Writer) -> None:
        """x <- its rows that have targets, if the head runs on those alone."""
        if self.head_rows < self.plan.tokens:
            with w.sized(self.head_rows):
                inputs = {"table": "x", "positions": "head_positions"}
                w.call_rows(f"pick.{self.plan.tokens}", inputs, {"picked": Reference("head_x")})
            w.let("x", Reference("head_x"), self.head_rows, self.wide[1])

    def _head_start(self, w: Writer) -> None:
        w.call_rows("head_start", {}, {name: Reference(name) for name in ("n", "z_target")})
        w.let("n", Reference("n"), self.head_rows, self.wide[1])
        for value in ("z_target", "lse"):
            w.let(value, Reference("z_target"), self.head_rows, 1)
