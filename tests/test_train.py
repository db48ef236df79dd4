"""Training a bundle: against PyTorch's own optimizers, reproducibly, with the files of the contract."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mesp.export.verify import attach_lora, reference_model
from mesp.runtime import adapter as peft_format
from mesp.runtime.bundle import ADAPTER, Bundle, open_bundle
from mesp.runtime.errors import MespError
from mesp.runtime.optimizer import Name
from mesp.runtime.train import TrainSettings, train

from .checks import assert_close
from .tolerances import GRADIENT_FP32, TRAINING_LOSS

STEPS = 12


def write_rows(path: Path, rows: int, vocabulary: int = 97) -> list[dict[str, list[int]]]:
    """Rows of different lengths, some longer than the sequence, the first labels of each masked."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for row in range(rows):
        ids = torch.randint(vocabulary, (6 + row % 11,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return made


def pytorch_losses(bundle: Bundle, rows: list[dict[str, list[int]]], optimizer: Name, lr: float) -> Iterator[float]:
    """transformers' model with the bundle's weights, its loss of labels, and torch.optim."""
    lora = bundle.manifest.lora
    start = torch.zeros(lora.layers, lora.layer_elements)
    peft_format.read_adapter(bundle.path / ADAPTER, lora, start)
    model = reference_model(bundle)
    leaves = attach_lora(model, lora, start, lora.alpha / lora.rank)
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    stepper = kind(leaves.values(), lr=lr, weight_decay=0.01)
    for row in rows:
        cut = slice(0, bundle.manifest.tokens + 1)
        loss = model(input_ids=torch.tensor([row["input_ids"][cut]]), labels=torch.tensor([row["labels"][cut]])).loss
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        yield loss.item()


def settings(data: Path, optimizer: Name, lr: float, **options: Any) -> TrainSettings:
    return TrainSettings(data, optimizer=optimizer, lr=lr, weight_decay=0.01, shuffle=False, steps=STEPS, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("fixture", ["qwen2_fp32", "llama_int4"])
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.3), ("adamw", 0.02)])
def test_losses_are_pytorchs(
    fixture: str, optimizer: Name, lr: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle = open_bundle(request.getfixturevalue(fixture))
    rows = write_rows(tmp_path / "rows.jsonl", STEPS)
    train(bundle.path, tmp_path / "run", settings(tmp_path / "rows.jsonl", optimizer, lr))
    ours = [line["loss"] for line in lines(tmp_path / "run" / "steps.jsonl")]
    reference = list(pytorch_losses(bundle, rows, optimizer, lr))
    assert ours == pytest.approx(reference, abs=TRAINING_LOSS)
    assert max(ours) - min(ours) > 100 * TRAINING_LOSS  # the losses moved, so the agreement says something


def test_two_runs_are_equal_and_the_folder_holds_the_contract(qwen2_fp32: Path, tmp_path: Path) -> None:
    data, held_out = tmp_path / "rows.jsonl", tmp_path / "held_out.jsonl"
    write_rows(data, 7)
    write_rows(held_out, 3)
    chosen = TrainSettings(data, eval_data=held_out, steps=STEPS, lr=0.02)
    reports = [train(qwen2_fp32, tmp_path / name, chosen) for name in ("one", "two")]
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "adapter/adapter_model.safetensors").read_bytes() == (
        two / "adapter/adapter_model.safetensors"
    ).read_bytes()
    assert [line["loss"] for line in lines(one / "steps.jsonl")] == [
        line["loss"] for line in lines(two / "steps.jsonl")
    ]
    report = json.loads((one / "report.json").read_text())
    assert report == json.loads(json.dumps(reports[0]))
    assert report["steps"] == STEPS and report["eval_loss_after"] < report["eval_loss_before"]
    assert report["memory"].keys() >= {
        "baseline_footprint_bytes",
        "peak_footprint_bytes",
        "delta_footprint_bytes",
        "vm_hwm_bytes",
        "samples",
        "longest_gap_seconds",
        "major_faults",
    }
    steps, samples = lines(one / "steps.jsonl"), lines(one / "memory.jsonl")
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert steps[0].keys() == {"step", "loss", "lr", "grad_norm", "tokens", "seconds", "peak_footprint_bytes"}
    assert {sample["phase"].rstrip("01 ") for sample in samples} >= {
        "load",
        "embed",
        "forward",
        "head",
        "backward",
        "update",
    }
    assert max(sample["footprint_bytes"] for sample in samples) == report["memory"]["peak_footprint_bytes"]
    page = (one / "report.html").read_text()
    assert page.count("<svg") == 3 and "src=" not in page and "Held-out loss" in page
    assert json.loads((one / "run.json").read_text())["settings"]["lr"] == 0.02


def test_the_adapter_loads_in_peft_with_the_same_loss(qwen2_fp32: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    data = tmp_path / "rows.jsonl"
    rows = write_rows(data, 4)
    report = train(qwen2_fp32, tmp_path / "run", TrainSettings(data, eval_data=data, steps=8, lr=0.05))
    base = AutoModelForCausalLM.from_pretrained(qwen2_fp32.parent / "checkpoint", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, tmp_path / "run" / "adapter").eval()
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        targets = sum(label != -100 for label in row["labels"][1:])
        total, count = total + loss.item() * targets, count + targets
    assert report["eval_loss_after"] == pytest.approx(total / count, abs=TRAINING_LOSS)


def test_training_goes_on_from_a_peft_adapter(qwen2_fp32: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    write_rows(data, STEPS)
    train(qwen2_fp32, tmp_path / "first", settings(data, "sgd", 0.3))
    adapter = tmp_path / "first" / "adapter"
    second = train(
        qwen2_fp32,
        tmp_path / "second",
        TrainSettings(data, eval_data=data, adapter=adapter, steps=1, optimizer="sgd", lr=0.0),
    )
    first = train(qwen2_fp32, tmp_path / "third", TrainSettings(data, eval_data=data, steps=1, optimizer="sgd", lr=0.0))
    assert second["eval_loss_before"] < first["eval_loss_before"]
    bundle = open_bundle(qwen2_fp32)
    kept = torch.zeros(bundle.manifest.lora.layers, bundle.manifest.lora.layer_elements)
    scale = peft_format.read_peft(tmp_path / "second" / "adapter", bundle.manifest.lora, kept)
    before = torch.zeros_like(kept)
    assert peft_format.read_peft(adapter, bundle.manifest.lora, before) == scale == 2.0
    assert_close(kept, before, GRADIENT_FP32, "a step with lr 0 leaves the adapter as it is")


def test_an_adapter_that_cannot_be_written_is_a_failure_with_a_message(qwen2_fp32: Path, tmp_path: Path) -> None:
    lora = open_bundle(qwen2_fp32).manifest.lora
    with pytest.raises(MespError, match="Could not write"):
        peft_format.write_adapter(
            tmp_path / "absent" / "adapter.safetensors", lora, torch.zeros(lora.layers, lora.layer_elements)
        )


def test_memory_over_idle_covers_what_the_run_holds(qwen2_fp32: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    write_rows(data, 3)
    report = train(qwen2_fp32, tmp_path / "run", TrainSettings(data))
    bundle = open_bundle(qwen2_fp32)
    held = 3 * bundle.manifest.lora.nbytes + bundle.manifest.schedules["train.adamw"].arena.nbytes
    assert report["memory"]["delta_footprint_bytes"] >= held
    assert (
        report["memory"]["vm_hwm_bytes"]
        >= report["memory"]["peak_footprint_bytes"] - report["memory"]["baseline_footprint_bytes"]
    )
