"""Training a bundle: against PyTorch's own optimizers and schedules, reproducibly, with the files of the contract."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.export.reference.transformers_model import reference_model
from mesp.export.reference.verify import attach_lora
from mesp.runtime.engine.bundle import ADAPTER, Bundle, open_bundle
from mesp.runtime.training import adapter as peft_format
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings

from .checks import assert_close
from .conftest import FAMILY_BUNDLES
from .models import lora_config
from .tolerances import GRADIENT_FP32, LONG_TRAINING_LOSS, TRAINING_LOSS

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


def cut(row: list[int], bundle: Bundle) -> Tensor:
    return torch.tensor([row[: bundle.manifest.tokens + 1]])


def pytorch_losses(bundle: Bundle, rows: list[dict[str, list[int]]], optimizer: Any) -> Iterator[float]:
    """transformers' model with the bundle's weights, its loss of labels, and torch.optim."""
    lora = bundle.manifest.lora
    start = torch.zeros(lora.elements)
    peft_format.read_adapter(bundle.path / ADAPTER, lora, start)
    model = reference_model(bundle)
    leaves = attach_lora(model, lora, start, lora.alpha / lora.rank)
    stepper = optimizer(leaves.values())
    for row in rows:
        loss = model(input_ids=cut(row["input_ids"], bundle), labels=cut(row["labels"], bundle)).loss
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        yield loss.item()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Small rates: at large ones the last bits of the first steps, which differ between processors, are a part of the last losses.
OPTIMIZERS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": ({"optimizer": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01)),
    "momentum": (
        {"optimizer": "sgd", "momentum": 0.9, "lr": 0.03},
        lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, weight_decay=0.01),
    ),
    "adamw": ({"lr": 0.01}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01)),
}


@pytest.mark.parametrize("fixture", ["qwen2_fp32", "llama_int4"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kept", [False, True], ids=["lean", "kept"])
def test_losses_are_pytorchs(
    fixture: str, optimizer: str, kept: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With the update applied as gradients arrive, and with all gradients kept, which a limit that is never reached asks for."""
    bundle = open_bundle(request.getfixturevalue(fixture))
    rows = write_rows(tmp_path / "rows.jsonl", STEPS)
    chosen, reference = OPTIMIZERS[optimizer]
    settings = TrainSettings(
        tmp_path / "rows.jsonl", weight_decay=0.01, shuffle=False, clip_norm=1e9 if kept else None, **chosen
    )
    train(bundle.path, tmp_path / "run", settings)
    ours = [line["loss"] for line in lines(tmp_path / "run" / "steps.jsonl")]
    assert ours == pytest.approx(list(pytorch_losses(bundle, rows, reference)), abs=TRAINING_LOSS)
    assert max(ours) - min(ours) > 100 * TRAINING_LOSS  # the losses moved, so the agreement says something


@pytest.mark.parametrize("fixture", ["qwen3_int8", *sorted(FAMILY_BUNDLES)])
def test_twenty_steps_of_adamw_are_pytorchs(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bundle = open_bundle(request.getfixturevalue(fixture))
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    train(
        bundle.path, tmp_path / "run", TrainSettings(tmp_path / "rows.jsonl", weight_decay=0.01, shuffle=False, lr=0.01)
    )
    ours = [line["loss"] for line in lines(tmp_path / "run" / "steps.jsonl")]
    reference = list(pytorch_losses(bundle, rows, OPTIMIZERS["adamw"][1]))
    assert len(ours) == 20 and ours == pytest.approx(reference, abs=LONG_TRAINING_LOSS)
    assert max(ours) - min(ours) > 100 * LONG_TRAINING_LOSS


def peft_losses(bundle: Bundle, rows: list[dict[str, list[int]]], steps: int, size: int) -> Iterator[tuple[float, ...]]:
    """(loss, learning rate, norm) of PEFT's own LoRA layers with AdamW, transformers' cosine schedule with warm-up, and clipping.

    The loss of a step is the mean over the targets of all its rows, as transformers' Trainer has it.
    """
    from peft import get_peft_model
    from transformers import get_cosine_schedule_with_warmup

    lora = bundle.manifest.lora
    model = get_peft_model(reference_model(bundle), lora_config(lora))
    parameters = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    start = torch.zeros(lora.elements)
    peft_format.read_adapter(bundle.path / ADAPTER, lora, start)
    with torch.no_grad():
        for name, tensor in peft_format.named(lora, start).items():
            parameters[name].copy_(tensor)
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.02, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, 5, steps)
    for first in range(0, steps * size, size):
        batch = [rows[place % len(rows)] for place in range(first, first + size)]
        targets = sum(int((cut(row["labels"], bundle)[0, 1:] != -100).sum()) for row in batch)
        optimizer.zero_grad()
        total = 0.0
        for row in batch:
            loss = model(
                input_ids=cut(row["input_ids"], bundle), labels=cut(row["labels"], bundle), num_items_in_batch=targets
            ).loss
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 0.5)
        yield total, schedule.get_last_lr()[0], float(norm)
        optimizer.step()
        schedule.step()


