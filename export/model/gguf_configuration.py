"""The keys of a GGUF file as a transformers configuration.

Every key is used, known to change nothing, or refused by name. What a key means, and what holds where there is none, is llama.cpp's.
"""

from typing import Any

from mesp.runtime.account import Account, check_integer, shown
from mesp.runtime.errors import UsageError

from .gguf_file import GgufFile, GgufHeader, GgufTensor
from .huggingface_folder import reading

ROPE_FACTORS = "rope_freqs.weight"
_LARGEST = 1 << 24
_MOST_LAYERS = 1024
_LLAMA3_ORIGINAL = 8192  # tokens that Llama 3 was trained on at first; a GGUF does not say it

# Keys about the file: names, licenses, how it was quantized and aligned, and what is left of a file that was split and merged again.
_ABOUT_THE_FILE = ("general.*", "quantize.imatrix.*", "split.tensors.count", "split.no")
_ADVICE = "A model with settings that are left out would be computed wrongly: use one without them."


def read_keys(file: GgufHeader) -> tuple[str, Account]:
    """The architecture that a file names, and its other keys to be read.

    Raises:
        UsageError: it names none, or is no whole model.
    """
    account = Account(str(file.path), file.keys)
    if account.take("general.type", "model") != "model":
        raise UsageError(f"{file.path} is no model but of the type {shown(file.keys['general.type'])} (general.type).")
    if account.take("split.count", 1) not in (0, 1):
        raise UsageError(
            f"{file.path} is one part of a model that was split into {shown(file.keys['split.count'])}. Merge them with llama.cpp: "
            "llama-gguf-split --merge FIRST_PART MERGED.gguf"
        )
    if "general.architecture" not in account:
        raise UsageError(f"{file.path} does not say what model it is: it has no general.architecture.")
    architecture = account.text("general.architecture")
    if not file.described:
        raise UsageError(f"{file.path} holds a vocabulary and no weights. Use the file of the whole model.")
    account.ignore(*_ABOUT_THE_FILE)
    return architecture, account


