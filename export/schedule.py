"""The schedules of a bundle: a method's, for each sequence length, and those on kept gradients, which have no sequence."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from mesp.runtime.bundle import Tensor
from mesp.runtime.schedule import Instructions, TensorSpec

from .methods import METHODS
from .programs import Argument, Plan, Program, adapter_programs, forward_programs, frozen_programs, length_name
from .sequence import SCALARS, Writer

OPTIMIZERS = ("sgd", "momentum", "adamw")


def dtype_name(argument: Argument) -> str:
    """The dtype as the manifest writes it."""
    return str(argument.dtype).removeprefix("torch.")


def spec_of(argument: Argument) -> TensorSpec:
    """Shape and dtype as the manifest writes them."""
    return TensorSpec(argument.shape, dtype_name(argument))


def training_programs(plan: Plan) -> dict[str, Program]:
    """Every program of a bundle, by name."""
    programs = {program.name: program for program in adapter_programs(plan)}
    for tokens in plan.lengths:
        at = plan.at(tokens)
        of_length = forward_programs(at) + METHODS[plan.method].backward_programs(at) + frozen_programs(at)
        for program in of_length:
            name = length_name(program.name, tokens)
            programs[name] = replace(program, name=name)
    return programs


class Schedules:
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
            step = METHODS[self.plan.method](self.plan.at(tokens), self.programs)
            schedules[length_name("evaluate", tokens)] = step.evaluate()
            for optimizer in OPTIMIZERS:
                schedules[length_name(f"train.{optimizer}", tokens)] = step.train(optimizer)
            schedules[length_name("gradients", tokens)] = step.gradients(accumulate=False)
            schedules[length_name("accumulate", tokens)] = step.gradients(accumulate=True)
        schedules["gradient_norm"] = self._gradient_norm()
        return schedules | {f"update.{optimizer}": self._update(optimizer) for optimizer in OPTIMIZERS}

    def _gradient_norm(self) -> Instructions:
        w = Writer(self.programs)
        size = self.plan.adapter.size
        w.zero("square_sum", 1, 1)
        with self._layers(w), w.phase("update"):
            w.let("gradient", self.plan.adapter.of_layer("gradients"), size)
            w.store("gradient", "gradient")
            w.call("square_sum")
        w.store("square_sum", "gradient_square_sum")
        return tuple(w.instructions)

    def _update(self, optimizer: str) -> Instructions:
        w = Writer(self.programs)
        with self._layers(w), w.phase("update"):
            w.call("take_gradient")
            w.call(optimizer)
        return tuple(w.instructions)

    def _layers(self, w: Writer) -> AbstractContextManager[None]:
        """A loop over the layers with adapters."""
        return w.repeat("layer", self.plan.layers, first=self.plan.adapter.first_layer)
