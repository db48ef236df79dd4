"""What every method's schedule of one sequence shares: the forward pass, the head, and the ways a layer's gradient is used."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mesp.runtime.schedule import Call, For, Instruction, Instructions, Let, Phase, Reference, Store, TensorSpec

from .programs import ADAMW_SCALARS, Plan, Program, length_name

# The scalars and inputs that the trainer writes before a step.
SCALARS = ("lora_scale", "gradient_scale", "lr", "weight_decay", "momentum", *ADAMW_SCALARS)
BUFFERS = ("input_ids", "targets", "token_weight", *SCALARS)


class Writer:
    """Writes instructions, filling in what a program's arguments say of themselves.

    Args:
        tokens: the length for which the programs are called; None for a schedule without a sequence
    """

    def __init__(self, programs: Mapping[str, Program], tokens: int | None = None):
        self.programs, self.tokens = programs, tokens
        self.instructions: list[Instruction] = []

    def call(
        self, program: str, /, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> None:
        """Calls a program. A value passes under the argument's own name unless the mappings say otherwise; stored
        arguments are bound to what they are stored in, and results that belong to a tensor are copied there."""
        inputs, outputs = inputs or {}, outputs or {}
        if program not in self.programs and self.tokens:
            program = length_name(program, self.tokens)
        spec = self.programs[program]
        arguments = tuple(
            a.stored or (Reference(a.name) if a.name in BUFFERS else inputs.get(a.name, a.name)) for a in spec.inputs
        )
        results = [(a, outputs.get(a.name, a.name)) for a in spec.outputs]
        self.instructions.append(Call(program, arguments, tuple(name for _, name in results)))
        self.instructions += [Store(name, a.stored) for a, name in results if a.stored]

    def let(self, value: str, source: Reference | str, *shape: int) -> None:
        self.instructions.append(Let(value, source, TensorSpec(shape)))

    def zero(self, value: str, *shape: int) -> None:
        self.let(value, Reference("zeros"), *shape)

    def store(self, value: str, place: str | Reference) -> None:
        self.instructions.append(Store(value, Reference(place) if isinstance(place, str) else place))

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


class Sequence(ABC):
    """A method: its programs, and its schedules of one sequence length, ``plan.tokens``."""

    def __init__(self, plan: Plan, programs: Mapping[str, Program]):
        self.plan, self.programs = plan, programs
        self.wide = (plan.tokens, plan.architecture.D)
        self.first_layer = plan.adapter.first_layer

    @staticmethod
    @abstractmethod
    def backward_programs(plan: Plan) -> list[Program]:
        """The programs that ``backward`` calls."""

    @abstractmethod
    def backward(self, w: Writer) -> None:
        """One block, from its input x and dy at its output: dy <- dy at its input, and the layer's ``gradient``."""

    def evaluate(self) -> Instructions:
        w = Writer(self.programs, self.plan.tokens)
        self._embed(w)
        with w.repeat("layer", self.plan.layers, first=self.first_layer), w.phase("forward"):
            self._forward(w)
        self._head(w)
        return tuple(w.instructions)

    def train(self, optimizer: str) -> Instructions:
        w = Writer(self.programs, self.plan.tokens)
        w.zero("square_sum", 1, 1)
        with self._layers_in_reverse(w):
            w.call("square_sum")
            w.call(optimizer)
        w.store("square_sum", "gradient_square_sum")
        return tuple(w.instructions)

    def gradients(self, accumulate: bool) -> Instructions:
        w = Writer(self.programs, self.plan.tokens)
        size = self.plan.adapter.size
        with self._layers_in_reverse(w):
            if accumulate:
                w.call("accumulate")
            else:
                w.let("gradient", Reference("gradient"), size)
                w.store("gradient", self.plan.adapter.of_layer("gradients"))
        return tuple(w.instructions)

    @contextmanager
    def _layers_in_reverse(self, w: Writer) -> Iterator[None]:
        """The pass forward and back; the body is what is done with a layer's ``gradient``."""
        layers, block = self.plan.layers, self.wide[0] * self.wide[1]
        input_of_block = Reference("block_inputs", -self.first_layer * block, {"layer": block})
        self._embed(w)
        with w.repeat("layer", layers, first=self.first_layer), w.phase("forward"):
            w.store("x", input_of_block)
            self._forward(w)
        self._head(w)
        with w.repeat("layer", layers, reverse=True, first=self.first_layer):
            with w.phase("backward"):
                w.let("x", input_of_block, *self.wide)
                self.backward(w)
            with w.phase("update"):
                yield

    def _embed(self, w: Writer) -> None:
        """The input of the first block with an adapter."""
        with w.phase("embed"):
            w.call("embed")
        if self.first_layer:
            with w.repeat("layer", self.first_layer), w.phase("forward"):
                self._forward(w, "frozen_")

    def _forward(self, w: Writer, kind: str = "") -> None:
        """One block: x <- block(x)."""
        w.call(f"{kind}attention_norm_forward", outputs={"n": "n_attention"})
        for group in self.plan.heads():
            with w.repeat("tile", group.count):
                name = f"{kind}attention_forward{group.suffix}"
                w.call(name, inputs={"y": "x", "n": "n_attention"}, outputs={"y": "x"})
        w.call(f"{kind}ffn_norm_forward", outputs={"n": "n_ffn"})
        for group in self.plan.ffn():
            with w.repeat("tile", group.count):
                w.call(f"{kind}ffn_forward{group.suffix}", inputs={"y": "x", "n": "n_ffn"}, outputs={"y": "x"})

    def _head(self, w: Writer) -> None:
        """The loss, and dy, its gradient at the last block's output."""
        with w.phase("head"):
            w.call("head_start")
            w.let("lse", "z_target", self.plan.tokens, 1)
            w.zero("dn", *self.wide)
            for group in self.plan.vocabulary():
                with w.repeat("tile", group.count):
                    w.call("head_tile" + group.suffix)
            w.call("head_end", outputs={"dx": "dy"})
            w.store("loss", "loss")
