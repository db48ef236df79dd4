"""MeSP as a schedule of programs: one forward pass that keeps each block's input, one backward pass that rebuilds a block at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mesp.runtime.bundle import Tensor
from mesp.runtime.schedule import Call, For, Instruction, Instructions, Let, Phase, Reference, Store, TensorSpec

from .architecture import ATTENTION, FFN
from .programs import ADAMW_SCALARS, Argument, Plan, Program, TileGroup, training_programs


def dtype_name(argument: Argument) -> str:
    """The dtype as the manifest writes it."""
    return str(argument.dtype).removeprefix("torch.")


def spec_of(argument: Argument) -> TensorSpec:
    """Shape and dtype as the manifest writes them."""
    return TensorSpec(argument.shape, dtype_name(argument))


class _Writer:
    """Writes instructions, filling in what a program's arguments say of themselves."""

    def __init__(self, programs: Mapping[str, Program]):
        self.programs = programs
        self.instructions: list[Instruction] = []

    def call(
        self, program: str, /, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> None:
        """Calls a program. A value passes under the argument's own name unless the mappings say otherwise; stored
        arguments are bound to what they are stored in, and results that belong to a tensor are copied there."""
        inputs, outputs = inputs or {}, outputs or {}
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

    def store(self, value: str, tensor: str, **strides: int) -> None:
        self.instructions.append(Store(value, Reference(tensor, 0, strides)))

    @contextmanager
    def repeat(self, variable: str, count: int, reverse: bool = False) -> Iterator[None]:
        outer, self.instructions = self.instructions, []
        yield
        self.instructions = [*outer, For(variable, count, reverse, tuple(self.instructions))]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer, self.instructions = self.instructions, []
        yield
        self.instructions = [*outer, Phase(name, tuple(self.instructions))]


# The scalars and inputs that the trainer writes before a step.
SCALARS = ("lora_scale", "lr", "weight_decay", *ADAMW_SCALARS)
BUFFERS = ("input_ids", "targets", "token_weight", *SCALARS)


class Mesp:
    """The schedules of a plan."""

    def __init__(self, plan: Plan, programs: Mapping[str, Program] | None = None):
        self.plan = plan
        self.programs = programs or training_programs(plan)
        self.wide = (plan.tokens, plan.architecture.D)

    def tensors(self) -> dict[str, Tensor]:
        """The memory that the schedules use beside the weights."""
        plan, arch = self.plan, self.plan.architecture
        of_layers = TensorSpec((arch.layers, plan.adapter.size))
        return {
            "input_ids": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "targets": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "token_weight": Tensor("input", TensorSpec((plan.tokens, 1))),
            **{name: Tensor("input", TensorSpec((1,))) for name in SCALARS},
            "block_inputs": Tensor("buffer", TensorSpec((arch.layers, *self.wide))),
            "gradient": Tensor("buffer", TensorSpec((plan.adapter.size,))),
            "loss": Tensor("output", TensorSpec((1, 1))),
            "gradient_square_sum": Tensor("output", TensorSpec((1, 1))),
            "gradients": Tensor("output", of_layers),
            **{name: Tensor("state", of_layers) for name in ("adapter", "adamw.m", "adamw.v")},
        }

    def schedules(self) -> dict[str, Instructions]:
        """evaluate: the loss alone; train.sgd and train.adamw: a step; gradients: every layer's gradient, kept."""
        return {
            "evaluate": self._evaluate(),
            "train.sgd": self._train("sgd"),
            "train.adamw": self._train("adamw"),
            "gradients": self._train(None),
        }

    def _evaluate(self) -> Instructions:
        w = _Writer(self.programs)
        self._embed(w)
        with w.repeat("layer", self.plan.architecture.layers), w.phase("forward"):
            self._forward(w)
        self._head(w)
        return tuple(w.instructions)

    def _train(self, optimizer: str | None) -> Instructions:
        w = _Writer(self.programs)
        layers = self.plan.architecture.layers
        block = self.wide[0] * self.wide[1]
        self._embed(w)
        with w.repeat("layer", layers), w.phase("forward"):
            w.store("x", "block_inputs", layer=block)
            self._forward(w)
        self._head(w)
        w.zero("square_sum", 1, 1)
        with w.repeat("layer", layers, reverse=True):
            with w.phase("backward"):
                w.let("x", Reference("block_inputs", 0, {"layer": block}), *self.wide)
                self._backward(w)
            with w.phase("update"):
                w.call("square_sum")
                if optimizer:
                    w.call(optimizer)
                else:
                    w.let("gradient", Reference("gradient"), self.plan.adapter.size)
                    w.store("gradient", "gradients", layer=self.plan.adapter.size)
        w.store("square_sum", "gradient_square_sum")
        return tuple(w.instructions)

    def _embed(self, w: _Writer) -> None:
        with w.phase("embed"):
            w.call("embed")

    def _forward(self, w: _Writer) -> None:
        """One block: x <- block(x)."""
        w.call("attention_norm_forward", outputs={"n": "n_attention"})
        for group in self.plan.heads():
            with w.repeat("tile", group.count):
                w.call("attention_forward" + group.suffix, inputs={"y": "x", "n": "n_attention"}, outputs={"y": "x"})
        w.call("ffn_norm_forward", outputs={"n": "n_ffn"})
        for group in self.plan.ffn():
            with w.repeat("tile", group.count):
                w.call("ffn_forward" + group.suffix, inputs={"y": "x", "n": "n_ffn"}, outputs={"y": "x"})

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
