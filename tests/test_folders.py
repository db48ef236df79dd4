"""Hugging Face folders: what transformers would compute is computed, and whatever else is in a folder is refused by name, at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.command_line.parser import main
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.model.families import read_architecture
from mesp.export.reference.transformers_model import load_base
from mesp.runtime.errors import UsageError

from .android_golden import TEXTS, TOKENIZERS
from .gguf_files import write_gguf
from .models import GEMMA3, GRANITE, LFM2, LLAMA, PHI3, SMOLLM3, make_model, save_checkpoint
from .test_gguf import frequencies
from .tolerances import LOGITS_FP32

IDS = torch.arange(11)[None] * 7 % 97
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"
Q = "model.layers.0.self_attn.q_proj.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134515008\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "Tiny-Llama"
    save_checkpoint(folder, **LLAMA)
    TOKENIZERS["digits"](folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "Tiny-Llama"))


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def split(folder: Path, **maps: str) -> None:
    """The weights in two files and their index, in which some tensors are at another place."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: tensor for name, tensor in tensors.items() if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places | maps}))


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS).logits
    return found


def assert_as_transformers(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    assert (logits(load_base(str(folder)).model) - reference).abs().max() < LOGITS_FP32


# --- What transformers computes ---------------------------------------------------------------------------------------


def test_a_head_of_its_own_counts_though_the_configuration_calls_it_tied(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({HEAD: torch.randn(97, 64)}))
    assert not read_architecture(open_checkpoint(str(folder)).config).tied_head
    assert_as_transformers(folder)


def test_a_head_that_is_the_embedding_stays_tied(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({HEAD: tensors[TABLE].clone()}))
    assert read_architecture(open_checkpoint(str(folder)).config).tied_head
    assert_as_transformers(folder)


def test_one_file_of_weights_counts_before_shards(folder: Path) -> None:
    other = folder.with_name("other")
    save_checkpoint(other, seed=1, **LLAMA)
    split(other)
    for path in other.glob("model*"):
        shutil.copy(path, folder)
    assert_as_transformers(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_theta": 5e5},
        {"rope_parameters": None, "rope_theta": 1000000, "rope_scaling": None},
        {"num_key_value_heads": 2, "is_llama_config": True, "rope_interleaved": False},
    ],
    ids=str,
)
def test_old_and_odd_configurations_mean_what_they_mean_to_transformers(folder: Path, changes: dict[str, Any]) -> None:
    change_config(folder, **changes)
    assert_as_transformers(folder)


def test_what_old_checkpoints_keep_of_their_rotary_embedding_does_not_matter(folder: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(16)}))
    assert_as_transformers(folder)


@pytest.mark.parametrize(
    "class_", ["LlamaTokenizerFast", "Qwen2Tokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast", "None"]
)
def test_ids_are_those_of_tokenizer_json_whatever_class_is_named(folder: Path, tmp_path: Path, class_: str) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": class_}))
    own = [encoding.ids for encoding in Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(TEXTS)]
    found = open_checkpoint(str(folder)).tokenizer()
    assert found is not None and found(TEXTS, verbose=False)["input_ids"] == own
    found.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXTS, verbose=False)["input_ids"] == own


# --- What is refused by name ------------------------------------------------------------------------------------------

CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a quantized model": ({"quantization_config": {"quant_method": "fp8"}}, "quantized by 'fp8' (quantization_config)"),
    "a model of MLX": ({"quantization": {"group_size": 64, "bits": 4}}, "quantized by 'mlx' (quantization)"),
    "an oddly quantized model": ({"quantization_config": "awq"}, "quantized by 'awq'"),
    "a number as text": ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_theta of the default rope is '1e4'"),
    "another number as text": ({"hidden_size": "64"}, "hidden_size"),
    "no width": ({"hidden_size": 0}, "hidden_size is 0, but must be a whole number of 1 to"),
    "no heads": ({"num_attention_heads": 0}, "cannot be read as a model configuration"),
    "less than no layers": ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
    "too many layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "no epsilon": ({"rms_norm_eps": 0.0}, "rms_norm_eps is 0.0, but must be a number above 0"),
    "no turns": ({"rope_parameters": {"rope_theta": 0.0}}, "rope_theta of the default rope is 0.0"),
    "an infinite rope": ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 1e-300}}, "no finite frequencies"),
    "a factor that is missing": ({"rope_scaling": {"type": "linear"}}, "factor"),
    "a rope that is a list": ({"rope_parameters": [1]}, "rope_parameters"),
    "a model type that is a list": ({"model_type": ["llama"]}, "Architecture ['llama']"),
    "no model type": ({"model_type": None}, "Architecture missing"),
    "flags as text": ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_that_is_not_understood(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    refused(folder, message)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(UsageError) as error:
        open_checkpoint(str(folder)).tokenizer()
    assert message in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "codes of 8 bits": (lambda t: t.update({Q: t[Q].to(torch.float8_e4m3fn), f"{Q}_scale": torch.ones(1)}), f"{Q} is stored as F8_E4M3"),
    "whole numbers": (lambda t: t.update({Q: t[Q].to(torch.int8)}), f"{Q} is stored as I8, which is not read"),
    "packed codes": (lambda t: t.update({Q: t[Q][:, :8].to(torch.uint32)}), f"{Q} is stored as U32, which is not read"),
    "numbers of 64 bits": (lambda t: t.update({Q: t[Q].double()}), f"{Q} is stored as F64"),
    "scales beside floats": (lambda t: t.update({f"{Q}_scale_inv": torch.ones(1)}), f"tensors that mesp does not know: {Q}_scale_inv"),
    "GPTQ": (lambda t: (t.pop(Q), t.update({Q.replace("weight", "qweight"): torch.ones(1)})), f"has no tensor {Q}, which its"),
    "a bias without a word": (lambda t: t.update({Q.replace("weight", "bias"): torch.ones(128)}), "self_attn.q_proj.bias"),
    "norms of heads": (lambda t: t.update({"model.layers.1.self_attn.q_norm.weight": torch.ones(32)}), "q_norm.weight"),
    "a layer more": (lambda t: t.update({Q.replace("0", "2"): t[Q].clone()}), "model.layers.2.self_attn.q_proj.weight"),
    "the model without its head's name": (lambda t: t.update({k.removeprefix("model."): t.pop(k) for k in list(t)}), "It has tensors"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_is_not_understood(
    folder: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    change_tensors(folder, change)
    refused(folder, message)


def test_indices_that_name_no_files_are_refused(folder: Path) -> None:
    split(folder, **{Q: "../elsewhere.safetensors"})
    refused(folder, "names '../elsewhere.safetensors', which is no file beside it")
    index = folder / "model.safetensors.index.json"
    for text, message in {
        "": "cannot be read as an index of weights",
        "[]": "it holds no JSON object",
        "{}": "names no files (weight_map)",
        '{"weight_map": {"a": 3}}': "names 3, which is no file beside it",
        '{"weight_map": {"a": "absent.safetensors"}}': "lacks absent.safetensors",
    }.items():
        index.write_text(text)
        refused(folder, message)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    split(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    refused(folder, "is in more than one file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_git_leaves_for_a_file_that_was_not_fetched_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    refused(folder, f"{name} is a Git LFS pointer and not the file itself. Fetch it with: git lfs pull")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": {"type": "BPE"}}', "\0"])
def test_a_damaged_tokenizer_is_refused_before_anything_is_lowered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setattr("mesp.export.bundle.export.lower", lambda programs: 1 / 0)
    (folder / "tokenizer.json").write_text(text)
    assert main(["export", str(folder), "-o", str(tmp_path / "bundle"), "--seq-len", "8"]) == 2
    assert "tokenizer.json cannot be read as a tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_tokenizer_that_would_be_left_out_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    refused(folder, "has tokenizer.model and no tokenizer.json, from which tokenizers are read. Convert it once")
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert open_checkpoint(str(folder)).tokenizer() is None


def test_settings_of_generation_that_cannot_be_read_are_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": ')
    with pytest.raises(UsageError, match=r"generation_config\.json cannot be read as settings of generation"):
        load_base(str(folder))


def test_a_model_with_an_adapter_beside_it_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    refused(folder, "has an adapter beside its model (adapter_config.json)")


def test_other_places_of_a_model_are_said(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "weights in PyTorch's own format")
    snapshot = tmp_path / "models--org--Tiny" / "snapshots" / "0f3a"
    shutil.copytree(folder, snapshot)
    refused(tmp_path / "models--org--Tiny", f"a folder of the Hub's cache, whose model is in {snapshot}: give that")
    (tmp_path / "quants").mkdir()
    write_gguf(tmp_path / "quants" / "tiny.gguf", make_model(**LLAMA))
    refused(tmp_path / "quants", f"It holds GGUF files: give one of them, such as {tmp_path / 'quants' / 'tiny.gguf'}")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    refused(tmp_path / "lora", "It is an adapter: give the model that it was trained on")


def test_the_frequencies_of_old_linear_ropes_are_divided(folder: Path) -> None:
    plain = frequencies(open_checkpoint(str(folder)).config)
    change_config(folder, rope_scaling={"type": "linear", "factor": 4.0}, rope_parameters=None)
    found = frequencies(open_checkpoint(str(folder)).config)
    assert found == pytest.approx([value / 4 for value in plain])


# --- Other families ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GEMMA3, SMOLLM3, GRANITE, PHI3, LFM2], ids=lambda config: str(config["model_type"]))
def test_a_model_of_another_family_is_as_transformers_has_it(tmp_path: Path, config: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "model", **config)
    assert_as_transformers(tmp_path / "model")


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """A checkpoint of Gemma's in the type that it is published in."""
    make_model(dtype=torch.bfloat16, **GEMMA3).save_pretrained(tmp_path / "gemma")
    return tmp_path / "gemma"


def test_gemmas_embedding_has_the_scale_that_transformers_rounds_in_the_checkpoints_type(gemma: Path) -> None:
    from transformers import AutoModelForCausalLM

    as_published = AutoModelForCausalLM.from_pretrained(gemma)
    assert as_published.dtype == torch.bfloat16
    ids = torch.arange(97)
    published = as_published.model.embed_tokens(ids)
    ours = load_base(str(gemma)).model.model.embed_tokens(ids)
    assert torch.equal(ours.to(torch.bfloat16), published)


def test_gemma_with_weights_of_vision_is_refused_by_name(gemma: Path) -> None:
    change_tensors(gemma, lambda tensors: tensors.update({"vision_tower.embeddings.weight": torch.zeros(2, 2)}))
    with pytest.raises(UsageError, match=r"does not know.*vision_tower\.embeddings\.weight"):
        open_checkpoint(str(gemma))


def test_gemma_that_is_called_untied_needs_a_head(gemma: Path) -> None:
    change_config(gemma, tie_word_embeddings=False)
    with pytest.raises(UsageError, match="has no tensor lm_head.weight"):
        open_checkpoint(str(gemma))
