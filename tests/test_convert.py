"""Adapters in other programs' formats: applied as those programs do, they change a model's weights as PEFT does."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.numpy import load_file

import mesp
from mesp.command_line.parser import build_parser, main
from mesp.export.bundle import export as export_module
from mesp.export.bundle.lower import Lowered
from mesp.export.convert.convert import convert
from mesp.export.convert.lora import read_lora
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.model.families import FAMILIES
from mesp.export.reference.merge import merge
from mesp.runtime.engine.manifest import Needs
from mesp.runtime.errors import UsageError
from mesp.runtime.training.adapter import WEIGHTS
from mesp.runtime.training.adapter_config import CONFIG

from .gguf_files import gguf_kind, write_gguf
from .models import GEMMA3, GRANITE, LFM2, LLAMA, MISTRAL, PHI3, QWEN2, QWEN3, SMOLLM3, make_model, save_checkpoint
from .test_merge import save_adapter

CONFIGS = {
    config["model_type"]: config for config in (LLAMA, QWEN2, QWEN3, GEMMA3, SMOLLM3, MISTRAL, GRANITE, PHI3)
} | {"lfm2": {**LFM2, "block_auto_adjust_ff_dim": False}}
EVERY = "all-linear"


def base_and_adapter(folder: Path, name: str, **options: Any) -> tuple[Path, Path, Any]:
    """A checkpoint of a family, an adapter of every projection, and the model."""
    config = dict(CONFIGS[name])
    base = folder / f"Tiny-{name}"
    save_checkpoint(base, **config)
    model = make_model(**config)
    return base, save_adapter(folder / "adapter", base, model, target_modules=EVERY, **options), model


def field(reader: GGUFReader, name: str) -> Any:
    found = reader.get_field(name)
    assert found is not None, name
    return found.contents()


def added(reader: GGUFReader) -> dict[str, np.ndarray]:
    """What llama.cpp adds to each tensor: alpha / rank * B A, by the tensor's name."""
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    alpha, found = field(reader, "adapter.lora.alpha"), {}
    for name in tensors:
        if name.endswith(".lora_a"):
            stem = name.removesuffix(".lora_a")
            a, b = tensors[name], tensors[f"{stem}.lora_b"]
            found[stem] = alpha / a.shape[0] * b @ a
    assert 2 * len(found) == len(tensors)
    return found


@pytest.mark.parametrize("name", [name for name, known in FAMILIES.items() if known.from_gguf])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_gguf_model_with_its_gguf_adapter_is_the_merged_model(name: str, rslora: bool, tmp_path: Path) -> None:
    base, adapter, _ = base_and_adapter(tmp_path, name, use_rslora=rslora)
    convert(adapter, "gguf", tmp_path / "lora.gguf", str(base))
    reader = GGUFReader(tmp_path / "lora.gguf")
    assert [field(reader, key) for key in ("general.type", "adapter.type")] == ["adapter", "lora"]
    assert field(reader, "adapter.lora.alpha") == pytest.approx(12 * (math.sqrt(4) if rslora else 1))
    model = make_model(**CONFIGS[name])
    assert field(reader, "general.architecture") == gguf_kind(model.config)
    plain = {
        tensor.name: np.array(tensor.data) for tensor in GGUFReader(write_gguf(tmp_path / "base.gguf", model)).tensors
    }
    together = {stem: plain[stem] + change for stem, change in added(reader).items()}
    whole = open_checkpoint(str(write_gguf(tmp_path / "whole.gguf", model, tensors=together)))
    merge(str(base), adapter, tmp_path / "merged")
    merged = open_checkpoint(str(tmp_path / "merged"))
    paths = read_lora(adapter).pairs
    assert len(paths) == len(together) > 6
    for path in paths:
        assert torch.allclose(whole.rows(f"{path}.weight"), merged.rows(f"{path}.weight"), atol=1e-6), path


@pytest.mark.parametrize("name", [name for name, known in FAMILIES.items() if not known.from_gguf])
def test_families_that_are_not_read_from_gguf_have_names_and_orders_there_too(name: str, tmp_path: Path) -> None:
    base, adapter, model = base_and_adapter(tmp_path, name)
    convert(adapter, "gguf", tmp_path / "lora.gguf", str(base))
    reader = GGUFReader(tmp_path / "lora.gguf")
    kinds = {"mistral": "llama", "granite": "granite", "smollm3": "smollm3", "phi3": "phi3"}
    assert field(reader, "general.architecture") == kinds.get(name, name)
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    C = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    pairs = read_lora(adapter).pairs
    if name == "phi3":
        assert {stem.split(".", 2)[2] for stem in tensors if stem.startswith("blk.1")} == {
            f"{part}.weight.lora_{factor}"
            for part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
            for factor in "ab"
        }
        assert np.array_equal(tensors["blk.1.attn_qkv.weight.lora_b"], pairs["model.layers.1.self_attn.qkv_proj"].b)
        return
    for own, theirs in (("q_proj", "attn_q"), ("k_proj", "attn_k")):
        rows = tensors[f"blk.1.{theirs}.weight.lora_b"]
        halves = np.concatenate([rows.reshape(-1, C, 4)[:, 0::2], rows.reshape(-1, C, 4)[:, 1::2]], 1)
        assert np.array_equal(halves.reshape(rows.shape), pairs[f"model.layers.1.self_attn.{own}"].b)
    assert np.array_equal(tensors["blk.0.attn_v.weight.lora_b"], pairs["model.layers.0.self_attn.v_proj"].b)
    assert np.array_equal(tensors["blk.0.ffn_down.weight.lora_a"], pairs["model.layers.0.mlp.down_proj"].a)


