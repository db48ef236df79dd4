"""XNNPACK's workspace: one for all programs, as large as the largest needs. What that is follows from shapes, by formulas that are fitted to
what ``python -m mesp.bench.questions.program_workspace`` measures: four models from 135M to 3B, at 128 to 1,024 tokens. Sizes are in bytes.

It grows when a program comes that needs more, and then the old and the new one exist for a moment. So a session runs the largest program once,
on zeros, before anything else (``largest_program``), and the tile of the vocabulary is chosen so that it is clear which one that is.
"""

from dataclasses import replace
from math import prod

from ..export_settings import Tiling
from ..model.architecture import Attention, FeedForward, Layer, ShortConvolution
from .attention import window_of
from .catalogue import sublayers_of
from .ops import mask_shape
from .plan import Plan

# What counts as clearly less. The formulas are within 7%, and of what a program touches; what XNNPACK sets aside for it is more: with a head's
# tile at 0.93 of attention's the workspace still grew.
_MARGIN = 0.8


def head_workspace(plan: Plan) -> int:
    """A head's tile of v rows: its rows twice, its logits, and the sequence twice. Within 2%."""
    rows, tokens, width = plan.vocabulary().width, plan.tokens, plan.architecture.D
    return rows * (8 * width + 4 * tokens) + 8 * tokens * width


def dequantizing_workspace(plan: Plan, attention: Attention) -> int:
    """Attention's backward while the queries' weight is dequantized and packed; the queries as they were before a norm are there too."""
    D, width = plan.architecture.D, attention.G * attention.C
    normed = 8.4 * width * plan.tokens if attention.norms else 0.0
    return round(10.3 * D * width + 2.8 * D * plan.tokens + normed)


def attending_workspace(plan: Plan, attention: Attention) -> int:
    """Attention's backward among blocks of query rows, with three to four of a block's score matrices and the output projection's weight."""
    D, tokens = plan.architecture.D, plan.tokens
    _, keys = mask_shape(tokens, plan.query_rows, window_of(attention, tokens))
    scores = 13 * attention.G * plan.query_rows * keys
    return 8 * D * tokens + scores + 4 * D * attention.G * attention.C


def columns_workspace(plan: Plan, middle: FeedForward | ShortConvolution) -> int:
    """The backward of a tile of columns: a weight and its packed copy, the sequence twice, and some tensors of the tile. Within 2%."""
    width, tokens = min(plan.tiling.ffn, middle.units), plan.tokens
    tensors = tokens + 170 if isinstance(middle, FeedForward) else 2 * tokens + 245
    return 8 * plan.architecture.D * (width + tokens) + 4 * width * tensors


def attention_workspace(plan: Plan, attention: Attention) -> int:
    """Attention's backward, at the larger of its moments."""
    return max(dequantizing_workspace(plan, attention), attending_workspace(plan, attention))


def tiles_workspace(plan: Plan) -> int:
    """The largest of the programs that work by tiles."""
    return max(head_workspace(plan), *_attentions(plan).values(), *_columns(plan).values())


def _attentions(plan: Plan) -> dict[str, int]:
    """Attention's backward in the layers with adapters, by sublayer."""
    middles = ((sublayer.name, sublayer.middle) for sublayer in sublayers_of(plan.adapted_segments))
    return {name: attention_workspace(plan, middle) for name, middle in middles if isinstance(middle, Attention)}


def _columns(plan: Plan) -> dict[str, int]:
    """The same of the sublayers whose tiles are columns."""
    middles = ((sublayer.name, sublayer.middle) for sublayer in sublayers_of(plan.adapted_segments))
    return {name: columns_workspace(plan, middle) for name, middle in middles if not isinstance(middle, Attention)}


def block_workspace(plan: Plan, layer: Layer) -> int:
    """MeBP's backward pass, which is a whole layer: its weights in fp32, with what dequantizing and packing them takes, some tensors of the
    feed-forward layer's middle, and every head's scores. Within 2%."""
    tokens, total = plan.tokens, 0.0
    for sublayer in layer:
        weights = sum(4 * prod((projection.inputs, projection.outputs)) for projection in sublayer.projections)
        match sublayer.middle:
            case FeedForward(F):
                total += 1.36 * weights + 5.57 * 4 * tokens * F
            case Attention(H):
                total += 2.1 * weights + 2.43 * 4 * H * tokens * tokens
            case ShortConvolution():
                total += 1.36 * weights + 5.57 * 4 * tokens * plan.architecture.D
    return round(total)


def largest_program(plan: Plan) -> str:
    """The program of ``plan.tokens`` with the largest workspace, of a layer's backward pass by tiles and of the head."""
    head, attentions, columns = head_workspace(plan), _attentions(plan), _columns(plan)
    if head > max(columns.values()) and _MARGIN * head > max(attentions.values(), default=0):
        return "head_tile"
    sublayers = attentions | columns
    return f"{max(sublayers, key=sublayers.__getitem__)}_backward"


def largest_forward_program(plan: Plan) -> str:
    """The same of the forward pass alone."""
    head = head_workspace(plan) - 8 * plan.tokens * plan.architecture.D  # without the gradient
    middles = {sublayer.name: sublayer.middle for sublayer in sublayers_of(plan.adapted_segments)}
    attentions = {n: dequantizing_workspace(plan, m) for n, m in middles.items() if isinstance(m, Attention)}
    if head > max(attentions.values(), default=0):
        return "head_loss_tile"
    return f"{max(attentions, key=attentions.__getitem__)}_forward"


def with_chosen_tiles(plan: Plan) -> Plan:
    """The plan with tiles as large as they may be without a larger workspace. That is a question of the vocabulary's alone: narrower tiles of
    queries or of the feed-forward layer do not make the workspace smaller (DESIGN.md). Where there are more kinds of sublayers than two there
    are more row programs, which all keep their results, so they take half as many rows."""
    rows = Tiling.rows if len(plan.architecture.sublayers) <= 2 else Tiling.rows // 2
    return plan.having(tiling=replace(plan.tiling, vocabulary=_vocabulary_rows(plan), rows=rows))


def _vocabulary_rows(plan: Plan) -> int:
    """Rows of a tile of the vocabulary, 256 to 1,024: as many as attention's workspace clearly has room for; if it has none for 256, the
    fewest that clearly need more."""
    middles = [sublayer.middle for sublayer in plan.architecture.sublayers]
    attention = max(attention_workspace(plan, middle) for middle in middles if isinstance(middle, Attention))

    def head(rows: int) -> int:
        return head_workspace(plan.having(tiling=replace(plan.tiling, vocabulary=rows)))

    choices = range(256, 1025, 64)
    below = [rows for rows in choices if head(rows) < _MARGIN * attention]
    above = (rows for rows in choices if _MARGIN * head(rows) > attention)
    return below[-1] if below else next(above, choices[-1])  # of a small vocabulary, the tile is all of it in any case
