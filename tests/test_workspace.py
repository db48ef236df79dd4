"""The tile of the vocabulary, and which program's workspace is the largest: by shapes alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mesp.export.model.architecture import PROJECTIONS, read_architecture
from mesp.export.model.quantize import weight_format
from mesp.export.predict.workspace import attention_workspace, head_workspace, largest_program, with_chosen_tiles
from mesp.export.programs.plan import Plan, Tiling
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.session import Session

CONFIGURATIONS = Path(__file__).parents[1] / "benchmarks" / "configurations"


def plan_of(name: str, tokens: int) -> Plan:
    from transformers import AutoConfig

    architecture = read_architecture(AutoConfig.from_pretrained(CONFIGURATIONS / name))
    plan = Plan(architecture, (tokens,), 8, PROJECTIONS, weight_format("int4", 32), Tiling(), architecture.layers)
    return with_chosen_tiles(plan)


@pytest.mark.parametrize("tokens", [128, 256, 512, 1024])
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b"])
def test_it_is_clear_which_program_is_the_largest(name: str, tokens: int) -> None:
    plan = plan_of(name, tokens)
    head, attention = head_workspace(plan), attention_workspace(plan)
    assert head < 0.81 * attention or attention < 0.81 * head
    assert largest_program(plan) == ("head_tile" if head > attention else "attention_backward")
    assert 256 <= plan.tiling.vocabulary <= 1024


def test_a_session_runs_it_before_anything_else(qwen2_fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, called = open_bundle(qwen2_fp32), []
    from executorch.extension.pybindings import portable_lib

    class Module:
        def run_method(self, name: str, inputs: list[torch.Tensor], **_: Any) -> list[torch.Tensor]:
            called.append((name, sum(int(value.abs().sum()) for value in inputs)))
            return []

    monkeypatch.setattr(portable_lib, "_load_for_executorch", lambda _: Module())
    Session(bundle, ["train.sgd.5"])
    Session(bundle, ["train.sgd.5", "train.sgd.13"])
    Session(bundle, ["gradient_norm"])
    assert called == [(name, 0) for name in bundle.manifest.warm_up[::-1]]


def test_a_vocabulary_smaller_than_a_tile_is_one_tile_at_any_length() -> None:
    plan = plan_of("tiny-llama", 16)
    small = replace(plan, architecture=replace(plan.architecture, V=97))
    for tokens in range(16, 513, 16):
        assert with_chosen_tiles(small.at(tokens)).vocabulary().count == 1