def test_fifty_steps_with_everything_on_are_pytorchs_and_pefts(qwen2_fp32: Path, tmp_path: Path) -> None:
    """AdamW, cosine schedule, warm-up, accumulation of four rows of different lengths and targets, and clipping that takes hold."""
    bundle = open_bundle(qwen2_fp32)
    rows = write_rows(tmp_path / "rows.jsonl", 22)
    settings = TrainSettings(
        tmp_path / "rows.jsonl",
        steps=50,
        lr=0.02,
        shuffle=False,
        schedule="cosine",
        warmup=0.1,
        grad_accumulation=4,
        clip_norm=0.5,
        weight_decay=0.01,
    )
    train(qwen2_fp32, tmp_path / "run", settings)
    ours = lines(tmp_path / "run" / "steps.jsonl")
    losses, rates, norms = zip(*peft_losses(bundle, rows, 50, 4), strict=True)
    assert [line["lr"] for line in ours] == pytest.approx(rates, rel=1e-9)
    assert [line["loss"] for line in ours] == pytest.approx(losses, abs=LONG_TRAINING_LOSS)
    assert [line["grad_norm"] for line in ours] == pytest.approx(norms, rel=LONG_TRAINING_LOSS)
    assert max(norms) > 1.0 and losses[0] - losses[-1] > 0.5  # clipping took hold, and the model learned


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
    assert report["step_major_faults_median"] is not None
    assert report["memory"].keys() >= {
        "baseline_footprint_bytes",
        "baseline_is_stable",
        "peak_footprint_bytes",
        "delta_footprint_bytes",
        "vm_hwm_bytes",
        "samples",
        "longest_gap_seconds",
        "longest_gap_phase",
        "major_faults",
    }
    steps, samples = lines(one / "steps.jsonl"), lines(one / "memory.jsonl")
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    fields = {"step", "loss", "lr", "grad_norm", "tokens", "seconds", "peak_footprint_bytes", "major_faults"}
    assert steps[0].keys() == fields
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
    assert page.count("<svg") == 5 and "src=" not in page and "Held-out loss" in page
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
    train(qwen2_fp32, tmp_path / "first", TrainSettings(data, optimizer="sgd", lr=0.3))
    adapter = tmp_path / "first" / "adapter"
    second = train(
        qwen2_fp32,
        tmp_path / "second",
        TrainSettings(data, eval_data=data, adapter=adapter, steps=1, optimizer="sgd", lr=0.0),
    )
    first = train(qwen2_fp32, tmp_path / "third", TrainSettings(data, eval_data=data, steps=1, optimizer="sgd", lr=0.0))
    assert second["eval_loss_before"] < first["eval_loss_before"]
    bundle = open_bundle(qwen2_fp32)
    kept = torch.zeros(bundle.manifest.lora.elements)
    scaling = peft_format.read_peft(tmp_path / "second" / "adapter", bundle.manifest.lora, kept)
    before = torch.zeros_like(kept)
    assert peft_format.read_peft(adapter, bundle.manifest.lora, before) == scaling == peft_format.Scaling(8.0)
    assert_close(kept, before, GRADIENT_FP32, "a step with lr 0 leaves the adapter as it is")


@pytest.mark.alone
def test_memory_over_idle_covers_what_the_run_holds(qwen2_fp32: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    write_rows(data, 3)
    report = train(qwen2_fp32, tmp_path / "run", TrainSettings(data))
    bundle = open_bundle(qwen2_fp32)
    held = 3 * bundle.manifest.lora.nbytes + bundle.manifest.schedules["train.adamw.13"].arena.nbytes
    assert report["memory"]["delta_footprint_bytes"] >= held
    assert (
        report["memory"]["vm_hwm_bytes"]
        >= report["memory"]["peak_footprint_bytes"] - report["memory"]["baseline_footprint_bytes"]
    )
