"""Bundles that several tests share: each is exported once a session, and its programs are lowered once for good."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mesp.command_line.parser import main
from mesp.export.bundle.export import ExportSettings, export_bundle
from mesp.export.programs.plan import Tiling

from .lowering_cache import lowering_cached
from .models import LLAMA, LLAMA3_ROPE, QWEN2, save_checkpoint


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _lowering_cached() -> Iterator[None]:
    with lowering_cached():
        yield


@pytest.fixture(scope="session")
def qwen2_fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2 with fp32 weights, tied head, an odd sequence length and rests of every kind of tile; beside it its checkpoint."""
    folder = tmp_path_factory.mktemp("qwen2")
    save_checkpoint(folder / "checkpoint", **QWEN2)
    settings = ExportSettings(
        lengths=(5, 13), rank=4, alpha=8.0, weights="fp32", tiling=Tiling(query_rows=8, ffn=64, vocabulary=50, rows=4)
    )
    export_bundle(str(folder / "checkpoint"), folder / "bundle", settings)
    return folder / "bundle"


@pytest.fixture(scope="session")
def llama_int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with int4 weights, every bias, Llama 3's rope and an untied head, one tile of each kind where that is possible."""
    folder = tmp_path_factory.mktemp("llama")
    config = {
        **LLAMA,
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": LLAMA3_ROPE,
        "tie_word_embeddings": False,
    }
    save_checkpoint(folder / "checkpoint", **config)
    settings = ExportSettings(
        lengths=(16,), rank=3, weights="int4", tiling=Tiling(query_rows=16, ffn=96, vocabulary=97)
    )
    export_bundle(str(folder / "checkpoint"), folder / "bundle", settings)
    return folder / "bundle"


@pytest.fixture(scope="session")
def llama_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with int8 weights, and adapters on three projections of the upper layer only."""
    folder = tmp_path_factory.mktemp("llama8")
    save_checkpoint(folder / "checkpoint", **LLAMA)
    settings = ExportSettings(
        lengths=(9,),
        rank=2,
        layers=1,
        weights="int8",
        targets=("q_proj", "v_proj", "down_proj"),
        tiling=Tiling(9, 48, 97),
    )
    export_bundle(str(folder / "checkpoint"), folder / "bundle", settings)
    return folder / "bundle"


@pytest.fixture(scope="session")
def qwen2_mebp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The method that MeSP is compared with, on one layer of int4 weights."""
    folder = tmp_path_factory.mktemp("mebp")
    save_checkpoint(folder / "checkpoint", **{**QWEN2, "num_hidden_layers": 1})
    settings = ExportSettings(lengths=(12,), rank=2, method="mebp", tiling=Tiling(vocabulary=97))
    export_bundle(str(folder / "checkpoint"), folder / "bundle", settings)
    return folder / "bundle"


@pytest.fixture(scope="session")
def llama_float16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Block inputs in float16 and in a file, by the command line: the upper of two layers, fp32 weights, and the fewest programs."""
    folder = tmp_path_factory.mktemp("float16")
    save_checkpoint(folder / "checkpoint", **LLAMA)
    sizes = ["--seq-len", "9", "--rank", "2", "--layers", "1", "--targets", "q_proj,down_proj", "--weights", "fp32"]
    options = [*sizes, "--block-inputs", "float16", "--offload", "inputs"]
    assert main(["export", str(folder / "checkpoint"), "-o", str(folder / "bundle"), *options]) == 0
    return folder / "bundle"
