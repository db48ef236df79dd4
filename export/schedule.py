"""MeSP as a schedule of programs: one forward pass that keeps each block's input, one backward pass that rebuilds a block at a time."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from mesp.runtime.bundle import Tensor
from mesp.runtime.schedule import Call, For, Instruction, Instructions, Let, Phase, Reference, Store, TensorSpec

from .architecture import ATTENTION, FFN
from .programs import ADAMW_SCALARS, Argument, Plan, Program, TileGroup, length_name, training_programs


def dtype_name(argument: Argument) -> str:
    """The dtype as the manifest writes it."""
    return str(argument.dtype).removeprefix("torch.")


def spec_of(argument: Argument) -> TensorSpec:
    """Shape and dtype as the manifest writes them."""
    return TensorSpec(argument.shape, dtype_name(argument))


class _Writer:
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


# The scalars and inputs that the trainer writes before a step.
SCALARS = ("lora_scale", "gradient_scale", "lr", "weight_decay", "momentum", *ADAMW_SCALARS)
BUFFERS = ("input_ids", "targets", "token_weight", *SCALARS)
OPTIMIZERS = ("sgd", "momentum", "adamw")


class Mesp:
    """The schedules of a plan.

    evaluate.T          the loss of a sequence of T tokens
    train.OPTIMIZER.T   a whole step on one sequence: each layer's update is applied as its gradient arrives, and no other layer's is kept
    gradients.T         the gradient of every layer, kept in ``gradients``
    accumulate.T        the same, added to what is there
    gradient_norm       the squared norm of what is there
    update.OPTIMIZER    a step with what is there
    """

    def __init__(self, plan: Plan, programs: Mapping[str, Program] | None = None):
        self.plan = plan
        self.programs = programs or training_programs(plan)

    def tensors(self) -> dict[str, Tensor]:
        """The memory that the schedules use beside the weights; schedules of a shorter sequence use a prefix."""
        plan, arch = self.plan, self.plan.architecture
        of_layers = TensorSpec((plan.layers, plan.adapter.size))
        states = ("adapter", "gradients", "momentum.velocity", "adamw.m", "adamw.v")
        return {
            "input_ids": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "targets": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "token_weight": Tensor("input", TensorSpec((plan.tokens, 1))),
            **{name: Tensor("input", TensorSpec((1,))) for name in SCALARS},
            "block_inputs": Tensor("buffer", TensorSpec((plan.layers, plan.tokens, arch.D))),
            "gradient": Tensor("buffer", TensorSpec((plan.adapter.size,))),
            "loss": Tensor("output", TensorSpec((1, 1))),
            "gradient_square_sum": Tensor("output", TensorSpec((1, 1))),
            **{name: Tensor("state", of_layers) for name in states},
        }

    def schedules(self) -> dict[str, Instructions]:
        """Every schedule by name."""
        schedules = {}
        for tokens in self.plan.lengths:
            step = _Sequence(self.plan.at(tokens), self.programs)
            schedules[length_name("evaluate", tokens)] = step.evaluate()
            for optimizer in OPTIMIZERS:
                schedules[length_name(f"train.{optimizer}", tokens)] = step.train(optimizer)
            schedules[length_name("gradients", tokens)] = step.gradients(accumulate=False)
            schedules[length_name("accumulate", tokens)] = step.gradients(accumulate=True)
        schedules["gradient_norm"] = self._gradient_norm()
        return schedules | {f"update.{optimizer}": self._update(optimizer) for optimizer in OPTIMIZERS}

    def _gradient_norm(self) -> Instructions:
        w = _Writer(self.programs)
        size = self.plan.adapter.size
        w.zero("square_sum", 1, 1)
        with self._layers(w), w.phase("update"):
            w.let("gradient", self.plan.adapter.of_layer("gradients"), size)
            w.store("gradient", "gradient")
            w.call("square_sum")
        w.store("square_sum", "gradient_square_sum")
        return tuple(w.instructions)

    def _update(self, optimizer: str) -> Instructions:
        w = _Writer(self.programs)
        with self._layers(w), w.phase("update"):
            w.call("take_gradient")
            w.call(optimizer)
        return tuple(w.instructions)

    def _layers(self, w: _Writer) -> AbstractContextManager[None]:
        """A loop over the layers with adapters."""
        return w.repeat("layer", self.plan.layers, first=self.plan.adapter.first_layer)


class _Sequence:
    """The schedules of one sequence length, ``plan.tokens``."""

    def __init__(self, plan: Plan, programs: Mapping[str, Program]):
        self.plan, self.programs = plan, programs
        self.wide = (plan.tokens, plan.architecture.D)
        self.first_layer = plan.adapter.first_layer

    def evaluate(self) -> Instructions:
        w = _Writer(self.programs, self.plan.tokens)
        self._embed(w)
        with w.repeat("layer", self.plan.layers, first=self.first_layer), w.phase("forward"):
            self._forward(w)
        self._head(w)
        return tuple(w.instructions)

    def train(self, optimizer: str) -> Instructions:
        w = _Writer(self.programs, self.plan.tokens)
        w.zero("square_sum", 1, 1)
        with self._layers_in_reverse(w):
            w.call("square_sum")
            w.call(optimizer)
        w.store("square_sum", "gradient_square_sum")
        return tuple(w.instructions)

    def gradients(self, accumulate: bool) -> Instructions:
        w = _Writer(self.programs, self.plan.tokens)
        size = self.plan.adapter.size
        with self._layers_in_reverse(w):
            if accumulate:
                w.call("accumulate")
            else:
                w.let("gradient", Reference("gradient"), size)
                w.store("gradient", self.plan.adapter.of_layer("gradients"))
        return tuple(w.instructions)

    @contextmanager
    def _layers_in_reverse(self, w: _Writer) -> Iterator[None]:
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
                self._backward(w)
            with w.phase("update"):
                yield

    def _embed(self, w: _Writer) -> None:
        """The input of the first block with an adapter."""
        with w.phase("embed"):
            w.call("embed")
        if self.first_layer:
            with w.repeat("layer", self.first_layer), w.phase("forward"):
                self._forward(w, "frozen_")

    def _forward(self, w: _Writer, kind: str = "") -> None:
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

    def _head(self, w: _Writer) -> None:
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

    def _backward(self, w: _Writer) -> None:
        """One block, from its input x and dy at its output: dy <- dy at its input, and the layer's gradient."""
        # Rebuild what the gradients need: both norms' results and the stream between the sublayers, y.
        w.call("attention_norm_forward", outputs={"n": "n_attention"})
        w.let("y", "x", *self.wide)
        for group in self.plan.heads():
            with w.repeat("tile", group.count):
                w.call("attention_forward" + group.suffix, inputs={"n": "n_attention"})
        w.call("ffn_norm_forward", inputs={"x": "y"}, outputs={"n": "n_ffn"})
        self._sublayer_backward(w, "ffn", self.plan.ffn(), FFN, x="y")
        self._sublayer_backward(w, "attention", self.plan.heads(), ATTENTION, x="x")

    def _sublayer_backward(
        self, w: _Writer, sublayer: str, groups: tuple[TileGroup, ...], projections: tuple[str, ...], x: str
    ) -> None:
        """From x, its input, and dy at its output: dy <- dy at its input, and the gradients of its adapters."""
        *into, out = projections
        w.zero("dn", *self.wide)
        for projection in self.plan.targeted(*into):
            w.zero(f"dh.{projection}", self.plan.tokens, self.plan.rank)
        if out in self.plan.targets:
            w.zero(f"grad.{out}.lora_b", self.plan.architecture.D, self.plan.rank)
        for group in groups:
            with w.repeat("tile", group.count):
                w.call(f"{sublayer}_backward{group.suffix}", inputs={"n": f"n_{sublayer}"})
        if out in self.plan.targets:
            gradient = self.plan.adapter.slice_of("gradient", out, "lora_b").stored
            w.instructions.append(Store(f"grad.{out}.lora_b", gradient))
        w.call(f"{sublayer}_norm_backward", inputs={"x": x}, outputs={"dx": "dy"})
