"""What a person can get wrong, through the command line: the exit status, one clear message, and nothing half written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesp.command_line.parser import main
from mesp.export.bundle.lower import Lowered
from mesp.runtime.engine.manifest import FORMAT_VERSION, Needs

from .models import LLAMA, save_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, **LLAMA)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n')
    return path


def refused(capsys: Capture, status: int, message: str, *arguments: str | Path) -> None:
    assert main([str(argument) for argument in arguments]) == status
    error = capsys.readouterr().err
    assert message in error, error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def nothing_written(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def with_config(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the checkpoint whose config.json says something else."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


CONFIGS = {
    "architecture": ({"model_type": "mixtral"}, "Architecture 'mixtral'"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    "rope type": ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "Rope type 'yarn'"),
    "heads": ({"num_key_value_heads": 3}, "4 query heads cannot share 3 key-value heads"),
    "shapes": ({"intermediate_size": 128}, "gate_proj.weight is [96, 64], but its configuration asks for [128, 64]"),
    "dropout": ({"attention_dropout": 0.1}, "attention_dropout 0.1 is not supported: the programs have no dropout"),
    "rope setting": ({"rope_parameters": {"rope_theta": 1e4, "beta_fast": 32}}, "beta_fast = 32"),
    "missing tensors": ({"tie_word_embeddings": False}, "has no tensor lm_head.weight"),
    "group": ({"hidden_size": 48, "head_dim": 32}, "but its configuration asks for"),
}


@pytest.mark.parametrize(("changes", "message"), CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_there_are_no_programs_for(
    checkpoint: Path, tmp_path: Path, capsys: Capture, changes: dict[str, Any], message: str
) -> None:
    folder = with_config(checkpoint, tmp_path / "model", **changes)
    refused(capsys, 2, message, "export", folder, "-o", tmp_path / "bundle", "--seq-len", "8")
    nothing_written(tmp_path, "model")


OPTIONS = {
    "one of several lengths": (["--seq-len", "8,99"], "--seq-len 99"),
    "rank 0": (["--rank", "0"], "--rank 0 is no rank"),
    "negative alpha": (["--alpha", "-1"], "--alpha -1.0 is no scale"),
    "no such target": (["--targets", "q_proj,x_proj"], "no projection x_proj"),
    "no target": (["--targets", ","], "No --targets"),
    "too long": (["--seq-len", "65"], "--seq-len 65 is not between 2 and 64"),
    "too short": (["--seq-len", "1"], "--seq-len 1 is not between"),
    "group": (["--group-size", "64"], "A tile of down_proj has 96 inputs, which int4 cannot split into groups of 64"),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_cannot_be(
    checkpoint: Path, tmp_path: Path, capsys: Capture, options: list[str], message: str
) -> None:
    refused(capsys, 2, message, "export", checkpoint, "-o", tmp_path / "bundle", "--seq-len", "8", *options)
    nothing_written(tmp_path)


def test_no_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, 2, "There is no checkpoint", "export", tmp_path / "absent", "-o", tmp_path / "bundle")
    refused(capsys, 2, "There is no GGUF file", "export", tmp_path / "absent.gguf", "-o", tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    refused(capsys, 2, "has no config.json", "export", tmp_path / "empty", "-o", tmp_path / "bundle")
    nothing_written(tmp_path, "empty")


def test_a_truncated_or_mislabelled_checkpoint(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = with_config(checkpoint, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(capsys, 2, "is not a whole safetensors file", "export", folder, "-o", tmp_path / "bundle", "--seq-len", "8")
    weights.unlink()
    refused(capsys, 2, "lacks model.safetensors", "export", folder, "-o", tmp_path / "bundle", "--seq-len", "8")
    (folder / "config.json").write_text("{")
    refused(capsys, 2, "cannot be read as a model configuration", "export", folder, "-o", tmp_path / "bundle")
    mislabelled = tmp_path / "text.gguf"
    mislabelled.write_text("not a model")
    refused(capsys, 2, "is not a whole GGUF file", "export", mislabelled, "-o", tmp_path / "bundle")
    nothing_written(tmp_path, "model", "text.gguf")


def test_an_output_that_exists(checkpoint: Path, qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "letter.txt").write_text("")
    refused(capsys, 2, "exists already", "export", checkpoint, "-o", tmp_path / "there", "--seq-len", "8")
    refused(capsys, 2, "exists already", "train", qwen2_fp32, "--data", rows, "-o", tmp_path / "there")
    nothing_written(tmp_path / "there", "letter.txt")


def test_a_full_disk(checkpoint: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    # What is lowered beside the writing does not matter here.
    monkeypatch.setattr("mesp.export.bundle.export.lower", lambda programs: Lowered(b"", {}, Needs((), ())))
    refused(capsys, 1, "No space left on device", "export", checkpoint, "-o", tmp_path / "bundle", "--seq-len", "8")
    nothing_written(tmp_path)


@pytest.fixture
def copy(qwen2_fp32: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen2_fp32, tmp_path / "copy"))


def change_byte(bundle: Path) -> None:
    file = bundle / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def change_version(bundle: Path) -> None:
    change_manifest(bundle, lambda manifest: manifest.update(format_version=99))


def change_schedule(bundle: Path) -> None:
    change_manifest(bundle, lambda manifest: manifest["schedules"]["evaluate.13"]["instructions"].pop(0))


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


BUNDLES: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "no manifest": (lambda bundle: (bundle / "manifest.json").unlink(), 2, "is not a bundle"),
    "not JSON": (lambda bundle: (bundle / "manifest.json").write_text("{"), 2, "cannot be read as a bundle's manifest"),
    "a part missing": (lambda bundle: change_manifest(bundle, lambda manifest: manifest.pop("lora")), 2, "is damaged"),
    "newer": (change_version, 2, f"bundle format 99; this version of mesp reads format {FORMAT_VERSION}"),
    "changed byte": (change_byte, 2, "its SHA-256 is not the manifest's"),
    "a file missing": (lambda bundle: (bundle / "program.pte").unlink(), 2, "lacks program.pte"),
    "changed schedule": (change_schedule, 1, "before it has a value"),
}


@pytest.mark.parametrize(("damage", "status", "message"), BUNDLES.values(), ids=BUNDLES)
def test_a_bundle_that_is_not_what_export_wrote(
    copy: Path, rows: Path, tmp_path: Path, capsys: Capture, damage: Callable[[Path], Any], status: int, message: str
) -> None:
    damage(copy)
    refused(capsys, status, message, "train", copy, "--data", rows, "-o", tmp_path / "run")
    refused(capsys, status, message, "inspect", copy)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "name"), [("backends", "VulkanBackend"), ("operators", "aten::fancy.out")])
def test_a_bundle_of_another_library(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: Capture, kind: str, name: str
) -> None:
    bundle = Path(shutil.copytree(qwen2_fp32, tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["needs"][kind].append(name)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert main(["train", str(bundle), "--data", str(rows), "-o", str(tmp_path / "run")]) == 2
    assert f"lacks the {kind[:-1]} {name}" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_what_is_given_for_a_bundle_is_named(
    checkpoint: Path, qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run/run.json", "adapter/adapter_config.json", "empty/notes.txt", "several/one/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"GGUF\x03")
    (tmp_path / "bundle.zip").touch()
    (tmp_path / "text.txt").touch()
    cases = {
        str(checkpoint): f"it is a checkpoint. Make a bundle of it: mesp export {checkpoint} -o BUNDLE",
        "model.bin": "it is a checkpoint. Make a bundle of it: mesp export model.bin -o BUNDLE",
        "run": "it is the folder of a run. Go on with that run: mesp train --resume run",
        "adapter": "it is an adapter. Give the bundle, and the adapter as: --adapter adapter",
        "bundle.zip": "it is an archive. Unpack it",
        "text.txt": "it is a file. Expected a folder that was made with",
        "empty": "it has no manifest.json. Expected a folder that was made with",
        "several": "it holds one. Give one of them.",
        "absent": "there is nothing. Make one with: mesp export CHECKPOINT -o absent",
        "Qwen/Qwen2.5-0.5B": "there is nothing. If it is a model on the Hugging Face Hub: mesp export Qwen/Qwen2.5-0.5B",
    }
    for path, message in cases.items():
        refused(capsys, 2, f"{path} is not a bundle: {message}", "train", path, "--data", rows, "-o", "out")
    assert not (tmp_path / "out").exists()


TRAINING = {
    "steps": (["--steps", "0"], "--steps 0 must be at least 1"),
    "rate": (["--lr", "nan"], "--lr nan"),
    "adapter": (["--adapter", "absent"], "is not a PEFT adapter"),
    "held-out data": (["--eval-data", "absent.txt"], "no data file"),
    "nothing held out": (["--eval-every", "5"], "--eval-every needs rows to evaluate on"),
    "patience without evaluations": (["--patience", "2"], "--patience counts evaluations"),
    "momentum of adamw": (["--momentum", "0.9"], "--momentum is sgd's"),
    "momentum of 1": (["--momentum", "1", "--optimizer", "sgd"], "--momentum 1.0 must be at least 0 and below 1"),
    "no clipping": (["--clip-norm", "0"], "--clip-norm 0.0 must be a number above 0"),
    "half a step": (["--warmup", "1.5"], "--warmup 1.5 must be whole steps, or a fraction below 1"),
    "long warm-up": (["--warmup", "9", "--steps", "4"], "--warmup 9 is longer than the run of 4 steps"),
    "nothing to resume": (["--resume"], "There is no run to resume"),
}


@pytest.mark.parametrize(("options", "message"), TRAINING.values(), ids=TRAINING)
def test_training_that_cannot_begin(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: Capture, options: list[str], message: str
) -> None:
    refused(capsys, 2, message, "train", qwen2_fp32, "--data", rows, "-o", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


ADAPTERS: dict[str, tuple[dict[str, Any], str]] = {
    "rank": ({"r": 8}, "rank 8, but this bundle was exported with rank 4"),
    "dora": ({"use_dora": True}, "options for which it cannot be trained on: use_dora = True"),
    "kind": ({"peft_type": "IA3"}, "the adapter's peft_type is 'IA3'; expected LORA"),
    "bias": ({"bias": "all"}, "bias is 'all': biases are not trained"),
    "weights changed too": ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', by which the model's own weights were changed too"),
    "patterns": ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}}, "alpha_pattern = {'q_proj': 3}, rank_pattern"),
    "biases of its own": ({"lora_bias": True}, "lora_bias = True"),
    "layers again": ({"layer_replication": [[0, 2]]}, "layer_replication = [[0, 2]]"),
    "a later option": ({"use_warp": 1}, "use_warp = 1"),
    "no rank": ({"r": None}, "r is missing, but must be a whole number of 1 to"),
    "no scale": ({"lora_alpha": "8"}, "lora_alpha is '8', but must be a number above 0"),
    "no weights": ({"use_warp": None, "use_dora": False}, "is not a whole safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_that_the_bundle_cannot_train(
    qwen2_fp32: Path, rows: Path, tmp_path: Path, capsys: Capture, changes: dict[str, Any], message: str
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", **changes})
    )
    refused(capsys, 2, message, "train", qwen2_fp32, "--data", rows, "-o", tmp_path / "run", "--adapter", adapter)


def test_wrong_usage_exits_with_2() -> None:
    with pytest.raises(SystemExit) as error:
        main(["export"])
    assert error.value.code == 2
    with pytest.raises(SystemExit) as error:
        main(["export", "model", "-o", "bundle", "--seq-len", "64;128"])
    assert error.value.code == 2
    with pytest.raises(SystemExit) as error:
        main(["train", "b", "-o", "run", "--data", "a.txt", "--eval-data", "b.txt", "--eval-split", "0.1"])
    assert error.value.code == 2
