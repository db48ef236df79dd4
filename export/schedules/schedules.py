"""The schedules of a bundle: a method's, for each sequence length, and those on kept gradients, which have no sequence."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Instructions, Reference, TensorSpec
from mesp.runtime.engine.sizes import sizes

from ..programs.catalogue import head_tiles
from ..programs.head import pick
from ..programs.plan import Plan
from ..programs.program import OfAdapter, Program, sized_name
from .mebp import Mebp
from .mesp import Mesp
from .method import Method
from .mezo import Mezo
from .store_h import StoreH
from .writer import SCALARS, Writer

METHODS: dict[str, type[Method]] = {"mesp": Mesp, "mebp": Mebp, "store-h": StoreH, "mezo": Mezo}
OPTIMIZERS = ("sgd", "momentum", "adamw")
# What is kept from step to step, each laid out as the adapter; a checkpoint holds the optimizers' beside the adapter.
OPTIMIZER_STATES = ("momentum.velocity", "adamw.m", "adamw.v")
STATES = ("adapter", "gradients", *OPTIMIZER_STATES)


def method_of(plan: Plan) -> type[Method]:
    """The plan's method."""
    return METHODS[plan.settings.method]


def training_programs(plan: Plan) -> dict[str, Program]:
    """Every program of a bundle, by name."""
    method = method_of(plan)
    programs = {program.name: program for program in method.adapter_programs(plan)}

    def add(size: int, of_this_size: Iterable[Program]) -> None:
        for program in of_this_size:
            name = sized_name(program.name, size)
            programs[name] = replace(program, name=name)

    for tokens in plan.lengths:
        add(tokens, method.tile_programs(plan.at(tokens)))
    all_sizes = sizes(plan.lengths, plan.head_rows)
    for size in all_sizes:
        if size.head not in plan.lengths:
            add(size.head, head_tiles(plan, size.head))
        if size.head < size.tokens:
            # From the stream to the head's rows, and back: what follows the last of them is a row of zeros.
            for rows, table in ((size.head, size.tokens), (size.tokens, size.head + 1)):
                for group in plan.row_groups(rows):
                    add(group.width, [pick(plan, table, group.width)])
    for rows in {group.width for size in all_sizes for n in (size.tokens, size.head) for group in plan.row_groups(n)}:
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
        state = TensorSpec((plan.adapter.elements,))
        return {
            "input_ids": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "targets": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "token_weight": Tensor("input", TensorSpec((plan.tokens, 1))),
            "head_positions": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "head_places": Tensor("input", TensorSpec((plan.tokens,), "int64")),
            "noise_seed": Tensor("input", TensorSpec((1,), "int64")),
            **{name: Tensor("input", TensorSpec((1,))) for name in SCALARS},
            **method_of(plan).buffers(plan),
            "loss": Tensor("output", TensorSpec((1, 1))),
            "gradient_square_sum": Tensor("output", TensorSpec((1, 1))),
            **{name: Tensor("state", state) for name in STATES},
        }

    def schedules(self) -> dict[str, Instructions]:
        """Every schedule by name."""
        schedules = {}
        for size in sizes(self.plan.lengths, self.plan.head_rows):
            step = method_of(self.plan)(self.plan.at(size.tokens), self.programs, size.head)
            schedules[f"evaluate.{size.name}"] = step.evaluate()
            for optimizer in OPTIMIZERS:
                schedules[f"train.{optimizer}.{size.name}"] = step.train(optimizer)
            schedules[f"gradients.{size.name}"] = step.gradients(accumulate=False)
            schedules[f"accumulate.{size.name}"] = step.gradients(accumulate=True)
        schedules["gradient_norm"] = self._gradient_norm()
        return schedules | {f"update.{optimizer}": self._update(optimizer) for optimizer in OPTIMIZERS}

    def warm_up(self) -> tuple[str, ...]:
        """The program with the largest workspace of each length, the longest first: a session runs the first that it has before all else."""
        lengths = reversed(self.plan.lengths)
        largest = method_of(self.plan).largest_program
        return tuple(sized_name(largest(self.plan.at(tokens)), tokens) for tokens in lengths)

    def _gradient_norm(self) -> Instructions:
        w = Writer(self.programs, self.plan)
        w.zero("square_sum", 1, 1)
        for _ in self._updates(w):
            assert w.segment
            adapter = self.plan.adapter
            place = adapter.place("gradients", OfAdapter(all_layers=True), w.segment)
            w.let("gradient", place, adapter.size_of(w.segment.layer))
            w.store("gradient", Reference("gradient"))
            w.call_vector("square_sum")
        w.store("square_sum", Reference("gradient_square_sum"))
        return tuple(w.instructions)

    def _update(self, optimizer: str) -> Instructions:
        w = Writer(self.programs, self.plan)
        for _ in self._updates(w):
            w.call_vector("take_gradient", optimizer)
        return tuple(w.instructions)

    def _updates(self, w: Writer) -> Iterator[None]:
        """Loops over the layers with adapters: what is written in a round is in their bodies."""
        for segment in self.plan.adapted_segments:
            with w.layers(segment), w.phase("update"):
                yield
