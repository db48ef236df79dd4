"""The bundles of tiny models that the tests of both runtimes share: what each is of, and what it is there to cover.

pytest's fixtures (conftest.py) and the cases of the Android core (android_cases.py) export the same ones, so each is lowered once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesp.command_line.parser import main
from mesp.export.bundle.export import export_bundle
from mesp.export.export_settings import ExportSettings, Tiling

from .lowering_cache import lowering_cached
from .models import GEMMA3, GRANITE, LFM2, LLAMA, LLAMA3_ROPE, MISTRAL, PHI3, QWEN2, QWEN3, SMOLLM3, save_checkpoint


@dataclass(frozen=True)
class Export:
    """A model's configuration, and how it is exported: by settings of the Python API, or by options of the command line."""

    config: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    options: str = ""


ONE_TILE = Tiling(query_rows=12, ffn=96, vocabulary=97)
SMALL: dict[str, Any] = {"seq_len": (12,), "rank": 4, "tiling": Tiling(vocabulary=97)}
ODD: dict[str, Any] = {"seq_len": (11,), "rank": 3, "tiling": Tiling(query_rows=4, ffn=96, vocabulary=50)}

BUNDLES = {
    # int4 weights, every bias, Llama 3's rope, a head of its own; one tile of each kind.
    "llama": Export(
        {
            **LLAMA,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": LLAMA3_ROPE,
            "tie_word_embeddings": False,
        },
        {**SMALL, "tiling": ONE_TILE},
    ),
    # fp32 weights, a tied head, two lengths, both odd, and a rest of every kind of tile.
    "qwen2": Export(
        QWEN2,
        {
            "seq_len": (5, 13),
            "rank": 4,
            "alpha": 8.0,
            "weights": "fp32",
            "tiling": Tiling(query_rows=8, ffn=64, vocabulary=50, rows=4),
        },
    ),
    # Norms of query and key heads, int8 weights, and adapters on three projections of the upper layer alone, of an odd rank.
    "upper": Export(
        QWEN3,
        {
            "seq_len": (9,),
            "rank": 3,
            "layers": 1,
            "weights": "int8",
            "targets": ("q_proj", "v_proj", "down_proj"),
            "tiling": Tiling(9, 48, 97),
        },
    ),
    # Norms after sublayers, windows shorter than the sequence, GeGLU; two kinds of attention.
    "gemma3": Export(
        GEMMA3, {"seq_len": (9,), "rank": 2, "weights": "int8", "tiling": Tiling(query_rows=4, ffn=96, vocabulary=97)}
    ),
    # Short convolutions, a fused projection, and adapters on the two upper layers alone.
    "lfm2": Export(LFM2, {**SMALL, "layers": 2}),
    # Layers with and without a rotary embedding in turn.
    "smollm3": Export(SMOLLM3, ODD),
    # A window shorter than the sequence in every layer.
    "mistral": Export({**MISTRAL, "tie_word_embeddings": False}, {**ODD, "weights": "fp32"}),
    # Scales of the embedding, of the scores, of what goes back to the stream, and of the logits.
    "granite": Export(GRANITE, {**ODD, "weights": "int8"}),
    # q, k, v and gate, up as a projection each, and a rotary embedding of a part of a head.
    "phi3": Export(PHI3, ODD),
    # The methods that MeSP is compared with.
    "mebp": Export(QWEN3, {**SMALL, "rank": 2, "method": "mebp"}),
    "store-h": Export(LLAMA, {**SMALL, "method": "store-h"}),
    "mezo": Export(LLAMA, {**SMALL, "method": "mezo"}),
    # Block inputs in float16 and in a file; by the command line.
    "float16": Export(
        LLAMA,
        options="--seq-len 9 --rank 2 --targets q_proj,down_proj --weights fp32 --block-inputs float16 --offload inputs",
    ),
}


# Tested always; `make test-all` has the others too.
QUICK = ("llama", "qwen2", "upper")


def write_bundle(name: str, bundle: Path, checkpoint: Path) -> None:
    """Writes a random model's checkpoint, and exports it."""
    export = BUNDLES[name]
    save_checkpoint(checkpoint, **export.config)
    with lowering_cached():
        if export.options:
            assert main(["export", str(checkpoint), "-o", str(bundle), *export.options.split()]) == 0
        else:
            export_bundle(str(checkpoint), bundle, ExportSettings(**export.settings))