def test_mlx_has_the_factors_transposed_and_the_scale(tmp_path: Path) -> None:
    _, adapter, model = base_and_adapter(tmp_path, "llama", use_rslora=True)
    convert(adapter, "mlx", tmp_path / "mlx")
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    parameters = config["lora_parameters"]
    assert (config["fine_tune_type"], config["num_layers"], parameters["rank"], parameters["scale"]) == (
        "lora",
        -1,
        4,
        6.0,
    )
    assert set(parameters["keys"]) >= {"self_attn.q_proj", "mlp.down_proj"} and len(parameters["keys"]) == 7
    tensors, path = load_file(tmp_path / "mlx" / "adapters.safetensors"), "model.layers.1.mlp.down_proj"
    pair, x = read_lora(adapter).pairs[path], np.ones((1, model.config.intermediate_size), np.float32)
    assert len(tensors) == 14 * model.config.num_hidden_layers
    theirs = (x @ tensors[f"{path}.lora_a"]) @ tensors[f"{path}.lora_b"]
    assert np.allclose(theirs, x @ (pair.b @ pair.a).T, atol=1e-6)


def test_peft_under_the_models_name_on_the_hub(tmp_path: Path) -> None:
    _, adapter, _ = base_and_adapter(tmp_path, "llama")
    with pytest.raises(UsageError, match="--base-id OWNER/NAME"):
        convert(adapter, "peft", tmp_path / "named")
    convert(adapter, "peft", tmp_path / "named", base_id="org/Tiny")
    before, after = (json.loads((folder / CONFIG).read_text()) for folder in (adapter, tmp_path / "named"))
    assert after == {**before, "base_model_name_or_path": "org/Tiny"}
    assert (tmp_path / "named" / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()


def test_a_run_knows_its_adapter_and_its_bundle(llama_int4: Path, tmp_path: Path) -> None:
    run, base = tmp_path / "run", llama_int4.parent / "checkpoint"
    save_adapter(run / "adapter", base, make_model(**CONFIGS["llama"]))
    (run / "run.json").write_text(json.dumps({"bundle": {"path": str(llama_int4)}}))
    assert main(["convert", str(run), "--to", "gguf", "-o", str(tmp_path / "lora.gguf")]) == 0
    assert len(added(GGUFReader(tmp_path / "lora.gguf"))) == 8
    (run / "run.json").write_text(json.dumps({"bundle": {"path": "/sdcard/bundle"}}))
    with pytest.raises(UsageError, match="not at /sdcard/bundle any more. Give it, or its checkpoint, as --base"):
        convert(run, "gguf", tmp_path / "again.gguf")
    with pytest.raises(UsageError, match="is no run, which knows its bundle"):
        convert(run / "adapter", "gguf", tmp_path / "again.gguf")
    assert not (tmp_path / "again.gguf").exists()


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    base, adapter, _ = base_and_adapter(tmp_path, "llama")
    other = tmp_path / "other" / base.name
    save_checkpoint(other, **CONFIGS["llama"] | {"intermediate_size": 40})
    with pytest.raises(UsageError, match="outputs, but this model's of"):
        convert(adapter, "gguf", tmp_path / "lora.gguf", str(other))
    elsewhere = tmp_path / "Another"
    shutil.copytree(base, elsewhere)
    with pytest.raises(UsageError, match="Give its own as --base"):
        convert(adapter, "gguf", tmp_path / "lora.gguf", str(elsewhere))
    head = save_adapter(tmp_path / "head", base, make_model(**CONFIGS["llama"]), target_modules=["lm_head"])
    with pytest.raises(UsageError, match="lm_head is no projection of this model"):
        convert(head, "gguf", tmp_path / "lora.gguf", str(base))
    with pytest.raises(UsageError, match="lm_head is in no layer"):
        convert(head, "mlx", tmp_path / "mlx")
    line = ["convert", str(adapter), "-o", str(tmp_path / "x"), "--to"]
    assert main([*line, "peft", "--base", str(base)]) == main([*line, "gguf", "--base-id", "org/x"]) == 2
    assert main([*line, "peft", "--base-id", "x"]) == 2 and not (tmp_path / "x").exists()


def test_merged_weights_are_bfloat16_unless_said_otherwise() -> None:
    args = build_parser().parse_args(["merge", "model", "adapter", "-o", "merged"])
    assert args.dtype == "bfloat16"


def test_a_bundle_may_name_its_model_as_the_hub_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its origin is what a run's adapter names as its base. Nothing is lowered here."""
    source = write_gguf(tmp_path / "tiny.gguf", make_model(**LLAMA))
    origins: list[str] = []

    def manifest(checkpoint: Any, origin: str, *_: Any) -> Any:
        origins.append(origin)
        raise UsageError("not further")

    monkeypatch.setattr(export_module, "lower", lambda _: Lowered(b"", {}, Needs((), ())))
    monkeypatch.setattr(export_module, "_manifest", manifest)
    chosen: tuple[dict[str, Any], ...] = ({}, {"base_id": "org/Tiny"})
    for options in chosen:
        with pytest.raises(UsageError, match="not further"):
            mesp.export(source, tmp_path / "bundle", seq_len=8, **options)
    assert origins == [str(source), "org/Tiny"]
    assert main(["export", str(source), "-o", str(tmp_path / "bundle"), "--base-id", "tiny"]) == 2
    assert "--base-id" in (export_module._unnamed(str(source), None) or "")
    assert not export_module._unnamed(str(source), "org/Tiny") and not export_module._unnamed("folder", None)
