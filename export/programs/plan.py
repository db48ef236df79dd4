"""The plan: everything that the programs of a bundle depend on. It is a model's architecture and what a person chose."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from mesp.runtime.engine.schedule import Reference

from ..export_settings import ExportSettings, Tiling
from ..model.architecture import Architecture, Attention, Projection, Segment, Sublayer
from ..model.quantize import Fp32, WeightFormat, weight_format
from .adapter_layout import AdapterLayout
from .program import F32, Argument, OfSublayer
from .tiles import TileGroup, tile_groups


@dataclass(frozen=True)
class Plan:
    """A model and the choices for it.

    Args:
        settings: complete: lengths ascending, targets by name, a number of layers, tiles
        adapted: False for the programs of layers below those with adapters
    """

    architecture: Architecture
    settings: ExportSettings
    adapted: bool = True

    @property
    def lengths(self) -> tuple[int, ...]:
        """The sequence lengths that there are programs for."""
        return self.settings.seq_len

    @property
    def tokens(self) -> int:
        """The longest sequence."""
        return self.lengths[-1]

    @property
    def head_rows(self) -> tuple[int, ...]:
        """Numbers of targets that there are programs of the head for, beside the lengths."""
        return self.settings.head_rows

    @property
    def rank(self) -> int:
        return self.settings.rank

    @cached_property
    def weights(self) -> WeightFormat:
        """The format of the frozen projections."""
        return weight_format(self.settings.weights, self.settings.group_size)

    @property
    def tiling(self) -> Tiling:
        assert self.settings.tiling
        return self.settings.tiling

    def having(self, **choices: Any) -> "Plan":
        """The plan with other choices, by their names in ExportSettings."""
        return replace(self, settings=replace(self.settings, **choices))

    def at(self, tokens: int) -> "Plan":
        """The plan of one length."""
        return self.having(seq_len=(tokens,), head_rows=tuple(rows for rows in self.head_rows if rows < tokens))

    def without_adapters(self) -> "Plan":
        """For the programs of the layers that have none."""
        return replace(self, adapted=False)

    # --- Layers and adapters ------------------------------------------------------------------------------------------

    @property
    def layers(self) -> int:
        """How many have adapters, the topmost."""
        assert self.settings.layers
        return self.settings.layers

    @property
    def first_layer(self) -> int:
        """The lowest with an adapter."""
        return len(self.architecture.layers) - self.layers

    @cached_property
    def adapter(self) -> AdapterLayout:
        return AdapterLayout(self.architecture, self.settings.targets, self.rank, self.first_layer)

    @property
    def plain_segments(self) -> tuple[Segment, ...]:
        """The layers without adapters."""
        return self.architecture.segments(0, self.first_layer)

    @property
    def adapted_segments(self) -> tuple[Segment, ...]:
        """The layers with adapters."""
        return self.architecture.segments(self.first_layer)

    def targeted(self, *projections: Projection) -> tuple[Projection, ...]:
        """Those of them that have an adapter."""
        return tuple(p for p in projections if self.adapted and p.name in self.settings.targets)

    # --- Block inputs -------------------------------------------------------------------------------------------------

    @property
    def block_inputs(self) -> torch.dtype:
        """The dtype in which they are kept."""
        dtype: torch.dtype = getattr(torch, self.settings.block_inputs)
        return dtype

    @property
    def packs_block_inputs(self) -> bool:
        """They are kept in another dtype than programs compute in."""
        return self.block_inputs != F32

    @property
    def offloads_block_inputs(self) -> bool:
        """They are kept in a file."""
        return self.settings.offload == "inputs"

    # --- Tiles --------------------------------------------------------------------------------------------------------

    @property
    def query_rows(self) -> int:
        return min(self.tiling.query_rows, self.tokens)

    def tiles(self, sublayer: Sublayer) -> tuple[TileGroup, ...]:
        """The tiles of a sublayer in units of its middle: a key-value head each, or some columns of the feed-forward layer."""
        width = 1 if isinstance(sublayer.middle, Attention) else self.tiling.ffn
        return tile_groups(sublayer.middle.units, width)

    def vocabulary(self) -> TileGroup:
        """Tiles of one width. The last one is filled up with rows of zeros, which ``table.padding`` takes out of the softmax."""
        width = min(self.tiling.vocabulary, self.architecture.V)
        return TileGroup("", 0, -(-self.architecture.V // width), width)

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the stored tables."""
        return self.vocabulary().count * self.vocabulary().width

    def row_groups(self, rows: int) -> tuple[TileGroup, ...]:
        """So many rows, of the sequence or of the head, as the row programs take them."""
        return tile_groups(rows, self.tiling.rows)

    @property
    def quantized_tables(self) -> bool:
        """The embedding and the head are int8 with a scale a row unless the weights are fp32."""
        return not isinstance(self.weights, Fp32)

    # --- Places -------------------------------------------------------------------------------------------------------

    def place(self, argument: Argument, segment: Segment | None) -> Reference:
        """Where a stored argument is in a loop over the layers of a segment, which may have no adapters; None outside of such a loop."""
        stored, owner = argument.stored, argument.owner
        assert stored
        if owner is None:
            return stored
        assert segment
        if isinstance(owner, OfSublayer):
            index = self.architecture.layers_of(owner.sublayer).index(segment.first)
            start = Reference(stored.tensor, (index - segment.first) * owner.size, {"layer": owner.size})
        else:
            start = self.adapter.place(stored.tensor, owner, segment)
        return Reference(stored.tensor, start.offset + stored.offset, {**start.strides, **stored.strides})
