"""A method: how the gradient of each layer comes about. What all methods share is here: the pass forward, the head, and the ways in which a
layer's gradient is used."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from mesp.runtime.engine.manifest import Tensor
from mesp.runtime.engine.schedule import Instructions, Reference, TensorSpec

from ..model.architecture import Layer, Sublayer
from ..programs import catalogue, head
from ..programs.plan import Plan
from ..programs.program import OfAdapter, Program, sized_name
from ..programs.update import vector_programs
from ..programs.workspace import tiles_workspace
from .writer import Writer

PLAIN = "plain_"  # of programs without adapters


class Method(ABC):
    """A method: its programs, and its schedules of one sequence length, ``plan.tokens``.

    Args:
        head: rows that the head runs on; None for all
    """

    def __init__(self, plan: Plan, programs: Mapping[str, Program], head: int | None = None):
        self.plan, self.programs, self.head_rows = plan, programs, head or plan.tokens
        self.wide = (plan.tokens, plan.architecture.D)

    # --- What a bundle has of it --------------------------------------------------------------------------------------

    @classmethod
    def tile_programs(cls, plan: Plan) -> list[Program]:
        """The programs for sequences of ``plan.tokens``."""
        adapted, plain = _adapted(plan), catalogue.sublayers_of(plan.plain_segments)
        return [
            *catalogue.head_tiles(plan, plan.tokens),
            *catalogue.tiles_forward(plan, adapted),
            *catalogue.prefixed(PLAIN, catalogue.tiles_forward(plan.without_adapters(), plain)),
        ]

    @classmethod
    def row_programs(cls, plan: Plan, rows: int) -> list[Program]:
        """The programs for so many tokens."""
        adapted, plain = _adapted(plan), catalogue.sublayers_of(plan.plain_segments)
        return [
            *catalogue.head_ends(plan, rows),
            *catalogue.norms_forward(plan, adapted, rows),
            *catalogue.norms_after(plan, plan.architecture.sublayers, rows),
            *catalogue.prefixed(PLAIN, catalogue.norms_forward(plan.without_adapters(), plain, rows)),
        ]

    @classmethod
    def adapter_programs(cls, plan: Plan) -> list[Program]:
        """The programs that are the same for every length."""
        return [program for size in plan.adapter.sizes for program in vector_programs(plan, size)]

    @classmethod
    @abstractmethod
    def largest_program(cls, plan: Plan) -> str:
        """The program of ``plan.tokens`` with the largest workspace."""

    @classmethod
    def workspace(cls, plan: Plan) -> int:
        """XNNPACK's, in bytes: what the largest program of ``plan.tokens`` needs."""
        return tiles_workspace(plan)

    @classmethod
    def constants(cls) -> dict[str, float]:
        """Inputs of its schedules that are the same in every run."""
        return {}

    @classmethod
    def buffers(cls, plan: Plan) -> dict[str, Tensor]:
        """The memory of the schedules beside inputs, outputs and states, for the longest sequence."""
        wide, thin = (plan.tokens, plan.architecture.D), (plan.tokens, plan.rank)
        readers = [projection for sublayer in _adapted(plan) for projection in plan.targeted(*sublayer.into)]
        shapes = {
            "embedded": wide,
            "n": wide,
            **{f"h.{projection.name}": thin for projection in readers},
            "z_target": (plan.tokens, 1),
            "head_x": wide,
            "head_dx": (plan.tokens + 1, plan.architecture.D),
            "gradient": (plan.adapter.longest,),
        }
        return {name: Tensor("buffer", TensorSpec(shape)) for name, shape in shapes.items()}

    # --- Its schedules ------------------------------------------------------------------------------------------------

    @abstractmethod
    def each_gradient(self, w: Writer, use: Callable[[Writer], None]) -> None:
        """Writes the loss, and then loops over the layers with adapters. ``use`` writes what is done with a layer's ``gradient``, in the
        loop."""

    def evaluate(self) -> Instructions:
        w = Writer(self.programs, self.plan)
        self.loss(w, Reference("loss"))
        return tuple(w.instructions)

    def train(self, optimizer: str) -> Instructions:
        w = Writer(self.programs, self.plan)
        w.zero("square_sum", 1, 1)
        self.each_gradient(w, lambda w: w.call_vector("square_sum", optimizer))
        w.store("square_sum", Reference("gradient_square_sum"))
        return tuple(w.instructions)

    def gradients(self, accumulate: bool) -> Instructions:
        w = Writer(self.programs, self.plan)
        self.each_gradient(w, (lambda w: w.call_vector("accumulate")) if accumulate else self._keep_gradient)
        return tuple(w.instructions)

    def _keep_gradient(self, w: Writer) -> None:
        assert w.segment
        w.let("gradient", Reference("gradient"), self.plan.adapter.size_of(w.segment.layer))
        w.store("gradient", self.plan.adapter.place("gradients", OfAdapter(all_layers=True), w.segment))

    # --- The forward pass ---------------------------------------------------------------------------------------------

    def loss(self, w: Writer, place: Reference) -> None:
        """The loss without a gradient."""
        self.embed(w)
        for segment in self.plan.adapted_segments:
            with w.layers(segment), w.phase("forward"):
                self.forward(w, segment.layer)
        with w.phase("head"):
            self._pick_targets(w)
            self._head_start(w)
            with w.repeat("tile", self.plan.vocabulary().count):
                w.call("head_loss_tile", rows=self.head_rows)
            w.zero("loss", 1, 1)
            w.call_rows("head_loss", {}, {}, self.head_rows)
            w.store("loss", place)

    def embed(self, w: Writer) -> None:
        """x, the input of the first layer with an adapter."""
        with w.phase("embed"):
            w.call_rows("embed", {}, {"x": Reference("embedded")})
            w.let("x", Reference("embedded"), *self.wide)
        for segment in self.plan.plain_segments:
            with w.layers(segment), w.phase("forward"):
                self.forward(w, segment.layer, PLAIN)

    def forward(self, w: Writer, layer: Layer, prefix: str = "") -> None:
        """One layer: x <- layer(x), with the programs of this prefix."""
        for sublayer in layer:
            self.norm(w, sublayer, "x", prefix)
            self.add(w, sublayer, "x", "x", prefix)

    def add(self, w: Writer, sublayer: Sublayer, x: str, y: str, prefix: str = "") -> None:
        """y <- x + the sublayer, from its n. Where a norm comes after it, y takes the place of the embedded tokens."""
        if not sublayer.norm_after:
            if x != y:
                w.let(y, x, *self.wide)
            self.tiles(w, sublayer, y, prefix)
            return
        o = self.output(w, sublayer, prefix)
        w.call_rows(f"{sublayer.name}_norm_after", {"x": x, "o": o}, {"y": Reference("embedded")})
        w.let(y, Reference("embedded"), *self.wide)

    def output(self, w: Writer, sublayer: Sublayer, prefix: str = "") -> str:
        """The sublayer's own output, before the norm after it: a value of its name."""
        o = f"o.{sublayer.name}"
        w.zero(o, *self.wide)
        self.tiles(w, sublayer, o, prefix)
        return o

    def tiles(self, w: Writer, sublayer: Sublayer, total: str, prefix: str = "") -> None:
        """total <- total + each tile of the sublayer, from its n."""
        program = f"{prefix}{sublayer.name}_forward"
        w.call_tiles(program, self.plan.tiles(sublayer), {"y": total}, {"y": total})

    def norm(self, w: Writer, sublayer: Sublayer, x: str, prefix: str = "") -> None:
        """n and the h's of a sublayer from x."""
        program = f"{prefix}{sublayer.name}_norm_forward"
        outputs = self.programs[sized_name(program, self.plan.row_groups(self.plan.tokens)[0].width)].outputs
        places = {a.name: self.place(a.name) for a in outputs}
        w.call_rows(program, {"x": x}, places)
        for argument in outputs:
            w.let(argument.name, places[argument.name], self.plan.tokens, *argument.shape[1:])

    def place(self, name: str) -> Reference:
        """Where a norm's results are kept."""
        return Reference(name)

    # --- The head -----------------------------------------------------------------------------------------------------

    def head(self, w: Writer, dx: Reference) -> None:
        """The loss, and its gradient at the last layer's output."""
        rows, width = self.head_rows, self.wide[1]
        some = rows < self.plan.tokens
        with w.phase("head"):
            self._pick_targets(w)
            self._head_start(w)
            w.zero("dn", rows, width)
            with w.repeat("tile", self.plan.vocabulary().count):
                w.call("head_tile", rows=rows)
            w.zero("loss", 1, 1)
            w.call_rows("head_end", {}, {"dx": Reference("head_dx") if some else dx}, rows)
            w.store("loss", Reference("loss"))
            if some:
                w.zero("none", 1, width)
                w.store("none", Reference("head_dx", rows * width))
                w.let("table", Reference("head_dx"), rows + 1, width)
                w.call_rows(head.pick_name(rows + 1), {"positions": "head_places"}, {"picked": dx})

    def _pick_targets(self, w: Writer) -> None:
        """x <- its rows that have targets, if the head runs on those alone."""
        if self.head_rows < self.plan.tokens:
            inputs = {"table": "x", "positions": "head_positions"}
            w.call_rows(head.pick_name(self.plan.tokens), inputs, {"picked": Reference("head_x")}, self.head_rows)
            w.let("x", Reference("head_x"), self.head_rows, self.wide[1])

    def _head_start(self, w: Writer) -> None:
        w.call_rows("head_start", {}, {name: Reference(name) for name in ("n", "z_target")}, self.head_rows)
        w.let("n", Reference("n"), self.head_rows, self.wide[1])
        for value in ("z_target", "lse"):
            w.let(value, Reference("z_target"), self.head_rows, 1)


def _adapted(plan: Plan) -> tuple[Sublayer, ...]:
    return catalogue.sublayers_of(plan.adapted_segments)
