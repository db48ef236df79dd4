"""Merging an adapter: the folder says what PEFT says of the model with the adapter, and what does not fit is refused by name."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.export.reference.merge import merge
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.training.adapter import WEIGHTS, same_base
from mesp.runtime.training.adapter_config import CONFIG

from .gguf_files import write_gguf
from .models import LLAMA, QWEN2, make_model, save_checkpoint
from .tolerances import LOGITS_FP32

IDS = torch.arange(11)[None] * 7 % 97


def save_tokenizer(folder: Path, **options: Any) -> None:
    """A printable ASCII character is a token: "!" is 0, "~" 93; then the space, the line's end, and the text's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*map(chr, range(33, 127)), "Ġ", "Ċ", "<|endoftext|>"]
    characters = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=characters, eos_token=letters[-1], **options).save_pretrained(folder)


def save_adapter(folder: Path, base: Path, model: Any, everything: bool = False, **changes: Any) -> Path:
    """A PEFT adapter for a model, by PEFT, with B drawn too, or with everything that it trains moved."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "o_proj", "gate_proj", "down_proj"], **changes}
    peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if everything and parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "lora_B" in name:
                parameter.normal_(std=0.3)
    peft_model.peft_config["default"].base_model_name_or_path = str(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def logits(folder: Path, adapter: Path | None = None, **options: Any) -> Tensor:
    """What transformers computes with a folder's model in fp32, and PEFT with an adapter on it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    model = PeftModel.from_pretrained(base, adapter) if adapter else base
    with torch.inference_mode():
        found: Tensor = model.eval()(input_ids=IDS).logits
    return found


