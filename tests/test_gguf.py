"""GGUF files: every key and tensor is used as llama.cpp does, or refused by name; texts become the ids that the model was trained with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mesp.export.bundle.export import quantized_anew
from mesp.export.export_settings import ExportSettings
from mesp.export.model.architecture import Attention
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.model.families import read_architecture
from mesp.export.model.gguf_tokenizer import WORDS, read_tokenizer
from mesp.runtime.account import Account
from mesp.runtime.errors import UsageError

from .android_golden import TEXTS, TOKENIZERS, random_texts
from .gguf_files import tokenizer_keys, write_gguf
from .models import GEMMA3, LFM2, LLAMA, QWEN2, QWEN3, make_model

MODEL = make_model(**{**LLAMA, "rms_norm_eps": 2.0**-17})  # which GGUF's floats of 32 bits hold exactly
ALPHABET = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]


def frequencies(config: Any) -> tuple[float, ...]:
    attention = read_architecture(config).sublayers[0].middle
    assert isinstance(attention, Attention) and attention.rotary
    return attention.rotary.frequencies


def opened(path: Path, **options: Any) -> Any:
    return open_checkpoint(str(write_gguf(path / "m.gguf", MODEL, **options)))


# --- Types of weights --------------------------------------------------------------------------------------------------

WIDE = make_model(**{**LLAMA, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1, "head_dim": 64})


def scales(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A block's eight scales and eight minima of 6 bits, from the 12 bytes in which Q4_K and Q5_K pack them."""
    low, high, both = rows[:, 0:4], rows[:, 4:8], rows[:, 8:12]
    first = np.concatenate([low & 63, (both & 15) | (low >> 6) << 4], 1)
    second = np.concatenate([high & 63, (both >> 4) | (high >> 6) << 4], 1)
    return first, second


