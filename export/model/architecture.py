"""A decoder as a value: its layers, their sublayers, and what each of them is called in a checkpoint.

A layer is a tuple of sublayers, and every sublayer has the same parts:

    norm -> projections into -> middle -> projection out -> added to the stream

The middle is what tells an attention sublayer from a feed-forward one. Everything else of the export walks over these values: programs,
schedules, weights, the adapter. A family (``families``) reads a transformers configuration into them.

Layers that are equal are of one *kind*. A sublayer that occurs in several layers has its programs once, and its weights in one tensor for
all of these layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby


@dataclass(frozen=True)
class Norm:
    """RMSNorm.

    Args:
        tensor: name of its weight in a bundle
        module: what transformers calls it, within its layer
        width: elements of its weight
    """

    tensor: str
    module: str
    width: int
    eps: float


@dataclass(frozen=True)
class Projection:
    """A frozen linear layer, which may get an adapter.

    Args:
        name: what ``--targets`` calls it
        module: what transformers and PEFT call it, within its layer
        inputs, outputs: its widths
        bias: whether it has one
        unit: elements of its tiled axis that belong to one unit of the middle: C of a key-value head for k_proj. The tiled axis of a
            projection into a sublayer is its outputs, of the projection out its inputs
    """

    name: str
    module: str
    inputs: int
    outputs: int
    bias: bool = False
    unit: int = 1


@dataclass(frozen=True)
class Rotary:
    """A rotary embedding: position p turns pair i of a head by p * frequencies[i].

    Args:
        name: of its tables in a bundle
        frequencies: radians a position, [C / 2]
        scale: both tables, cos and sin, are multiplied with it
    """

    name: str
    frequencies: tuple[float, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Attention:
    """Causal attention over the whole sequence. Its unit is a key-value head with its query heads.

    Args:
        H, K, C: query heads, key-value heads, width of a head
        q_norm, k_norm: RMSNorms of each query head and of each key head, before the rotary embedding; both, or none
    """

    H: int
    K: int
    C: int
    rotary: Rotary
    q_norm: Norm | None = None
    k_norm: Norm | None = None

    @property
    def G(self) -> int:
        """Query heads of one key-value head."""
        return self.H // self.K

    @property
    def units(self) -> int:
        return self.K

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Of its own."""
        return tuple(norm for norm in (self.q_norm, self.k_norm) if norm)

    def description(self) -> str:
        normed = ", queries and keys normed" if self.norms else ""
        return f"{self.H} query heads, {self.K} key-value heads, each {self.C} wide{normed}"


@dataclass(frozen=True)
class FeedForward:
    """SwiGLU. Its unit is a column of the width F."""

    F: int

    @property
    def units(self) -> int:
        return self.F

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Of its own: none."""
        return ()

    def description(self) -> str:
        return f"SwiGLU, {self.F} wide"


Middle = Attention | FeedForward


@dataclass(frozen=True)
class Sublayer:
    """Half a transformer block.

    Args:
        name: of its programs in a bundle; of sublayers that differ no two may share one
        into: the projections that read the norm
        out: the projection that writes to the stream
        prefix: of its tensors' names in a bundle, where another sublayer has some of the same names
    """

    name: str
    norm: Norm
    into: tuple[Projection, ...]
    middle: Middle
    out: Projection
    prefix: str = ""

    @property
    def norms(self) -> tuple[Norm, ...]:
        """The one before it, and those of its middle."""
        return (self.norm, *self.middle.norms)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All of them, in the order of the data."""
        return (*self.into, self.out)


Layer = tuple[Sublayer, ...]


@dataclass(frozen=True)
class Segment:
    """Consecutive layers of one kind: ``first`` to ``first + count - 1``."""

    layer: Layer
    first: int
    count: int


@dataclass(frozen=True)
class Architecture:
    """A decoder.

    Args:
        model_type: as transformers names it
        D, V: width of the stream, rows of the vocabulary
        layers: from the first to the last
        norm: before the head; its ``module`` is the whole path
        embedding, head, layer_module: transformers' paths of the embedding, of the head, and of a layer, with its number for {}
        max_tokens: the longest sequence that the model takes
        tied_head: the head is the embedding

    Raises:
        ValueError: two sublayers that differ share a name, or two of their tensors do.
    """

    model_type: str
    D: int
    V: int
    layers: tuple[Layer, ...]
    norm: Norm
    max_tokens: int
    tied_head: bool
    embedding: str = "model.embed_tokens"
    head: str = "lm_head"
    layer_module: str = "model.layers.{}"

    def __post_init__(self) -> None:
        for names in (
            [sublayer.name for sublayer in self.sublayers],
            [s.prefix + name for s in self.sublayers for name in _tensor_names(s)],
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"Sublayers that differ share {', '.join(sorted(twice))}.")

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """The layers that differ, in the order in which they come first."""
        return tuple(dict.fromkeys(self.layers))

    @cached_property
    def sublayers(self) -> tuple[Sublayer, ...]:
        """The sublayers that differ, in the order in which they come first."""
        return tuple(dict.fromkeys(sublayer for layer in self.kinds for sublayer in layer))

    @cached_property
    def projections(self) -> tuple[Projection, ...]:
        """Of all sublayers."""
        return tuple(projection for sublayer in self.sublayers for projection in sublayer.projections)

    def layers_of(self, sublayer: Sublayer) -> list[int]:
        """The numbers of the layers that have it."""
        return [number for number, layer in enumerate(self.layers) if sublayer in layer]

    def segments(self, first: int = 0, end: int | None = None) -> tuple[Segment, ...]:
        """Layers ``first`` to ``end - 1`` (the last) as runs of one kind."""
        numbers = range(first, len(self.layers) if end is None else end)
        runs = [list(run) for _, run in groupby(numbers, key=lambda number: self.layers[number])]
        return tuple(Segment(self.layers[run[0]], run[0], len(run)) for run in runs)

    def module(self, layer: int, part: Norm | Projection) -> str:
        """transformers' path of a part of a layer."""
        return f"{self.layer_module.format(layer)}.{part.module}"

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(name, shape) of each tensor of a checkpoint, under transformers' names. A projection's weight is [out, in]."""
        yield f"{self.embedding}.weight", (self.V, self.D)
        yield f"{self.norm.module}.weight", (self.norm.width,)
        if not self.tied_head:
            yield f"{self.head}.weight", (self.V, self.D)
        for number, layer in enumerate(self.layers):
            for sublayer in layer:
                for norm in sublayer.norms:
                    yield f"{self.module(number, norm)}.weight", (norm.width,)
                for projection in sublayer.projections:
                    path = self.module(number, projection)
                    yield f"{path}.weight", (projection.outputs, projection.inputs)
                    if projection.bias:
                        yield f"{path}.bias", (projection.outputs,)

    def description(self) -> tuple[str, ...]:
        """Its sizes for people, a line each."""
        head = f"{self.model_type}, {len(self.layers)} layers, width {self.D}, vocabulary {self.V}"
        return head, *[f"{len(self.layers_of(s))} times {s.name}: {s.middle.description()}" for s in self.sublayers]


def _tensor_names(sublayer: Sublayer) -> list[str]:
    return [*(norm.tensor for norm in sublayer.norms), *(projection.name for projection in sublayer.projections)]
