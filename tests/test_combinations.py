"""Options together, on lowered programs of the families whose sublayers are not a Llama's: exported, and checked against autograd.

Gemma 3 has norms after sublayers and windows, LFM2 convolutions and a fused projection, SmolLM3 layers with and without a rotary embedding. Each
has two layers here, one of each kind. That every method is exact for every family is in test_model.py.
"""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from mesp.export.bundle.export import export_bundle
from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.export_settings import ExportSettings, Tiling
from mesp.export.programs.perturbation import EPSILON
from mesp.export.reference.verify import verify
from mesp.runtime.data.dataset import Example, inputs
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.random_signs import signs
from mesp.runtime.engine.session import Session
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings

from .checks import assert_close
from .models import GEMMA3, LFM2, SMOLLM3, pefts_gradients, save_checkpoint
from .test_train import OPTIMIZERS, lines, pytorch_losses, write_rows
from .tolerances import GRADIENT_FLOAT16_INPUTS, GRADIENT_FP32, LONG_TRAINING_LOSS, MEZO

pytestmark = pytest.mark.thorough

FAMILIES: dict[str, dict[str, Any]] = {
    "gemma3": {**GEMMA3, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "lfm2": {**LFM2, "num_hidden_layers": 2, "layer_types": ["full_attention", "conv"]},
    "smollm3": {**SMOLLM3, "num_hidden_layers": 2, "no_rope_layers": [1, 0]},
}
# With adapters in the upper layer alone programs without adapters run too. Several lengths have their heads on fewer rows anyway.
COMBINATIONS: dict[str, dict[str, Any]] = {
    "mesp": {"seq_len": (5, 9), "layers": 1, "offload": "inputs"},
    "mebp": {"head_rows": (3,), "weights": "fp32"},
    "store-h": {"layers": 1, "weights": "int8", "offload": "inputs", "block_inputs": "float16"},
    "mezo": {"head_rows": (3,)},
}


def exported(folder: Path, family: str, method: str) -> Path:
    save_checkpoint(folder / "checkpoint", **FAMILIES[family])
    tiling = Tiling(query_rows=4, ffn=96, vocabulary=97)
    settings: dict[str, Any] = {"seq_len": (9,), "rank": 2, "method": method, "tiling": tiling, **COMBINATIONS[method]}
    export_bundle(str(folder / "checkpoint"), folder / "bundle", ExportSettings(**settings))
    return folder / "bundle"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [method for method in COMBINATIONS if method != "mezo"])
def test_gradients_and_six_steps_are_pytorchs(tmp_path: Path, family: str, method: str) -> None:
    bundle = open_bundle(exported(tmp_path, family, method))
    tolerance = GRADIENT_FP32 if bundle.manifest.plan["block_inputs"] == "float32" else GRADIENT_FLOAT16_INPUTS
    checks = verify(bundle).checks
    assert len(checks) == len(bundle.manifest.lora.tensors) * len(bundle.manifest.sizes())
    assert max(check.relative_error for check in checks) <= tolerance
    rows = write_rows(tmp_path / "rows.jsonl", 6)
    settings = TrainSettings(tmp_path / "rows.jsonl", optimizer="sgd", lr=0.1, weight_decay=0.01, shuffle=False)
    train(bundle.path, tmp_path / "run", settings)
    ours = [line["loss"] for line in lines(tmp_path / "run" / "steps.jsonl")]
    assert ours == pytest.approx(list(pytorch_losses(bundle, rows, OPTIMIZERS["sgd"][1])), abs=LONG_TRAINING_LOSS)
    assert max(ours) - min(ours) > 100 * LONG_TRAINING_LOSS


@pytest.mark.parametrize("family", ["gemma3", "lfm2"])
def test_mezos_estimate_is_the_slope_along_its_signs(tmp_path: Path, family: str) -> None:
    """LFM2's two layers have adapters of different sizes."""
    bundle = open_bundle(exported(tmp_path, family, "mezo"))
    lora, generator = bundle.manifest.lora, torch.Generator().manual_seed(3)
    plan = bundle_plan(bundle)
    sizes = [plan.adapter.size_of(layer) for layer in plan.architecture.layers]
    drawn = [signs(7, index * plan.adapter.longest, size) for index, size in enumerate(sizes)]
    z = torch.from_numpy(numpy.concatenate(drawn)).float()
    session = Session(bundle, [f"gradients.{size.name}" for size in bundle.manifest.sizes()])
    for size in bundle.manifest.sizes():
        adapter = session.state[lora.state].copy_(0.1 * torch.randn(lora.elements, generator=generator)).clone()
        ids = torch.randint(97, (size.head + 1,), generator=generator)
        example = Example(ids[:-1], ids[1:])
        given: dict[str, Tensor | float] = {
            **inputs(example, size, size.head),
            "lora_scale": lora.alpha / lora.rank,
            "noise_seed": torch.tensor(7),
        }
        loss = float(session.run(f"gradients.{size.name}", given)["loss"])
        plus, minus = (pefts_gradients(bundle, adapter + sign * EPSILON * z, example)[0] for sign in (1, -1))
        assert loss == pytest.approx((plus + minus) / 2, rel=GRADIENT_FP32)
        assert_close(session.state["gradients"].view(-1), (plus - minus) / (2 * EPSILON) * z, MEZO, size.name)
        assert_close(session.state[lora.state], adapter, GRADIENT_FP32, "the adapter is put back")