def stored_dtypes(folder: Path) -> set[torch.dtype]:
    from safetensors.torch import load_file

    return {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge") / "Tiny-Qwen2"
    save_checkpoint(folder, **QWEN2)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(checkpoint: Path) -> Path:
    return save_adapter(checkpoint.with_name("adapter"), checkpoint, make_model(**QWEN2))


def test_the_merged_folder_is_the_model_with_its_adapter(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    merge(str(checkpoint), adapter, tmp_path / "merged")
    reference = logits(checkpoint, adapter)
    assert (logits(tmp_path / "merged") - reference).abs().max() < LOGITS_FP32
    assert (logits(checkpoint) - reference).abs().max() > 1000 * LOGITS_FP32  # the adapter does something
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")('#" ~').input_ids == [2, 1, 94, 93]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


def test_a_bundle_and_its_checkpoint_merge_to_the_same(qwen2_fp32: Path, tmp_path: Path) -> None:
    base = qwen2_fp32.parent / "checkpoint"
    adapter = save_adapter(tmp_path / "adapter", base, make_model(**QWEN2))
    merge(str(base), adapter, tmp_path / "of_checkpoint")
    merge(str(qwen2_fp32), adapter, tmp_path / "of_bundle")
    assert torch.equal(logits(tmp_path / "of_bundle"), logits(tmp_path / "of_checkpoint"))
    assert not list((tmp_path / "of_bundle").glob("tokenizer*"))  # this bundle has none


def test_a_gguf_merges_to_what_transformers_reads_from_it(tmp_path: Path) -> None:
    config = {**LLAMA, "head_dim": 16}
    model = make_model(**config)
    write_gguf(tmp_path / "Tiny.Q4_1.gguf", model, "Q4_1")
    adapter = save_adapter(tmp_path / "adapter", Path("org/tiny"), model)
    merge(str(tmp_path / "Tiny.Q4_1.gguf"), adapter, tmp_path / "merged")
    assert stored_dtypes(tmp_path / "merged") == {torch.float32}
    reference = logits(tmp_path, adapter, gguf_file="Tiny.Q4_1.gguf")
    assert (logits(tmp_path / "merged") - reference).abs().max() < LOGITS_FP32


@pytest.mark.parametrize(("dtype", "stored"), [("auto", "bfloat16"), ("float16", "float16"), ("float32", "float32")])
def test_the_type_of_the_weights_is_the_checkpoints_or_the_one_asked_for(
    dtype: str, stored: str, adapter: Path, tmp_path: Path
) -> None:
    base = tmp_path / "Tiny-Qwen2"
    make_model(dtype=torch.bfloat16, **QWEN2).save_pretrained(base)
    merge(str(base), adapter, tmp_path / "merged", dtype)
    assert stored_dtypes(tmp_path / "merged") == {getattr(torch, stored)}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == stored


def with_tensors(adapter: Path, folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """A copy of an adapter whose tensors were changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, folder)
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


# Options whose results are PEFT's own, and what is merged: of a model whose head is its embedding.
OPTIONS: dict[str, dict[str, Any]] = {
    "first values out of the weights": {"init_lora_weights": "pissa"},
    "others": {"init_lora_weights": "olora"},
    "on the tied head": {"target_modules": ["q_proj", "lm_head"]},
    "on the tied embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "on both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "on both, alike": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "an embedding of its own": {"modules_to_save": ["embed_tokens"]},
    "tokens of its own": {"trainable_token_indices": [1, 2, 3]},
    "norms of its own": {"modules_to_save": ["norm"]},
    "patterns and DoRA": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 3}, "use_dora": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_that_is_taken_gives_what_peft_gives(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    adapter = save_adapter(tmp_path / "adapter", checkpoint, make_model(**QWEN2), everything=True, **options)
    reference = logits(checkpoint, adapter)
    recwarn.clear()
    merge(str(checkpoint), adapter, tmp_path / "merged")
    assert not recwarn.list
    assert (logits(tmp_path / "merged") - reference).abs().max() < LOGITS_FP32
    assert (logits(checkpoint) - reference).abs().max() > 1000 * LOGITS_FP32


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "first values at random": ({"init_lora_weights": "pissa_niter_4"}, "is 'pissa_niter_4', which changed the model's own weights in a way"),
    "first values of data": ({"init_lora_weights": "corda"}, "is 'corda', which changed"),
    "layers again": ({"layer_replication": [[0, 2], [1, 2]]}, "cannot be applied: layer_replication = "),
    "a later option": ({"use_warp": {"turns": 2}}, "use_warp = {'turns': 2}. Use an adapter without them"),
    "noise": ({"monteclora_config": {"n": 2}, "arrow_config": {"top_k": 1}}, "arrow_config = {'top_k': 1}, monteclora_config = "),
    "no rank": ({"r": None}, "r is missing, but must be a whole number"),
    "rank 0": ({"r": 0}, "r is 0, but must be a whole number of 1 to"),
    "no scale": ({"lora_alpha": None}, "lora_alpha is missing, but must be a number above 0"),
    "a number as the base": ({"base_model_name_or_path": 7}, "base_model_name_or_path is 7"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_option_that_is_not_known_is_refused_by_name(
    checkpoint: Path, adapter: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    other = with_config(adapter, tmp_path / "other", **changes)
    with pytest.raises(UsageError) as error:
        merge(str(checkpoint), other, tmp_path / "merged")
    assert message in str(error.value)


def test_options_of_a_later_version_that_are_switched_off_do_not_matter(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    off: dict[str, Any] = {
        "use_warp": False,
        "warp_config": None,
        "warps": [],
        "peft_version": "9.1",
        "lora_dropout": 0.3,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merge(str(checkpoint), with_config(adapter, tmp_path / "other", **off), tmp_path / "merged")
    assert (logits(tmp_path / "merged") - logits(checkpoint, adapter)).abs().max() < LOGITS_FP32


def test_what_peft_warns_of_is_said(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    other = with_config(adapter, tmp_path / "other", use_warp=False)
    with pytest.warns(UserWarning, match="other: PEFT warns: Unexpected keyword arguments .*use_warp"):
        merge(str(checkpoint), other, tmp_path / "merged")


def test_an_adapter_that_has_no_merged_form_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", checkpoint, make_model(**QWEN2), alora_invocation_tokens=[1, 2])
    with pytest.raises(MespError, match="cannot be merged: aLoRA does not support safe merging"):
        merge(str(checkpoint), adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_files_of_an_adapter_are_named_by_what_is_wrong_with_them(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    def refused(folder: Path, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            merge(str(checkpoint), folder, tmp_path / "merged")

    inner = with_tensors(adapter, tmp_path / "inner", rename_as_inside)
    refused(inner, r"lora_A\.default\.weight has the adapter's name in it, so it was saved with state_dict")
    (inner / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(inner, "is a Git LFS pointer")
    (inner / WEIGHTS).unlink()
    refused(inner, f"has no adapter's weights: {WEIGHTS} is not there")
    torch.save(load_file(adapter / WEIGHTS), inner / "adapter_model.bin")
    merge(str(checkpoint), inner, tmp_path / "merged")
    assert (logits(tmp_path / "merged") - logits(checkpoint, adapter)).abs().max() < LOGITS_FP32
    shutil.rmtree(tmp_path / "merged")
    for text in ("", "[]", '"LORA"', "{", "[" * 100_000):
        (inner / CONFIG).write_text(text)
        refused(inner, "cannot be read as an adapter's configuration")


def rename_as_inside(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace(".weight", ".default.weight")] = tensors.pop(name)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
MISFITS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "shape": (lambda t: t.update({FIRST: torch.zeros(4, 32)}), r"size mismatch for .*layers\.0\.self_attn\.q_proj"),
    "missing": (lambda t: t.pop(FIRST), r"1 tensors missing .*layers\.0\.self_attn\.q_proj\.lora_A"),
    "extra": (lambda t: t.update({FIRST.replace("0", "2"): t[FIRST].clone()}), r"no place for.*layers\.2"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_adapter_of_other_tensors_is_refused_by_their_name(
    case: str, checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    change, message = MISFITS[case]
    other = with_tensors(adapter, tmp_path / "other", change)
    with pytest.raises(UsageError, match=f"other does not fit .*Tiny-Qwen2: .*{message}"):
        merge(str(checkpoint), other, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def with_config(adapter: Path, folder: Path, **changes: Any) -> Path:
    """A copy of an adapter whose configuration says something else."""
    shutil.copytree(adapter, folder)
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def test_an_adapter_of_targets_that_the_model_lacks_is_refused(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    other = with_config(adapter, tmp_path / "other", target_modules=["query_key_value"])
    with pytest.raises(UsageError, match=r"does not fit .*query_key_value"):
        merge(str(checkpoint), other, tmp_path / "merged")


def test_an_adapter_of_another_model_is_refused_unless_it_is_allowed(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    other = with_config(adapter, tmp_path / "other", base_model_name_or_path="org/Other-1B")
    with pytest.raises(UsageError, match=r"adapter of org/Other-1B, but the model is .*Tiny-Qwen2.*--allow-other-base"):
        merge(str(checkpoint), other, tmp_path / "merged")
    merge(str(checkpoint), other, tmp_path / "merged", allow_other_base=True)
    assert (logits(tmp_path / "merged") - logits(checkpoint, adapter)).abs().max() < LOGITS_FP32


def test_folders_that_are_no_adapter_are_refused(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "run" / "adapter")
    kind = with_config(adapter, tmp_path / "kind", peft_type="PROMPT_TUNING")
    damaged = with_config(adapter, tmp_path / "damaged")
    (damaged / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:-9])
    for folder, message in {
        checkpoint: f"is not a PEFT adapter: it has no {CONFIG}.$",
        tmp_path / "run": f"its adapter is in {tmp_path / 'run' / 'adapter'}",
        kind: "'PROMPT_TUNING'; expected LORA",
        damaged: "has no adapter's weights that can be read",
    }.items():
        with pytest.raises(UsageError, match=message):
            merge(str(checkpoint), folder, tmp_path / "merged")


def test_an_output_that_exists_and_a_source_that_does_not_are_refused(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="exists already"):
        merge(str(checkpoint), adapter, tmp_path)
    with pytest.raises(UsageError, match="There is no checkpoint at ./absent"):
        merge("./absent", adapter, tmp_path / "merged")
    with pytest.raises(UsageError, match="no dtype int4. Expected one of auto, float32"):
        merge(str(checkpoint), adapter, tmp_path / "merged", "int4")


def test_weights_that_are_not_finite_are_not_written(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    diverged = with_tensors(adapter, tmp_path / "diverged", lambda tensors: tensors[FIRST].fill_(torch.nan))
    with pytest.raises(MespError, match="diverged cannot be merged: NaNs"):
        merge(str(checkpoint), diverged, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diverged"]


def test_weights_that_the_type_does_not_hold_are_not_written(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    large = with_tensors(adapter, tmp_path / "large", lambda tensors: tensors[FIRST].fill_(1e6))
    with pytest.raises(MespError, match="would have weights beyond what float16 holds"):
        merge(str(checkpoint), large, tmp_path / "merged", "float16")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_of_codes_is_refused(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    codes = with_tensors(adapter, tmp_path / "codes", lambda t: t.update({FIRST: t[FIRST].to(torch.int8)}))
    with pytest.raises(UsageError, match=r"lora_A\.weight is stored as I8; expected F32, F16, BF16"):
        merge(str(checkpoint), codes, tmp_path / "merged")


def test_a_checkpoint_that_lacks_a_tensor_is_refused_rather_than_filled_with_random_weights(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    untied = shutil.copytree(checkpoint, tmp_path / "Tiny-Qwen2")
    config = json.loads((untied / "config.json").read_text()) | {"tie_word_embeddings": False}
    (untied / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="no tensor lm_head.weight"):
        merge(str(untied), adapter, tmp_path / "merged")


@pytest.mark.parametrize(
    ("name", "origin", "same"),
    [
        (None, "models/SmolLM2-135M-Instruct", True),
        ("", "models/SmolLM2-135M-Instruct", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "dl/smollm2-135m-instruct.Q4_1.gguf", True),
        ("models/Qwen2.5-0.5B-q8_0.gguf", "Qwen/Qwen2.5-0.5B", True),
        ("Qwen2.5-0.5B-f16", "Qwen2.5-0.5B-IQ3_XXS.gguf", True),
        ("cfg/qwen (random weights)", "cfg/qwen/", True),
        ("/cache/models--Qwen--Qwen2.5-0.5B/snapshots/0f3a", "Qwen/Qwen2.5-0.5B", True),
        ("a/checkpoint", "b/checkpoint", True),
        ("unsloth/qwen2.5-0.5b-instruct-unsloth-bnb-4bit", "Qwen/Qwen2.5-0.5B-Instruct", True),
        ("unsloth/Qwen2.5-0.5B-Instruct-bnb-4bit", "Qwen2.5-0.5B-Instruct-UD-Q4_K_XL.gguf", True),
        ("Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-0.5B-Instruct-AWQ", True),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "unsloth/Llama-3.1-8B-Instruct-GGUF", True),
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B-Instruct-2507", False),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", False),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", False),
        ("SmolLM2-135M", "SmolLM2-360M.Q4_1.gguf", False),
        ("Llama-3", "Llama-2", False),
    ],
)
def test_names_of_one_model(name: str | None, origin: str, same: bool) -> None:
    assert same_base(name, origin) is same
