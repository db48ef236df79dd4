"""GGUF files as llama.cpp's converter writes them, of tiny models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesp.export.model.families import read_architecture
from mesp.export.model.gguf_checkpoint import gguf_names

UINT32_MAX = 0xFFFFFFFF


def gguf_kind(config: Any) -> str:
    """What GGUF calls its architecture."""
    return str(config.model_type).removesuffix("_text")


def gguf_keys(config: Any) -> dict[str, Any]:
    """The keys of a model of this transformers configuration."""
    rope, kv = config.rope_parameters, config.num_key_value_heads
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None) or config.norm_eps,
        "rope.freq_base": rope.get("full_attention", rope)["rope_theta"],
        "vocab_size": config.vocab_size,
    }
    if config.model_type == "gemma3_text":
        keys |= {"attention.sliding_window": config.sliding_window, "attention.sliding_window_pattern": 3}
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["full_attention"]["factor"]}
    if config.model_type == "lfm2":
        keys["attention.head_count_kv"] = [kv if name == "full_attention" else 0 for name in config.layer_types]
        keys |= {"shortconv.l_cache": config.conv_L_cache}
    if width := getattr(config, "head_dim", None):
        keys |= {"attention.key_length": width, "attention.value_length": width, "rope.dimension_count": width}
    return {f"{gguf_kind(config)}.{name}": value for name, value in keys.items()}


def write_gguf(
    path: Path,
    model: Any,
    kind: str = "F32",
    keys: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any]] | None = None,
    blocks: Mapping[str, tuple[str, NDArray[np.uint8]]] | None = None,
) -> Path:
    """Writes a model: GGUF's names, a Llama's rotated heads with their halves interleaved, the 1 added to Gemma's norms, and kernels without
    their middle axis.

    Args:
        kind: type of the projections
        keys: more keys, or other values for some; None leaves one out
        tensors: more tensors, or others for some
        blocks: tensors as a type stores them: its name, and bytes by rows
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    config, state = model.config, model.state_dict()
    architecture = gguf_kind(config)
    writer = GGUFWriter(path, architecture)
    for key, value in ({**gguf_keys(config), **(keys or {})}).items():
        add_key(writer, key, value)
    values = {}
    for name, gguf_name in gguf_names(architecture, read_architecture(config)).items():
        values[gguf_name] = state[name].float().numpy()
        if architecture == "gemma3" and "norm" in name:
            values[gguf_name] = values[gguf_name] + 1
        if "conv.conv" in name:
            values[gguf_name] = values[gguf_name][:, 0]
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if projection in name and config.model_type == "llama":
                halves = values[gguf_name].reshape(heads, 2, -1, *values[gguf_name].shape[1:])
                values[gguf_name] = halves.swapaxes(1, 2).reshape(values[gguf_name].shape)
    for name, array in (values | dict(tensors or {})).items():
        whole = np.ascontiguousarray(array)
        if blocks and name in blocks:
            stored_as, data = blocks[name]
            writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[stored_as])
        elif name in values and whole.ndim == 2 and name != "token_embd.weight" and "shortconv.conv" not in name:
            dtype = GGMLQuantizationType[kind]
            writer.add_tensor(name, quantize(whole, dtype), raw_dtype=dtype)
        else:
            writer.add_tensor(name, whole)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_key(writer: Any, key: str, value: Any) -> None:
    """Adds a key by the type of its value; None adds none."""
    if key == "general.architecture":
        writer.kv_data[0][key].value = value
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_uint32 if 0 <= value <= UINT32_MAX else writer.add_int64)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)


def tokenizer_keys(pre: str | None, tokenizer_json: dict[str, Any]) -> dict[str, Any]:
    """The keys of a byte-level tokenizer.json, with two unused tokens after its own."""
    vocabulary = dict.fromkeys(tokenizer_json["model"]["vocab"], 1)
    vocabulary |= {token["content"]: 3 if token["special"] else 4 for token in tokenizer_json["added_tokens"]}
    ids = dict(tokenizer_json["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer_json["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, "[PAD0]", "[PAD1]"],
        "tokenizer.ggml.token_type": [*(vocabulary[token] for token in tokens), 5, 5],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in tokenizer_json["model"]["merges"]],
    }
