"""A decoder as a value: its layers, their sublayers, and what each of them is called in a checkpoint.

A layer is a tuple of sublayers, and every sublayer has the same parts:

    norm -> projections into -> middle -> projection out -> norm, in some families -> added to the stream

The middle is what tells an attention sublayer from a feed-forward one or a short convolution. Everything else of the export walks over
these values: programs, schedules, weights, the adapter. A family (``families``) reads a transformers configuration into them.

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
        offset: what is added to the weight of the checkpoint: 1 where that is the difference from 1. A bundle has the sum, since norms
            are not trained
    """

    tensor: str
    module: str
    width: int
    eps: float
    offset: float = 0.0


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
        fused: where one projection computes what others do in several, as qkv_proj: its parts, from the first output on
    """

    name: str
    module: str
    inputs: int
    outputs: int
    bias: bool = False
    unit: int = 1
    fused: tuple["FusedPart", ...] = ()

    @property
    def columns(self) -> tuple["Columns", ...]:
        """Its parts, or all of it as one."""
        if not self.fused:
            return (Columns(self, self.name, 0, self.outputs, self.unit),)
        found, first = [], 0
        for part in self.fused:
            found.append(Columns(self, f"{self.name}.{part.name}", first, part.outputs, part.unit))
            first += part.outputs
        return tuple(found)


@dataclass(frozen=True)
class FusedPart:
    """A part of a fused projection: so many outputs, and elements of a unit of the middle."""

    name: str
    outputs: int
    unit: int = 1


@dataclass(frozen=True)
class Columns:
    """Outputs of a projection that are tiled together, from output ``first`` on: all of it, or a part of a fused one.

    Args:
        name: the projection's, with that of the part
    """

    projection: Projection
    name: str
    first: int
    outputs: int
    unit: int


@dataclass(frozen=True)
class Rotary:
    """A rotary embedding: position p turns pair i of a head by p * frequencies[i].

    Args:
        name: of its tables in a bundle
        frequencies: radians a position, [C / 2]; fewer turn the first elements of a head alone
        scale: both tables, cos and sin, are multiplied with it
    """

    name: str
    frequencies: tuple[float, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Attention:
    """Causal attention. Its unit is a key-value head with its query heads.

    Args:
        H, K, C: query heads, key-value heads, width of a head
        rotary: None if positions are told by the mask alone
        q_norm, k_norm: RMSNorms of each query head and of each key head, before the rotary embedding; both, or none
        scale: what the scores are multiplied with
        window: keys that a query sees, its own among them; None for all before it
    """

    H: int
    K: int
    C: int
    rotary: Rotary | None
    scale: float
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    window: int | None = None

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
        window = f", a window of {self.window}" if self.window else ""
        unturned = "" if self.rotary else ", no rotary embedding"
        return f"{self.H} query heads, {self.K} key-value heads, each {self.C} wide{normed}{window}{unturned}"


@dataclass(frozen=True)
class FeedForward:
    """A gated feed-forward layer: activation(gate) * up. Its unit is a column of the width F.

    Args:
        activation: silu, or gelu by its approximation with tanh
    """

    F: int
    activation: str = "silu"

    @property
    def units(self) -> int:
        return self.F

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Of its own: none."""
        return ()

    def description(self) -> str:
        return f"{'SwiGLU' if self.activation == 'silu' else 'GeGLU'}, {self.F} wide"


@dataclass(frozen=True)
class Kernel:
    """The kernels of a depthwise convolution, [channels, 1, taps] in a checkpoint.

    Args:
        tensor: in a bundle, [taps, channels] for each tile
        module: what transformers calls it, within its layer
    """

    tensor: str
    module: str
    channels: int
    taps: int


@dataclass(frozen=True)
class ShortConvolution:
    """Gated depthwise causal convolution over a few tokens: C * conv(B * x). Its unit is a channel."""

    kernel: Kernel

    @property
    def units(self) -> int:
        return self.kernel.channels

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Of its own: none."""
        return ()

    def description(self) -> str:
        return f"gated convolution over {self.kernel.taps} tokens, {self.kernel.channels} wide"


Middle = Attention | FeedForward | ShortConvolution


@dataclass(frozen=True)
class Sublayer:
    """Half a transformer block.

    Args:
        name: of its programs in a bundle; of sublayers that differ no two may share one
        into: the projections that read the norm
        out: the projection that writes to the stream
        prefix: of its tensors' names in a bundle, where another sublayer has some of the same names
        norm_after: of what the projection out gives, before it is added to the stream
    """

    name: str
    norm: Norm
    into: tuple[Projection, ...]
    middle: Middle
    out: Projection
    prefix: str = ""
    norm_after: Norm | None = None

    @property
    def norms(self) -> tuple[Norm, ...]:
        """The one before it, the one after it, and those of its middle."""
        return (self.norm, *([self.norm_after] if self.norm_after else []), *self.middle.norms)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All of them, in the order of the data."""
        return (*self.into, self.out)

    @property
    def columns(self) -> tuple[Columns, ...]:
        """Of all projections into it, in the order in which the middle takes them."""
        return tuple(columns for projection in self.into for columns in projection.columns)


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
        embedding_scale: what the rows of the embedding are multiplied with before the first layer
        logit_scale: what the logits are multiplied with
        out_scale: what a sublayer's projection out gives is multiplied with

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
    embedding_scale: float = 1.0
    logit_scale: float = 1.0
    out_scale: float = 1.0
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

    def module(self, layer: int, part: Norm | Projection | Kernel) -> str:
        """transformers' path of a part of a layer."""
        return f"{self.layer_module.format(layer)}.{part.module}"

    def norm_weights(self) -> Iterator[tuple[str, Norm]]:
        """(name, norm) of each norm's weight in a checkpoint, under transformers' names."""
        yield f"{self.norm.module}.weight", self.norm
        for number, layer in enumerate(self.layers):
            for norm in (norm for sublayer in layer for norm in sublayer.norms):
                yield f"{self.module(number, norm)}.weight", norm

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
                if isinstance(sublayer.middle, ShortConvolution):
                    kernel = sublayer.middle.kernel
                    yield f"{self.module(number, kernel)}.weight", (kernel.channels, 1, kernel.taps)
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
    columns = (*sublayer.columns, *sublayer.out.columns)
    kernels = [sublayer.middle.kernel.tensor] if isinstance(sublayer.middle, ShortConvolution) else []
    return [*(norm.tensor for norm in sublayer.norms), *(part.name for part in columns), *kernels]
