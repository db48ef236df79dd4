"""Ten thousand mutated files (`make fuzz`; here a few of them): each is taken or refused with one sentence, by whoever reads it."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.reference.adapter_config import read_adapter_config
from mesp.export.reference.merge import merge
from mesp.runtime.data.dataset import load_data
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.training.adapter_config import read_plain_lora

from .android_golden import TOKENIZERS
from .fuzzing import changed_bytes, changed_json, examples, taken_or_refused
from .gguf_files import tokenizer_keys, write_gguf
from .models import LLAMA, LLAMA3_ROPE, QWEN2, make_model, save_checkpoint
from .test_data import CHATML, save_tokenizer
from .test_merge import save_adapter


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama and a Qwen2 with tokenizers, a GGUF, an adapter, rows."""
    root = tmp_path_factory.mktemp("fuzz")
    save_checkpoint(root / "llama", **{**LLAMA, "rope_parameters": LLAMA3_ROPE})
    save_checkpoint(root / "qwen2", **QWEN2)
    TOKENIZERS["digits"](root / "llama")
    TOKENIZERS["qwen2"](root / "qwen2")
    (root / "gguf").mkdir()
    keys = tokenizer_keys("smollm", json.loads((root / "llama" / "tokenizer.json").read_text()))
    small = {**keys, "tokenizer.ggml.bos_token_id": 0, "llama.vocab_size": 902}
    write_gguf(root / "gguf" / "m.gguf", make_model(**{**LLAMA, "vocab_size": 902}), "Q8_0", keys=small)
    save_tokenizer(root / "tokenizer", template=CHATML)
    for name in ("adapter", "rows"):
        (root / name).mkdir()
    return root


def write(path: Path, value: Any) -> None:
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode(errors="surrogatepass"))


def base(name: str) -> Any:
    """A configuration as transformers writes it."""
    config = make_model(**{"llama": {**LLAMA, "rope_parameters": LLAMA3_ROPE}, "qwen2": QWEN2}[name]).config
    return json.loads(config.to_json_string(use_diff=False))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_configurations(folders: Path, name: str) -> None:
    folder, file = folders / name, folders / name / "config.json"
    original = file.read_bytes()

    @examples(10)
    @given(changed_json(base(name)) | changed_bytes(original))
    def check(changed: Any) -> None:
        write(file, changed)
        taken_or_refused(lambda: open_checkpoint(str(folder)), folders)

    try:
        check()
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize(
    ("name", "file"), [("llama", "tokenizer.json"), ("qwen2", "tokenizer.json"), ("qwen2", "tokenizer_config.json")]
)
def test_tokenizers(folders: Path, name: str, file: str) -> None:
    path = folders / name / file
    checkpoint, original = open_checkpoint(str(folders / name), random_init=True), path.read_bytes()

    @examples(6)
    @given(changed_json(json.loads(original)) | changed_bytes(original))
    def check(changed: Any) -> None:
        write(path, changed)
        taken_or_refused(checkpoint.tokenizer, folders)

    try:
        check()
    finally:
        path.write_bytes(original)


def test_headers_of_gguf_files(folders: Path) -> None:
    path = folders / "gguf" / "m.gguf"
    original = path.read_bytes()
    end = original.index(b"blk.1.")

    @examples(15)
    @given(changed_bytes(original, end) | changed_bytes(original, 700))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        taken_or_refused(lambda: open_checkpoint(str(path)), folders)

    try:
        check()
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("index", [False, True], ids=["header", "index"])
def test_headers_and_indices_of_safetensors(folders: Path, index: bool) -> None:
    folder = folders / "llama"
    weights = folder / "model.safetensors"
    original = weights.read_bytes()
    shard, file = folder / "one.safetensors", folder / "model.safetensors.index.json"
    names = json.loads(original[8 : 8 + int.from_bytes(original[:8], "little")])
    places = {"metadata": {}, "weight_map": {name: shard.name for name in names if name != "__metadata__"}}
    if index:
        weights.rename(shard)

    @examples(4)
    @given(
        changed_json(places) | changed_bytes(json.dumps(places).encode()) if index else changed_bytes(original, 1500)
    )
    def check(changed: Any) -> None:
        write(file if index else weights, changed)
        taken_or_refused(lambda: open_checkpoint(str(folder)), folders)

    try:
        check()
    finally:
        weights.write_bytes(original)
        for path in (shard, file):
            path.unlink(missing_ok=True)