def read_configuration(file: GgufFile, kind: str, model_type: str, account: Account) -> Any:
    """transformers' configuration of a model of this type.

    Args:
        kind, model_type: GGUF's name of it and transformers'
        account: of the file's keys; those of the model are used up

    Raises:
        UsageError: a key that is missing, damaged, or of a model that there are no programs for.
    """
    from transformers import AutoConfig

    def key(name: str) -> str:
        return f"{kind}.{name}"

    def size(name: str, default: int | None = None) -> int:
        return account.integer(key(name), 1, _LARGEST, default)

    if account.take(key("expert_count"), 0) != 0:
        raise UsageError(f"{file.path} is a mixture of experts, such as Mixtral, for which there are no programs.")
    account.expect(key("expert_used_count"), 0, "there are no experts")
    account.expect(key("attention.causal"), True, "the attention programs are causal")
    account.expect(key("use_parallel_residual"), False, "the programs take one sublayer after the other")
    D, H = size("embedding_length"), size("attention.head_count")
    C = size("attention.key_length", D // H)
    account.expect(key("attention.value_length"), C, "keys and values are of one width")
    account.expect(key("rope.dimension_count"), C, "the rotary embedding turns whole heads")
    table = file.tensors.get("token_embd.weight")
    rows = table.shape[0] if table else None
    base = account.number(key("rope.freq_base"), 10000.0)
    ids = {name: account.take(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "eom")}
    ids = {name: value for name, value in ids.items() if isinstance(value, int)}
    ends = list(dict.fromkeys(ids[name] for name in ("eos", "eot", "eom") if name in ids))
    eps = account.number(key("attention.layer_norm_rms_epsilon"))
    values: dict[str, Any] = {
        "num_hidden_layers": account.integer(key("block_count"), 1, _MOST_LAYERS),
        "max_position_embeddings": size("context_length"),
        "hidden_size": D,
        "intermediate_size": size("feed_forward_length"),
        "num_attention_heads": H,
        "vocab_size": size("vocab_size", rows),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "rope_parameters": _rope(file, account, kind, base, C),
        **({"bos_token_id": ids["bos"]} if "bos" in ids else {}),
        **({"eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else {}),
    }
    if kind == "lfm2":
        values |= {"norm_eps": eps, **_lfm2(account, values["num_hidden_layers"])}
    else:
        values |= {"rms_norm_eps": eps, "num_key_value_heads": size("attention.head_count_kv", H)}
    if kind == "gemma3":
        values |= _gemma3(account, values, C)
    if C != D // H or kind in ("qwen3", "gemma3"):  # whose configuration has a width of its own where none is given
        values["head_dim"] = C
    if kind == "llama":  # whose converter writes biases where there are any, and no key
        values["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
        values["mlp_bias"] = "blk.0.ffn_gate.bias" in file.tensors
    with reading(file.path, "a model"):  # what transformers checks itself, as that heads share the width
        return AutoConfig.for_model(model_type, **values)


def _gemma3(account: Account, values: dict[str, Any], width: int) -> dict[str, Any]:
    """What Gemma 3 has of its own: every sixth layer sees all keys. The largest model's scores have a scale of their own, which no key
    tells; it has 62 layers."""
    layers, D, H = (values[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    period = account.integer("gemma3.attention.sliding_window_pattern", 1, _MOST_LAYERS, 6)
    base = account.number("gemma3.rope.freq_base_swa", 10000.0)
    return {
        "sliding_window": account.integer("gemma3.attention.sliding_window", 1, _LARGEST),
        "layer_types": ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(layers)],
        "query_pre_attn_scalar": D // H if layers == 62 else width,
        "rope_parameters": {
            "full_attention": values["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": base},
        },
    }


def _lfm2(account: Account, layers: int) -> dict[str, Any]:
    """What LFM2 has of its own: layers without key-value heads are convolutions, and the feed-forward layer's width is the adjusted one."""
    key = "lfm2.attention.head_count_kv"
    heads = [check_integer(f"{account.where}: {key}", n, 0, _LARGEST) for n in _list(account.take(key))]
    counts = set(heads) - {0}
    if len(heads) != layers or len(counts) != 1:
        raise UsageError(
            f"{account.where}: {key} is {shown(heads)}, expected 0 or one number of heads for each of {layers} layers."
        )
    return {
        "num_key_value_heads": counts.pop(),
        "layer_types": ["full_attention" if n else "conv" for n in heads],
        "conv_L_cache": account.integer("lfm2.shortconv.l_cache", 1, _LARGEST),
        "block_auto_adjust_ff_dim": False,
    }


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _rope(file: GgufFile, account: Account, kind: str, base: float, width: int) -> dict[str, Any]:
    """transformers' rope_parameters. A factor without a type is a linear one."""
    scaling = f"{kind}.rope.scaling"
    factor = account.number(f"{scaling}.factor", account.number(f"{kind}.rope.scale_linear", 1.0))
    type_ = account.text(f"{scaling}.type", "linear")
    if type_ not in ("none", "linear"):
        raise UsageError(f"{file.path}: {scaling}.type {shown(type_)} is not supported. Supported: none, linear.")
    account.ignore(f"{scaling}.original_context_length", f"{scaling}.finetuned")  # of other types
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    if type_ == "linear" and factor != 1:
        parameters |= {"rope_type": "linear", "factor": factor}
    if factors := file.tensors.get(ROPE_FACTORS):
        if parameters["rope_type"] != "default":
            raise UsageError(
                f"{file.path} scales its rotary embedding twice: by {ROPE_FACTORS} and by {scaling}.factor."
            )
        return _llama3(file, factors, parameters, width)
    return parameters


def _llama3(file: GgufFile, tensor: GgufTensor, parameters: dict[str, Any], width: int) -> dict[str, Any]:
    """Llama 3's rope from the factors that its frequencies are divided by.

    A GGUF has the factors and not the four numbers that they were made of, but Llama 3 has one set of three of these, and the largest factor is
    the fourth. transformers' own formula must then give the file's factors.
    """
    import numpy as np
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if tensor.dtype != "F32" or tensor.shape != (width // 2,):
        raise UsageError(
            f"{file.path}: {ROPE_FACTORS} is {tensor.dtype} {list(tensor.shape)}, expected F32 [{width // 2}]."
        )
    factors = torch.from_numpy(file.blocks(tensor).reshape(-1).view(np.float32).copy())
    if bool((factors == 1).all()):
        return parameters
    if not bool((factors.isfinite() & (factors >= 1)).all()):
        raise UsageError(f"{file.path}: {ROPE_FACTORS} has factors below 1, which are not Llama 3's.")
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": parameters["rope_theta"],
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL,
    }
    config = LlamaConfig(head_dim=width, max_position_embeddings=_LLAMA3_ORIGINAL * 2, rope_parameters=llama3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / parameters["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float) / width)
    if not torch.allclose(plain / scaled, factors, rtol=1e-4):
        raise UsageError(
            f"{file.path}: the factors of {ROPE_FACTORS} are not those of Llama 3's rope of factor {llama3['factor']:g}, "
            "and there are no programs for others."
        )
    return llama3


def ignore_tokenizer(account: Account) -> None:
    """Keys of the tokenizer that change no ids: other special tokens than those that are used, and other templates than the default."""
    account.ignore(
        "tokenizer.ggml.*_token_id",
        "tokenizer.ggml.*_token_ids",
        "tokenizer.ggml.token_type_count",
        "tokenizer.chat_template.*",
        "tokenizer.chat_templates",
        "tokenizer.huggingface.json",
    )


def finish(account: Account) -> None:
    """Refuses the keys that are left."""
    account.finish("keys that mesp does not know", _ADVICE)
