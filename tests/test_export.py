"""Export: checkpoints of every kind, what the weights file holds, and how much memory writing it takes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mesp.export.bundle.beside import beside
from mesp.export.bundle.export import export_bundle
from mesp.export.bundle.make_plan import make_plan
from mesp.export.bundle.weights_file import rotary_tables
from mesp.export.export_settings import ExportSettings
from mesp.export.model.architecture import Attention
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.model.families import read_architecture
from mesp.export.model.quantize import Int4
from mesp.export.programs.tiles import tile_groups
from mesp.export.reference.bundle_weights import dequantized_tensors
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.tensor_file import read_layout
from mesp.runtime.errors import MespError, UsageError

from .checks import assert_close
from .gguf_files import write_gguf
from .models import LLAMA, LLAMA3_ROPE, make_model, save_checkpoint
from .test_data import save_tokenizer
from .tolerances import DEQUANTIZE_FP32


def test_an_fp32_bundle_holds_the_checkpoint_exactly(qwen2_fp32: Path) -> None:
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(qwen2_fp32.parent / "checkpoint", dtype=torch.float32).state_dict()
    for name, tensor in dequantized_tensors(open_bundle(qwen2_fp32)):
        assert torch.equal(tensor, original[name]), name


def test_an_int4_bundle_is_near_the_checkpoint(llama_int4: Path) -> None:
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(llama_int4.parent / "checkpoint", dtype=torch.float32).state_dict()
    for name, tensor in dequantized_tensors(open_bundle(llama_int4)):
        assert_close(tensor, original[name], 0.1 if "proj.weight" in name else 0.02, name)


def test_every_stored_tensor_is_aligned_and_readable_by_safetensors(qwen2_fp32: Path) -> None:
    from safetensors.torch import load_file

    path = qwen2_fp32 / "weights.safetensors"
    loaded = load_file(path)
    for name, (spec, offset) in read_layout(path).items():
        assert offset % 64 == 0, name
        assert tuple(loaded[name].shape) == spec.shape


def test_a_tokenizer_of_a_larger_vocabulary_is_refused_before_anything_is_lowered(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", **LLAMA)
    save_tokenizer(tmp_path / "checkpoint")
    message = r"checkpoint has [\d,]+ tokens beside those that were added, and the model a vocabulary of 97: it is another model's"
    with pytest.raises(UsageError, match=message):
        export_bundle(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportSettings(seq_len=(8,)))
    assert not (tmp_path / "bundle").exists()


def test_shards_are_read_as_one_checkpoint(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "whole", **LLAMA)
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    whole, shards = open_checkpoint(str(tmp_path / "whole")), open_checkpoint(str(tmp_path / "shards"))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(whole.rows(name), shards.rows(name))
    assert torch.equal(whole.rows(name)[3:7], shards.rows(name, 3, 7))


def test_half_precision_checkpoints_are_widened(tmp_path: Path) -> None:
    model = make_model(dtype=torch.bfloat16, **LLAMA)
    model.save_pretrained(tmp_path)
    rows = open_checkpoint(str(tmp_path)).rows("model.layers.0.mlp.up_proj.weight")
    assert torch.equal(rows, model.model.layers[0].mlp.up_proj.weight.float())


def test_random_weights_depend_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, **LLAMA)
    one, same, other = (open_checkpoint(str(tmp_path), random_init=True, seed=seed) for seed in (1, 1, 2))
    name = "model.layers.0.self_attn.q_proj.weight"
    same.rows("model.embed_tokens.weight")
    assert torch.equal(one.rows(name), same.rows(name))
    assert not torch.equal(one.rows(name), other.rows(name))
    assert one.rows(name).std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_a_ggufs_blocks_are_taken_over_without_a_second_rounding(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    config = {key: value for key, value in LLAMA.items() if key != "head_dim"}  # the format has none
    write_gguf(tmp_path / "model.gguf", make_model(**config), kind)
    checkpoint = open_checkpoint(str(tmp_path / "model.gguf"))
    plan = make_plan(checkpoint.config, ExportSettings(seq_len=(8,)))
    assert checkpoint.tokenizer() is None  # this file has none
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).state_dict()
    for layer in range(2):
        for projection in plan.architecture.projections:
            name = f"{plan.architecture.module(layer, projection)}.weight"
            blocks = checkpoint.int4_blocks(name)
            assert blocks is not None
            assert isinstance(plan.weights, Int4)
            ours = plan.weights.dequantize(plan.weights.pack(blocks.levels, blocks.scale, blocks.offset))
            assert_close(ours.t(), reference[name], DEQUANTIZE_FP32, name)
            assert_close(checkpoint.rows(name), reference[name], DEQUANTIZE_FP32, name)


@pytest.mark.parametrize(
    "rope", [None, {**LLAMA3_ROPE, "original_max_position_embeddings": 64}], ids=["default", "llama3"]
)
def test_rotary_tables_are_those_of_transformers(rope: dict[str, Any] | None) -> None:
    from transformers import AutoConfig, LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = AutoConfig.for_model(**{**LLAMA, **({"rope_parameters": rope} if rope else {})})
    attention = read_architecture(config).sublayers[0].middle
    assert isinstance(attention, Attention) and attention.rotary and isinstance(config, LlamaConfig)
    ours = rotary_tables(attention.rotary, 64)
    theirs = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(64)[None])
    half = attention.C // 2
    assert all(torch.equal(our, their[0, :, :half]) for our, their in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("total", "width"), [(96, 32), (97, 32), (5, 8), (64, 64), (65, 64)])
def test_tiles_cover_everything_once(total: int, width: int) -> None:
    covered = [
        element
        for group in tile_groups(total, width)
        for tile in range(group.count)
        for element in range(group.first + tile * group.width, group.first + (tile + 1) * group.width)
    ]
    assert covered == list(range(total))


@pytest.mark.alone
def test_weights_are_written_tensor_by_tensor(tmp_path: Path) -> None:
    """Writing a model whose weights are 170 MB in fp32 takes a fraction of that: the largest pieces are 8,192 rows of the embedding."""
    config = {
        **LLAMA,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 24,
        "vocab_size": 60000,
        "head_dim": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
    script = f"""
import resource
from pathlib import Path
from mesp.export.bundle.beside import beside
from mesp.export.export_settings import ExportSettings
from mesp.export.bundle.make_plan import make_plan
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.bundle.weights_file import weight_tensors, write_weights
checkpoint = open_checkpoint({str(tmp_path)!r}, random_init=True)
plan = make_plan(checkpoint.config, ExportSettings(seq_len=(8,)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_weights(Path({str(tmp_path)!r}) / "weights.safetensors", plan, checkpoint)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(output) < 80


def test_work_beside_ends_with_the_body_and_says_what_went_wrong(tmp_path: Path) -> None:
    def fail() -> None:
        raise UsageError("no such weights")

    with beside(lambda: (tmp_path / "done").touch()):
        pass
    assert (tmp_path / "done").exists()
    with pytest.raises(UsageError, match="no such weights"), beside(fail):
        pass
    with pytest.raises(MespError, match="ended with status 3"), beside(lambda: os._exit(3)):
        pass
    with pytest.raises(ZeroDivisionError), beside(lambda: time.sleep(600)):
        1 / 0  # noqa: B018