ADAPTER = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "base_model_name_or_path": "org/model",
    "target_modules": ["q_proj", "v_proj"],
    "init_lora_weights": True,
    "use_rslora": False,
    "bias": "none",
    "rank_pattern": {},
    "loftq_config": {},
    "modules_to_save": None,
    "layers_to_transform": [0, 1],
    "runtime_config": {"ephemeral_gpu_offload": False},
}


@pytest.mark.parametrize("read", [read_plain_lora, read_adapter_config])
def test_configurations_of_adapters(folders: Path, read: Callable[[Path], Any]) -> None:
    folder = folders / "adapter"
    (folder / "adapter_config.json").touch()

    @examples(5)
    @given(changed_json(ADAPTER) | changed_bytes(json.dumps(ADAPTER).encode()))
    def check(changed: Any) -> None:
        write(folder / "adapter_config.json", changed)
        taken_or_refused(lambda: read(folder), folders)

    check()


def test_adapters_that_are_merged(folders: Path) -> None:
    adapter = save_adapter(folders / "lora", folders / "qwen2", make_model(**QWEN2))
    file, merged = adapter / "adapter_config.json", folders / "merged"

    def merge_and_remove() -> None:
        merge(str(folders / "qwen2"), adapter, merged, allow_other_base=True)
        shutil.rmtree(merged)

    @examples(1)
    @given(changed_json(json.loads(file.read_text())))
    def check(changed: Any) -> None:
        write(file, changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that PEFT does not know
            taken_or_refused(merge_and_remove, folders)

    check()


@pytest.fixture
def bundle(qwen2_fp32: Path, tmp_path: Path) -> Path:
    """A bundle of links to the original's files, and of one of its schedules: all of them take longer to check."""
    folder = tmp_path / "bundle"
    shutil.copytree(qwen2_fp32, folder, copy_function=os.link)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    write(folder / "manifest.json", {**manifest, "schedules": {"train.sgd.5": manifest["schedules"]["train.sgd.5"]}})
    open_bundle(folder)
    return folder


def test_manifests_of_bundles(bundle: Path) -> None:
    file = bundle / "manifest.json"
    original = file.read_bytes()

    @examples(11)
    @given(changed_json(json.loads(original), most=4000) | changed_bytes(original))
    def check(changed: Any) -> None:
        write(file, changed)
        taken_or_refused(lambda: open_bundle(bundle, verify_files=False), bundle.parent)

    check()


@pytest.mark.parametrize("name", ["weights.safetensors", "adapter.safetensors", "program.pte"])
def test_cut_and_changed_files_of_bundles(bundle: Path, name: str) -> None:
    path = bundle / name
    original = path.read_bytes()
    path.unlink()

    @examples(1)
    @given(changed_bytes(original) | changed_bytes(original, 2000))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        taken_or_refused(lambda: open_bundle(bundle), bundle.parent)
        taken_or_refused(lambda: open_bundle(bundle, verify_files=False), bundle.parent)

    check()


ROWS: dict[str, Any] = {
    "text": {"text": "Who's there?"},
    "completion": {"prompt": "Who's ", "completion": "there?"},
    "messages": {"messages": [{"role": "user", "content": "Who's there?"}, {"role": "assistant", "content": "I."}]},
    "ids": {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "attention_mask": [1, 1, 1]},
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows(folders: Path, kind: str) -> None:
    path = folders / "rows" / "rows.jsonl"
    path.touch()

    @examples(3.5)
    @given(changed_json(ROWS[kind]) | changed_bytes(json.dumps(ROWS[kind]).encode()))
    def check(changed: Any) -> None:
        write(path, changed)
        taken_or_refused(lambda: load_data(path, 8, 400, folders / "tokenizer"), folders)

    check()
