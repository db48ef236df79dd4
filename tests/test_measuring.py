"""The scripts that measure: where a step's time goes, and whether MeZO's bundle is of the same model."""

from collections import Counter
from pathlib import Path

import pytest

from mesp.bench.questions.mezo_estimate import main as mezo
from mesp.bench.questions.mezo_estimate import open_pair
from mesp.bench.questions.program_workspace import PROGRAMS, plans
from mesp.bench.questions.step_profile import KINDS, dequantizations, profile
from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.predict.flops import calls
from mesp.export.schedules.schedules import training_programs
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.errors import UsageError


@pytest.mark.alone
def test_a_step_is_divided_without_a_rest(llama_int4: Path) -> None:
    results = profile(llama_int4, steps=2, say=lambda text: None)
    bundle = open_bundle(llama_int4)
    counted = calls(bundle.manifest.schedules[f"train.sgd.{bundle.manifest.tokens}"].instructions)
    expected = dict(sum(counted.values(), Counter()))
    assert {item["program"]: item["calls"] for item in results["programs"]} == expected
    for item in results["programs"]:
        assert sum(item[kind] for kind in KINDS) == pytest.approx(item["seconds"])
    backward = next(item for item in results["programs"] if item["program"].startswith("attention_backward"))
    assert min(backward[kind] for kind in ("products", "dequantization", "attention")) > 0
    assert len(results["step_seconds"]) == 2 and results["seconds"]["interpreter"] > 0


def test_each_weight_is_dequantized_where_it_is_used(llama_int4: Path) -> None:
    plan = bundle_plan(open_bundle(llama_int4))
    programs = training_programs(plan)
    names = [item.name for item in dequantizations(programs[f"ffn_backward.{plan.tokens}"], plan)]
    assert names == [
        f"dequantize_{p}"
        for p in ("gate_proj_64_96", "up_proj_64_96", "down_proj_96_64", "gate_proj_64_96", "up_proj_64_96")
    ]
    assert [item.name for item in dequantizations(programs[f"head_tile.{plan.tokens}"], plan)] == ["dequantize_table"]


def test_an_estimate_is_compared_with_the_same_models_gradient_alone(
    llama_int4: Path, qwen2_fp32: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="are of methods mesp and mesp"):
        open_pair(llama_int4, qwen2_fp32)
    assert mezo([str(llama_int4), str(qwen2_fp32), "-o", str(tmp_path / "out.json")]) == 2
    assert "Expected one with exact gradients" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_the_workspace_is_measured_of_sixteen_plans() -> None:
    for method in {program.method for program in PROGRAMS.values()}:
        found = list(plans(method))
        assert len({(model, plan.tokens) for model, plan in found}) == 16
        assert {plan.settings.method for _, plan in found} == {method}
