"""Layers of different kinds: a Llama whose middle layer has a narrower feed-forward layer, run eagerly in fp64 against transformers and PEFT."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mesp.export.export_settings import ExportSettings, Tiling
from mesp.export.model.architecture import Architecture, FeedForward, Layer
from mesp.export.model.families import read_architecture
from mesp.export.programs.plan import Plan
from mesp.export.schedules.schedules import OPTIMIZERS
from mesp.export.schedules.writer import SCALARS
from mesp.runtime.training.adapter import named

from .checks import assert_close
from .models import LLAMA, PROJECTIONS, EagerSession, InMemory, example, make_model
from .test_model import peft_gradients
from .tolerances import SCHEDULE_FP64

NARROW = 48
CONFIG = {**LLAMA, "num_hidden_layers": 3}
TILING = Tiling(query_rows=5, ffn=40, vocabulary=30, rows=4)


def narrowed(layer: Layer) -> Layer:
    """A layer with a narrower feed-forward sublayer, which is another one by name and by its tensors' names."""
    attention, ffn = layer
    gate, up = (replace(projection, outputs=NARROW) for projection in ffn.into)
    out = replace(ffn.out, inputs=NARROW)
    return attention, replace(
        ffn, name="narrow_ffn", prefix="narrow.", into=(gate, up), middle=FeedForward(NARROW), out=out
    )


def narrow_in_the_middle() -> tuple[Any, Architecture]:
    """transformers' model, and the architecture as a value."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    model = make_model(**CONFIG)
    narrow = type(model.config)(**{**model.config.to_dict(), "intermediate_size": NARROW})
    model.model.layers[1].mlp = LlamaMLP(narrow)
    first, _, last = (architecture := read_architecture(model.config)).layers
    return model, replace(architecture, layers=(first, narrowed(first), last))


def session_of(
    folder: Path, model: Any, architecture: Architecture, method: str, layers: int, name: str = "run"
) -> EagerSession:
    (folder / name).mkdir()
    settings = ExportSettings(
        seq_len=(13,),
        rank=3,
        alpha=6.0,
        targets=PROJECTIONS,
        layers=layers,
        method=method,
        weights="fp32",
        tiling=TILING if method != "mebp" else replace(TILING, query_rows=13, ffn=96),
    )
    return EagerSession(Plan(architecture, settings), InMemory(model), folder / name)


@pytest.mark.parametrize("layers", [3, 2, 1])
@pytest.mark.parametrize("method", ["mesp", "store-h", "mebp"])
def test_gradients_are_those_of_transformers_and_peft(tmp_path: Path, method: str, layers: int) -> None:
    model, architecture = narrow_in_the_middle()
    session = session_of(tmp_path, model, architecture, method, layers)
    data = example(13, CONFIG["vocab_size"])
    session.run("gradients.13", **data)
    loss, gradients = peft_gradients(model, session, data)
    assert_close(session.get("loss"), loss.view(1, 1), SCHEDULE_FP64, "loss")
    for name, ours in named(session.lora, session.get("gradients")).items():
        assert_close(ours, gradients[name], SCHEDULE_FP64, name)
    session.run("gradient_norm")
    norm = sum(float(gradient.square().sum()) for gradient in gradients.values())
    assert float(session.get("gradient_square_sum")) == pytest.approx(norm, rel=SCHEDULE_FP64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_kept_gradient_gives_the_step_that_is_taken_as_it_arrives(tmp_path: Path, optimizer: str) -> None:
    model, architecture = narrow_in_the_middle()
    scalars = {name: 0.1 * (1 + place) for place, name in enumerate(SCALARS) if name != "gradient_scale"}
    lean, kept = (session_of(tmp_path, model, architecture, "mesp", 2, name) for name in ("lean", "kept"))
    for _ in range(2):
        data = example(13, CONFIG["vocab_size"])
        lean.run(f"train.{optimizer}.13", **data, **scalars)
        kept.run("gradients.13", **data, **scalars)
        kept.run(f"update.{optimizer}", gradient_scale=1.0, **scalars)
        assert_close(kept.get("adapter"), lean.get("adapter"), SCHEDULE_FP64, optimizer)


def test_mezo_puts_the_adapter_back(tmp_path: Path) -> None:
    model, architecture = narrow_in_the_middle()
    session = session_of(tmp_path, model, architecture, "mezo", 3)
    adapter = session.get("adapter").clone()
    session.run("gradients.13", **example(13, CONFIG["vocab_size"]), noise_seed=torch.tensor(7), perturbation=1e-5)
    assert_close(session.get("adapter"), adapter, SCHEDULE_FP64, "adapter")


def test_a_sublayer_in_several_layers_has_its_programs_once(tmp_path: Path) -> None:
    model, architecture = narrow_in_the_middle()
    session = session_of(tmp_path, model, architecture, "mesp", 3)
    backward = {name.split(".")[0] for name in session.programs if "_backward" in name and "norm" not in name}
    assert backward == {
        *("attention_backward", "ffn_backward", "ffn_backward_rest", "narrow_ffn_backward", "narrow_ffn_backward_rest")
    }
    assert session.tensors["q_proj.values"].numel() == 3 * 64 * 128
    assert session.tensors["gate_proj.values"].numel() == 2 * 64 * 80
    assert session.tensors["narrow.gate_proj.values"].numel() == 64 * 40


def test_sublayers_that_differ_must_not_share_names() -> None:
    architecture = read_architecture(make_model(**CONFIG).config)
    attention, ffn = architecture.layers[0]
    wider = (attention, replace(ffn, middle=FeedForward(128)))
    with pytest.raises(ValueError, match="share ffn"):
        replace(architecture, layers=(architecture.layers[0], wider))
    with pytest.raises(ValueError, match="share down_proj, gate_proj, post_attention_layernorm, up_proj"):
        replace(architecture, layers=(architecture.layers[0], (attention, replace(wider[1], name="wider"))))
