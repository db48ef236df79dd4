"""Whether llama.cpp computes with an adapter of ``mesp convert`` what PEFT does. By hand: llama-cpp-python is built from its sources.

    python -m tests.against_llama_cpp FOLDER [CHECKPOINT]        in the project's environment: models, adapters, and PEFT's logits
    python tests/against_llama_cpp.py --compare FOLDER           where llama-cpp-python is

Without a checkpoint, tiny models of four families. Of the tests' Gemma 3 llama.cpp's logits are others already without an adapter, so it shows
nothing of one. Weights, and the cache of keys and values, are fp32 in both.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

ALLOWED = 1e-3  # the largest difference of two logits


def write(folder: Path, model: Any, config_name: str) -> None:
    """A model and an adapter for both, and the logits without and with it."""
    import torch

    from mesp.export.convert.convert import convert

    from .gguf_files import write_gguf
    from .test_merge import save_adapter

    folder.mkdir(parents=True)
    base = folder / "base"
    model.save_pretrained(base)
    vocabulary = model.config.vocab_size
    ids = torch.arange(24)[None] * 37 % (vocabulary - 4) + 4
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "<0x0A>", *(f"t{number}" for number in range(4, vocabulary))],
        "tokenizer.ggml.scores": [0.0] * vocabulary,
        "tokenizer.ggml.token_type": [2, 3, 3, 6] + [1] * (vocabulary - 4),
    }
    write_gguf(folder / "base.gguf", model, keys=keys)
    with torch.inference_mode():
        plain = model(input_ids=ids).logits[0]
    save_adapter(folder / "adapter", base, model, target_modules="all-linear", use_rslora=config_name == "qwen2")
    convert(folder / "adapter", "gguf", folder / "lora.gguf", str(base))
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder / "adapter"
    )
    with torch.inference_mode():
        logits = adapted.eval()(input_ids=ids).logits[0]
    np.savez(folder / "peft.npz", ids=ids[0].numpy(), plain=plain.numpy(), adapted=logits.numpy())


def compare(folder: Path) -> bool:
    """The largest differences of llama.cpp's logits from PEFT's."""
    from llama_cpp import Llama  # type: ignore[import-not-found,unused-ignore]  # of an environment of its own

    theirs, near = np.load(folder / "peft.npz"), True
    for name, lora in (("plain", None), ("adapted", str(folder / "lora.gguf"))):
        options = {"n_ctx": 64, "n_threads": 1, "n_threads_batch": 1, "logits_all": True, "type_k": 0, "type_v": 0}
        model = Llama(str(folder / "base.gguf"), lora_path=lora, verbose=False, **options)
        model.eval(theirs["ids"].tolist())
        ours = np.array(model.scores[: len(theirs["ids"])])
        furthest = np.abs(ours - theirs[name]).max()
        moved = np.abs(theirs["adapted"] - theirs["plain"]).max()
        print(f"{folder.name}, {name}: {furthest:.1e} at most, where the adapter moves logits by up to {moved:.2f}")
        near &= bool(furthest < ALLOWED)
    return near


def main() -> None:
    if sys.argv[1] == "--compare":
        near = [compare(folder) for folder in sorted(Path(sys.argv[2]).iterdir())]
        raise SystemExit(0 if near and all(near) else 1)
    from .models import make_model
    from .test_convert import CONFIGS

    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        from mesp.export.reference.transformers_model import load_base

        write(folder / "checkpoint", load_base(sys.argv[2]).model, "checkpoint")
        return
    for name in ("llama", "qwen2", "qwen3", "lfm2"):
        write(folder / name, make_model(**CONFIGS[name]).float().eval(), name)


if __name__ == "__main__":
    main()
