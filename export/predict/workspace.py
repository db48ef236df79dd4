"""XNNPACK's workspace: one for all programs, as large as the largest needs. What that is follows from shapes, by formulas that are fitted to
what benchmarks/questions/program_workspace.py measures: four models from 135M to 3B, at 128 to 1,024 tokens. Sizes are in bytes.

It grows when a program comes that needs more, and then the old and the new one exist for a moment. So a session runs the largest program once,
on zeros, before anything else (``largest_program``), and the tile of the vocabulary is chosen so that it is clear which one that is.
"""

from dataclasses import replace
from math import prod

from ..model.architecture import ATTENTION, FFN
from ..programs.plan import Plan

# What counts as clearly less. The formulas are within 7%, and of what a program touches; what XNNPACK sets aside for it is more: with a head's
# tile at 0.93 of attention's the workspace still grew.
_MARGIN = 0.8


def head_workspace(plan: Plan) -> int:
    """A head's tile of v rows: its rows twice, its logits, and the sequence twice. Within 2%."""
    rows, tokens, width = plan.vocabulary().width, plan.tokens, plan.architecture.D
    return rows * (8 * width + 4 * tokens) + 8 * tokens * width


def dequantizing_workspace(plan: Plan) -> int:
    """Attention's backward while the queries' weight is dequantized and packed."""
    arch = plan.architecture
    return round(10.3 * arch.D * arch.G * arch.C + 2.8 * arch.D * plan.tokens)


def attending_workspace(plan: Plan) -> int:
    """Attention's backward among blocks of query rows, with three to four of a block's score matrices and the output projection's weight."""
    arch, tokens = plan.architecture, plan.tokens
    return 8 * arch.D * tokens + 13 * arch.G * plan.query_rows * tokens + 4 * arch.D * arch.G * arch.C


def attention_workspace(plan: Plan) -> int:
    """Attention's backward, at the larger of its moments."""
    return max(dequantizing_workspace(plan), attending_workspace(plan))


def tiles_workspace(plan: Plan) -> int:
    """The largest of the programs that work by tiles."""
    return max(head_workspace(plan), attention_workspace(plan))


def block_workspace(plan: Plan) -> int:
    """MeBP's backward pass, which is a whole block: its weights in fp32, with what dequantizing and packing them takes, some tensors of the
    feed-forward layer's middle, and every head's scores. Within 2%."""
    arch, tokens = plan.architecture, plan.tokens
    of_ffn, of_attention = (
        sum(4 * prod(arch.shape(projection)) for projection in projections) for projections in (FFN, ATTENTION)
    )
    activations = 5.57 * 4 * tokens * arch.F + 2.43 * 4 * arch.H * tokens * tokens
    return round(1.36 * of_ffn + 2.1 * of_attention + activations)


def largest_program(plan: Plan) -> str:
    """The program of ``plan.tokens`` with the largest workspace, of a block's backward pass by tiles and of the head."""
    return "head_tile" if _MARGIN * head_workspace(plan) > attention_workspace(plan) else "attention_backward"


def with_chosen_tiles(plan: Plan) -> Plan:
    """The plan with tiles as large as they may be without a larger workspace. That is a question of the vocabulary's alone: narrower tiles of
    queries or of the feed-forward layer do not make the workspace smaller (DESIGN.md)."""
    return replace(plan, tiling=replace(plan.tiling, vocabulary=_vocabulary_rows(plan)))


def _vocabulary_rows(plan: Plan) -> int:
    """Rows of a tile of the vocabulary, 256 to 1,024: as many as attention's workspace clearly has room for; if it has none for 256, the
    fewest that clearly need more."""
    attention = attention_workspace(plan)

    def head(rows: int) -> int:
        return head_workspace(replace(plan, tiling=replace(plan.tiling, vocabulary=rows)))

    choices = range(256, 1025, 64)
    below = [rows for rows in choices if head(rows) < _MARGIN * attention]
    above = (rows for rows in choices if _MARGIN * head(rows) > attention)
    return below[-1] if below else next(above, choices[-1])  # of a small vocabulary, the tile is all of it in any case