def halves(rows: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(rows[:, at : at + 2]).view(np.float16).astype(np.float64)


def q4_k(rows: np.ndarray) -> Any:
    """llama.cpp's block of 256: d and dmin as fp16, 12 bytes of scales, then nibbles: 32 bytes are the low and the high 32 of 64 weights."""
    scale, minimum = scales(rows[:, 4:16])
    levels = np.stack([rows[:, 16:].reshape(-1, 4, 32) & 15, rows[:, 16:].reshape(-1, 4, 32) >> 4], 2).reshape(
        -1, 8, 32
    )
    return (halves(rows, 0) * scale)[..., None] * levels - (halves(rows, 2) * minimum)[..., None]


def q5_k(rows: np.ndarray) -> Any:
    """As Q4_K, with a fifth bit: bit i of 32 bytes is that of the i-th 32 weights."""
    scale, minimum = scales(rows[:, 4:16])
    fifth = np.stack([(rows[:, 16:48] >> bit) & 1 for bit in range(8)], 1)
    nibbles = rows[:, 48:].reshape(-1, 4, 32)
    levels = np.stack([nibbles & 15, nibbles >> 4], 2).reshape(-1, 8, 32) + 16 * fifth
    return (halves(rows, 0) * scale)[..., None] * levels - (halves(rows, 2) * minimum)[..., None]


def q6_k(rows: np.ndarray) -> Any:
    """128 bytes of low nibbles, 64 of the two high bits, 16 scales of 8 bits, d as fp16. Of each 128 weights, the four 32 share their bytes."""
    low, high = rows[:, :128].reshape(-1, 2, 2, 32), rows[:, 128:192].reshape(-1, 2, 32)
    nibbles = np.concatenate([low & 15, low >> 4], 2)  # [blocks, 2, 4, 32]
    bits = np.stack([(high >> shift) & 3 for shift in (0, 2, 4, 6)], 2)
    levels = (nibbles.astype(np.int64) | bits.astype(np.int64) << 4) - 32
    scale = rows[:, 192:208].view(np.int8).astype(np.float64)
    return (halves(rows, 208) * scale)[..., None] * levels.reshape(-1, 16, 16)


K_TYPES = {"Q4_K": (144, (0, 2), q4_k), "Q5_K": (176, (0, 2), q5_k), "Q6_K": (210, (208,), q6_k)}


def random_blocks(kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Bytes by rows of [out, in] weights, whose scales are small numbers."""
    size, places, _ = K_TYPES[kind]
    rows = np.random.default_rng(len(kind) + shape[0]).integers(0, 256, (shape[0] * shape[1] // 256, size), np.uint8)
    for place in places:
        rows[:, place : place + 2] = np.linspace(1e-3, 2e-3, len(rows)).astype(np.float16).view(np.uint8).reshape(-1, 2)
    return rows.reshape(shape[0], -1)


def test_a_file_of_mixed_types_is_read_as_llama_cpp_writes_it(tmp_path: Path) -> None:
    """As Q4_K_M: some matrices have more bits than others."""
    kinds = {"ffn_gate": "Q4_K", "ffn_up": "Q5_K", "ffn_down": "Q6_K", "attn_output": "Q4_K"}
    names = {
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_output": "self_attn.o_proj",
    }
    state, blocks, expected = WIDE.state_dict(), {}, {}
    for name, kind in kinds.items():
        shape = tuple(state[f"model.layers.0.{names[name]}.weight"].shape)
        stored = random_blocks(kind, (shape[0], shape[1]))
        blocks[f"blk.0.{name}.weight"] = (kind, stored)
        expected[names[name]] = K_TYPES[kind][2](stored.reshape(-1, K_TYPES[kind][0])).reshape(shape)
    found = open_checkpoint(str(write_gguf(tmp_path / "m.gguf", WIDE, "Q8_0", blocks=blocks)))
    for name, values in expected.items():
        rows = found.rows(f"model.layers.0.{name}.weight").numpy()
        assert np.abs(rows - values).max() < 1e-6 * np.abs(values).max()
        assert np.array_equal(found.rows(f"model.layers.0.{name}.weight", 3, 8).numpy(), rows[3:8])
    assert found.quantized == {"Q8_0": 3, "Q4_K": 2, "Q5_K": 1, "Q6_K": 1}
    note = quantized_anew(found.quantized, ExportSettings())
    assert note and "Q8_0 (3), Q4_K (2), Q5_K (1), Q6_K (1) were dequantized, and quantized to int4 anew" in note


@pytest.mark.parametrize(
    ("kind", "weights", "group", "anew"),
    [
        ("Q4_0", "int4", 32, False),
        ("Q4_1", "int4", 32, False),
        ("Q4_1", "int4", 64, True),
        ("Q8_0", "int8", 32, True),
        ("Q8_0", "fp32", 32, False),
        ("F16", "int4", 32, False),
    ],
)
def test_what_is_quantized_twice_is_told(tmp_path: Path, kind: str, weights: str, group: int, anew: bool) -> None:
    quantized = opened(tmp_path, kind=kind).quantized
    note = quantized_anew(quantized, ExportSettings(weights=weights, group_size=group))
    assert (note is not None) == anew


# --- What changes the maths -------------------------------------------------------------------------------------------


def llama3_factors(theta: float, width: int, factor: float) -> np.ndarray:
    """What Llama 3's frequencies are divided by, as its paper's code has it: by the wavelength, in turns of the 8,192 tokens before."""
    factors = []
    for pair in range(width // 2):
        turns = 8192 / (2 * np.pi * theta ** (2 * pair / width))
        blend = (turns - 1) / (4 - 1)
        factors.append(1.0 if turns > 4 else factor if turns < 1 else 1 / ((1 - blend) / factor + blend))
    return np.array(factors, np.float32)


@pytest.mark.parametrize(("factor", "width"), [(8.0, 32), (32.0, 64), (8.0, 128)])
def test_the_rope_factors_of_llama_3_are_its_rope(tmp_path: Path, factor: float, width: int) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = make_model(**{**LLAMA, "head_dim": width, "max_position_embeddings": 16384, "rope_parameters": rope})
    stored = {"rope_freqs.weight": llama3_factors(500000.0, width, factor)}
    found = open_checkpoint(str(write_gguf(tmp_path / "m.gguf", model, tensors=stored)))
    assert frequencies(found.config) == pytest.approx(frequencies(model.config), rel=1e-6)
    plain = open_checkpoint(
        str(write_gguf(tmp_path / "p.gguf", model, tensors={"rope_freqs.weight": np.ones(width // 2, np.float32)}))
    )
    assert frequencies(plain.config)[-1] == pytest.approx(frequencies(model.config)[-1] * factor, rel=1e-6)


@pytest.mark.parametrize(
    ("keys", "divisor"),
    [
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, 4),
        ({"llama.rope.scaling.factor": 4.0}, 4),
        ({"llama.rope.scale_linear": 2.0}, 2),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, 1),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.original_context_length": 32}, 1),
    ],
)
def test_a_linear_rope_is_divided_by_its_factor(tmp_path: Path, keys: dict[str, Any], divisor: int) -> None:
    found = frequencies(opened(tmp_path, keys=keys).config)
    assert found == pytest.approx([value / divisor for value in frequencies(MODEL.config)], rel=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {**LLAMA, "attention_bias": True, "mlp_bias": True},
        {**QWEN2, "tie_word_embeddings": False},
        {**QWEN2, "head_dim": 32},
        QWEN3,
        {**QWEN3, "head_dim": 16},
        {**GEMMA3, "query_pre_attn_scalar": 32, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
        {**LFM2, "norm_eps": 2.0**-17, "block_auto_adjust_ff_dim": False},
    ],
    ids=["llama", "biases", "qwen2", "wide-heads", "qwen3", "qwen3-with-heads-of-the-usual-width", "gemma3", "lfm2"],
)
def test_a_gguf_is_the_model_that_it_was_converted_from(tmp_path: Path, config: dict[str, Any]) -> None:
    model = make_model(**config if "norm_eps" in config else {**config, "rms_norm_eps": 2.0**-17})
    found = open_checkpoint(str(write_gguf(tmp_path / "m.gguf", model)))
    assert read_architecture(found.config) == read_architecture(model.config)
    for name, shape in read_architecture(model.config).tensors():
        assert found.rows(name).shape == shape
        assert torch.equal(found.rows(name), model.state_dict()[name]), name


# --- What is refused by name ------------------------------------------------------------------------------------------

KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "no architecture's number": ({"llama.block_count": None}, "llama.block_count is missing"),
    "mixture of experts": ({"llama.expert_count": 8, "llama.expert_used_count": 2}, "is a mixture of experts, such as Mixtral"),
    "yarn": ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "rope.scaling.type 'yarn' is not supported"),
    "longrope": ({"llama.rope.scaling.type": "longrope"}, "'longrope' is not supported"),
    "window": ({"llama.attention.sliding_window": 16}, "keys that mesp does not know: llama.attention.sliding_window = 16"),
    "softcap": ({"llama.attn_logit_softcapping": 50.0}, "llama.attn_logit_softcapping = 50.0"),
    "scale": ({"llama.logit_scale": 16.0, "llama.embedding_scale": 12.0}, "llama.embedding_scale = 12.0, llama.logit_scale = 16.0"),
    "not causal": ({"llama.attention.causal": False}, "llama.attention.causal is False: the attention programs are causal"),
    "half a head": ({"llama.rope.dimension_count": 16}, "rope.dimension_count is 16: the rotary embedding turns whole heads"),
    "values of another width": ({"llama.attention.value_length": 64}, "value_length is 64: keys and values are of one width"),
    "heads by layer": ({"llama.attention.head_count_kv": [2, 1]}, "head_count_kv is [2, 1], but must be a whole number"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count is 0, but must be a whole number of 1"),
    "layers as text": ({"llama.block_count": "2"}, "llama.block_count is '2', but must be a whole number"),
    "more layers": ({"llama.block_count": 3}, "has no tensor model.layers.2"),
    "not a number": ({"llama.rope.freq_base": float("nan")}, "llama.rope.freq_base is nan"),
    "an adapter": ({"general.type": "adapter"}, "is no model but of the type 'adapter'"),
    "split": ({"split.no": 0, "split.count": 3}, "is one part of a model that was split into 3. Merge them with llama.cpp"),
    "another architecture": ({"general.architecture": "gemma2"}, "Architecture 'gemma2' in"),
    "a new key": ({"tokenizer.ggml.byte_mapping": "x"}, "tokenizer.ggml.byte_mapping = 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), KEYS.values(), ids=KEYS)
def test_a_key_that_is_not_understood(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        opened(tmp_path, keys=keys)
    assert message in str(error.value)


TENSORS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "norms of heads": ({"blk.0.attn_q_norm.weight": np.ones(32, np.float32)}, "tensors that mesp does not know: blk.0.attn_q_norm.weight"),
    "a bias of the head": ({"output.bias": np.ones(97, np.float32)}, "output.bias"),
    "factors of longrope": ({"rope_factors_long.weight": np.ones(16, np.float32)}, "rope_factors_long.weight"),
    "factors that are not Llama 3's": ({"rope_freqs.weight": np.linspace(1, 9, 16, dtype=np.float32)}, "are not those of Llama 3's rope"),
    "factors of another width": ({"rope_freqs.weight": np.ones(8, np.float32)}, "rope_freqs.weight is F32 [8], expected F32 [16]"),
    "codes": ({"blk.0.attn_norm.weight": np.ones(64, np.int8)}, "model.layers.0.input_layernorm.weight is stored as I8"),
    "another shape": ({"blk.0.attn_norm.weight": np.ones(32, np.float32)}, "is [32], but its configuration asks for [64]"),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_is_not_understood(tmp_path: Path, tensors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError) as error:
        opened(tmp_path, tensors=tensors)
    assert message in str(error.value)


def with_byte(data: bytes, after: bytes, place: int, value: int) -> bytes:
    """With another byte at a place after a name."""
    at = data.index(after) + len(after) + place
    return data[:at] + bytes([value]) + data[at + 1 :]


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is not a whole GGUF file"),
    "cut": (lambda data: data[:-100], "ends at byte"),
    "cut in the keys": (lambda data: data[:200], "tells of more than it has"),
    "text": (lambda data: b"not a model", "begins with b'not '"),
    "pointer": (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "big-endian": (lambda data: data[:4] + data[4:8][::-1] + data[8:], "little-endian"),
    "endless": (lambda data: data[:16] + b"\xff" * 8 + data[24:], "is not a whole GGUF file"),
    "a key twice": (lambda data: data.replace(b"llama.rope.freq_base", b"general.architecture"), "the key general.architecture is there twice"),
    "an unknown type": (lambda data: with_byte(data, b"token_embd.weight", 4 + 16, 255), "number 255, is not one"),
    "a dimension of 2^64": (lambda data: with_byte(data, b"token_embd.weight", 4 + 15, 255), "ends at byte"),
    "5 dimensions": (lambda data: with_byte(data, b"token_embd.weight", 0, 5), "has 5 dimensions"),
    "no text": (lambda data: data.replace(b"llama.block_count", b"llama.block_coun\xff"), "is not a whole GGUF file"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_not_whole(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", MODEL)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError) as error:
        open_checkpoint(str(path))
    assert message in str(error.value)


def test_a_vocabulary_without_weights_and_a_file_without_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    whole = write_gguf(path, MODEL).read_bytes()
    path.write_bytes(whole[:8] + bytes(8) + whole[16:])
    with pytest.raises(UsageError, match="holds a vocabulary and no weights"):
        open_checkpoint(str(path))
    path.write_bytes(whole.replace(b"general.architecture", b"general.architectura", 1))
    with pytest.raises(UsageError, match=r"does not say what model it is: it has no general\.architecture"):
        open_checkpoint(str(path))


@pytest.mark.parametrize("name", ["M.GGUF", "sha256-74701a8c35f6c8d9a4b91f3f3497643001d63e0c7a84e085bed452548fa88d45"])
def test_a_gguf_is_known_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / name, MODEL)
    assert read_architecture(open_checkpoint(str(path)).config) == read_architecture(MODEL.config)


# --- Tokenizers -------------------------------------------------------------------------------------------------------

# Tokenizers whose parts are those of the models' own tokenizer.json, and what llama.cpp calls their way to cut words.
SAME = {"digits": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2", "byte_level": "gpt-2"}


def made(keys: dict[str, Any], rows: int = 10_000) -> Any:
    return read_tokenizer(Account("m.gguf", {name: value for name, value in keys.items() if value is not None}), rows)


@pytest.mark.parametrize("name", SAME)
def test_texts_become_the_ids_of_the_models_own_tokenizer(tmp_path: Path, name: str) -> None:
    from tokenizers import Tokenizer

    TOKENIZERS[name](tmp_path)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    keys = tokenizer_keys(SAME[name], json.loads((tmp_path / "tokenizer.json").read_text()))
    found = made({**keys, "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 2})
    for text in (*TEXTS, *random_texts()):
        assert found(text, verbose=False)["input_ids"] == own.encode(text).ids, text
    found.save_pretrained(tmp_path / "saved")
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(TEXTS, verbose=False)["input_ids"] == found(TEXTS, verbose=False)["input_ids"]
    assert again.eos_token_id == 2


def small(pre: str | None, *words: str, **more: Any) -> Any:
    """A tokenizer of all bytes and some words, whose merges make them from the left."""
    from tokenizers import pre_tokenizers

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
    tokens.append("<|end|>")
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [*[1] * (len(tokens) - 1), 3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(tokens) - 1,
    }
    return made({**keys, **{f"tokenizer.ggml.{name}": value for name, value in more.items()}})


CUTS = {
    "smollm": ["Ċ", "Ċ", "1", "0", ".", "Ġ", "2", "0", "2", "4", "ĠI", "'", "L", "L"],
    "gpt-2": ["Ċ", "Ċ", "10", ".", "Ġ2024", "ĠI", "'", "L", "L"],
    "llama-bpe": ["<|end|>", "Ċ", "Ċ", "10", ".", "Ġ", "202", "4", "ĠI", "'LL"],
    "qwen2": ["Ċ", "Ċ", "1", "0", ".", "Ġ", "2", "0", "2", "4", "ĠI", "'LL"],
    "tekken": ["<|end|>", "Ċ", "Ċ", "1", "0", ".", "Ġ", "2", "0", "2", "4", "ĠI", "'LL"],
}


@pytest.mark.parametrize("pre", CUTS)
def test_numbers_are_cut_as_the_name_says(pre: str) -> None:
    tokenizer = small(pre, "10", "Ġ2024", "202", "ĠI", "'LL")
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n10. 2024 I'LL")["input_ids"]) == CUTS[pre]


def test_llama_3_takes_a_word_that_is_a_token_without_merging_it() -> None:
    for pre, expected in (("llama-bpe", ["<|end|>", "abc"]), ("dbrx", ["a", "bc"])):
        tokenizer = small(pre, "bc", "abc", merges=["b c"])
        assert tokenizer.convert_ids_to_tokens(tokenizer("abc")["input_ids"]) == expected


def test_the_files_own_word_on_bos_and_eos_counts() -> None:
    assert small("llama-bpe", add_bos_token=False)("a")["input_ids"] == small("smollm")("a")["input_ids"]
    end = 256
    assert small("smollm", add_bos_token=True, add_eos_token=True, eos_token_id=end)("")["input_ids"] == [end, end]


TOKENIZER_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown way": ({"pre": "bloom"}, "how its tokenizer cuts words is 'bloom' (tokenizer.ggml.pre), which is not known here"),
    "the default way": ({"pre": "default"}, "is 'default'"),
    "no way": ({"pre": None}, "cuts words is missing"),
    "another kind": ({"model": "t5"}, "a tokenizer of the kind 't5'"),
    "no merges": ({"merges": None}, "no list of merges"),
    "merges of nothing": ({"merges": ["x qqq"]}, "Token `qqq` out of vocabulary"),
    "a merge of one": ({"merges": ["x"]}, "is not of two tokens"),
    "types of some": ({"token_type": [1, 1]}, "has not one number for each"),
    "no such end": ({"eos_token_id": 999}, "eos_token_id is 999, but must be a whole number of 0 to 256"),
    "an end that is a word": ({"eos_token_id": 5}, "an ordinary token and none that ends texts"),
    "a beginning without a token": ({"bos_token_id": None, "add_bos_token": True}, "puts a token around texts that it does not have"),
    "a separator": ({"add_sep_token": True}, "add_sep_token is True"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), TOKENIZER_FAULTS.values(), ids=TOKENIZER_FAULTS)
def test_a_tokenizer_whose_ids_are_not_known_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        small(**{"pre": "smollm", **changes})
    assert message in str(error.value)


def test_tokens_twice_or_beyond_the_embedding_are_refused() -> None:
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": []}
    with pytest.raises(UsageError, match="the same text"):
        made({**keys, "tokenizer.ggml.tokens": ["a", "a"]})
    with pytest.raises(UsageError, match="3 tokens, but its embedding has 2 rows"):
        made({**keys, "tokenizer.ggml.tokens": ["a", "b", "c"]}, rows=2)


def test_padding_that_is_a_word_is_no_special_token() -> None:
    assert small("smollm", padding_token_id=0).pad_token is None


def sentencepiece(scores: tuple[float, ...] = (-1.0, -2.0, -3.0), **more: Any) -> Any:
    """A vocabulary of bytes, letters, and "ab", "bc" and "▁the"."""
    words = ["ab", "bc", "▁t", "▁th", "▁the"]
    tokens = ["<unk>", "<s>", "</s>", *ALPHABET, *words]
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [*[0.0] * (len(tokens) - len(words)), *scores, -4.0, -5.0],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
    }
    return made({**keys, **{f"tokenizer.ggml.{name}": value for name, value in more.items()}})


def test_a_sentencepiece_vocabulary_is_merged_by_its_scores() -> None:
    def tokens(tokenizer: Any, text: str) -> list[str]:
        return list(tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))

    assert tokens(sentencepiece(), "the abc") == ["<s>", "▁the", "▁", "ab", "c"]
    assert tokens(sentencepiece((-2.0, -1.0, -3.0)), "the abc") == ["<s>", "▁the", "▁", "a", "bc"]
    assert tokens(sentencepiece(add_space_prefix=False, add_bos_token=False), "ab the") == ["ab", "▁the"]
    assert tokens(sentencepiece(), "é</s>a") == ["<s>", "▁", "<0xC3>", "<0xA9>", "</s>", "▁", "a"]
    whole = sentencepiece()
    assert whole.decode(whole("the é in")["input_ids"], skip_special_tokens=True) == "the é in"
    with pytest.raises(UsageError, match="has not one number for each token"):
        sentencepiece((1.0,))


def test_the_names_of_the_table_make_a_tokenizer_each() -> None:
    for pre in WORDS:
        assert small(pre)("a b1", add_special_tokens=False)["input_ids"]
