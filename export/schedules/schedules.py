"""The schedules of a bundle: a method's, for each sequence length, and those on kept gradients, which have no sequence."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from mesp.runtime.engine.bundle import Tensor
from mesp.runtime.engine.schedule import Instructions, Reference, TensorSpec
from mesp.runtime.engine.sizes import sizes

from ..programs.head import pick
from ..programs.plan import Plan, Program, length_name
from ..programs.program_list import head_programs
from .method import SCALARS, Writer
from .methods import METHODS

OPTIMIZERS = ("sgd", "momentum", "adamw")


def training_programs(plan: Plan) -> dict[str, Program]:
    """Every program of a bundle, by name."""
    method = METHODS[plan.method]
    programs = {program.name: program for program in method.adapter_programs(plan)}

    def add(number: int, made: Iterable[Program]) -> None:
        for program in made:
            name = length_name(program.name, number)
            programs[name] = replace(program, name=name)

    for tokens in plan.lengths:
        add(tokens, method.tile_programs(plan.at(tokens)))
    there = sizes(plan.lengths, plan.head_rows)
    for size in there:
        if size.head not in plan.lengths:
            add(size.head, head_programs(plan.at(size.head)))
        if size.head < size.tokens:
            # From the stream to the head's rows, and back: what follows the last of them is a row of zeros.
            for rows, table in ((size.head, size.tokens), (size.tokens, size.head + 1)):
                for group in plan.at(rows).rows():
                    add(group.width, [pick(plan, table, group.width)])
    for rows in {group.width for size in there for n in (size.tokens, size.head) for group in plan.at(n).rows()}:
        add(rows, method.row_programs(plan, rows))
    return programs


class Schedules:
    """The schedules of a plan.

    evaluate.T          the loss of a sequence of T tokens; all that have a T come as evaluate.T.H too: with at most H targets, where the
                        head runs on the rows of those alone
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
        plan = self.plan
        of_layers = TensorSpec((plan.layers, plan.adapter.size))
        states = ("adapter", "gradients", "momentum.velocity", "adamw.m", "adamw.v")
        return {
            "input_ids": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "targets": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "token_weight": Tensor("input", TensorSpec((plan.tokens, 1))),
            "head_positions": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "head_places": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "noise_seed": Tensor("input", TensorSpec((1,), "int64")),
            **{name: Tensor("input", TensorSpec((1,))) for name in SCALARS},
            **METHODS[plan.method].buffers(plan),
            "loss": Tensor("output", TensorSpec((1, 1))),
            "gradient_square_sum": Tensor("output", TensorSpec((1, 1))),
            **{name: Tensor("state", of_layers) for name in states},
        }

    def schedules(self) -> dict[str, Instructions]:
        """Every schedule by name."""
        schedules = {}
        for size in sizes(self.plan.lengths, self.plan.head_rows):
            step = METHODS[self.plan.method](self.plan.at(size.tokens), self.programs, size.head)
            schedules[f"evaluate.{size.name}"] = step.evaluate()
            for optimizer in OPTIMIZERS:
                schedules[f"train.{optimizer}.{size.name}"] = step.train(optimizer)
            schedules[f"gradients.{size.name}"] = step.gradients(accumulate=False)
            schedules[f"accumulate.{size.name}"] = step.gradients(accumulate=True)
        schedules["gradient_norm"] = self._gradient_norm()
        return schedules | {f"update.{optimizer}": self._update(optimizer) for optimizer in OPTIMIZERS}

    def warm_up(self) -> tuple[str, ...]:
        """The program with the largest workspace of each length, the longest first: a session runs the first that it has before all else."""
        method = METHODS[self.plan.method]
        lengths = reversed(self.plan.lengths)
        return tuple(length_name(method.largest_program(self.plan.at(tokens)), tokens) for tokens in lengths)

    def _gradient_norm(self) -> Instructions:
        w = Writer(self.programs)
        w.zero("square_sum", 1, 1)
        with self._layers(w):
            w.let("gradient", self.plan.adapter.of_layer("gradients"), self.plan.adapter.size)
            w.store("gradient", Reference("gradient"))
            with w.repeat("part", self.plan.adapter.parts):
                w.call("square_sum")
        w.store("square_sum", Reference("gradient_square_sum"))
        return tuple(w.instructions)

    def _update(self, optimizer: str) -> Instructions:
        w = Writer(self.programs)
        with self._layers(w), w.repeat("part", self.plan.adapter.parts):
            w.call("take_gradient")
            w.call(optimizer)
        return tuple(w.instructions)

    @contextmanager
    def _layers(self, w: Writer) -> Iterator[None]:
        """A loop over the layers with adapters."""
        with w.repeat("layer", self.plan.layers, first=self.plan.adapter.first_layer), w.phase("update"):
            yield
