"""The predicted memory: against what lowering planned, its search, and its command."""

import json
import re
from pathlib import Path

import pytest

from mesp.command_line.parser import main
from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.predict.footprint import footprint, longest_within
from mesp.export.programs.plan import Plan
from mesp.export.programs.workspace import with_chosen_tiles
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.engine.planned import planned_bytes

from .conftest import FAMILY_BUNDLES
from .models import LLAMA

CONFIGURATIONS = Path(__file__).parents[1] / "benchmarks" / "configurations"
MEASURED = ("XNNPACK's workspace", "interpreter")


@pytest.mark.parametrize(
    "fixture", ["qwen2_fp32", "llama_int4", "qwen3_int8", "llama_float16", *sorted(FAMILY_BUNDLES)]
)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_what_is_counted_is_what_the_lowered_bundle_allocates(
    fixture: str, optimizer: str, request: pytest.FixtureRequest
) -> None:
    bundle = open_bundle(request.getfixturevalue(fixture))
    longest = bundle.manifest.tokens
    parts = footprint(bundle_plan(bundle).at(longest), optimizer)
    counted = sum(nbytes for name, nbytes in parts.items() if name not in MEASURED)
    planned = sum(planned_bytes(bundle.manifest, [f"train.{optimizer}.{longest}"]).values())
    assert counted == pytest.approx(planned, rel=0.02)


def test_options_add_what_they_keep(qwen2_fp32: Path) -> None:
    bundle = open_bundle(qwen2_fp32)
    plan, adapter = bundle_plan(bundle), bundle.manifest.lora.nbytes
    plain = footprint(plan, "sgd")
    assert "gradients" not in plain and "adamw.m" not in plain
    assert footprint(plan, "sgd", clips=True)["gradients"] == adapter
    assert footprint(plan, "adamw", accumulates=True).items() >= {"adamw.m": adapter, "adamw.v": adapter}.items()
    assert sum(footprint(plan, "sgd").values()) > sum(footprint(plan.at(13), "sgd").values())


def test_block_inputs_in_float16_are_half_as_large(llama_float16: Path) -> None:
    plan = bundle_plan(open_bundle(llama_float16)).having(offload=None)
    plain, packed = (footprint(plan.having(block_inputs=dtype), "sgd") for dtype in ("float32", "float16"))
    assert packed["block inputs"] == plain["block inputs"] / 2
    # What there is more: the input of one block in fp32, and what packing and unpacking plan for rows of it.
    elements = plan.tokens * plan.architecture.D
    assert packed["other buffers"] - plain["other buffers"] == elements * 4
    results = [parts["results of the programs"] for parts in (packed, plain)]
    assert results[0] - results[1] == elements * (2 + 4 + 4 + 4) + 2 * 64


def test_a_shorter_head_that_is_asked_for_is_counted(qwen2_fp32: Path) -> None:
    plan = bundle_plan(open_bundle(qwen2_fp32)).at(13)
    assert sum(footprint(plan.having(head_rows=(5,)), "sgd").values()) > sum(footprint(plan, "sgd").values())


def test_the_longest_sequence_within_a_budget_is_the_longest(llama_int4: Path) -> None:
    plan = bundle_plan(open_bundle(llama_int4))

    def make(tokens: int) -> Plan:
        return with_chosen_tiles(plan.at(tokens))

    def predict(plan: Plan) -> dict[str, int]:
        return footprint(plan, "sgd")

    def longest(budget: int) -> int | None:
        found = longest_within(budget, 64, make, predict)
        return None if found is None else found.tokens

    need = {tokens: sum(predict(make(tokens)).values()) for tokens in (16, 32, 48, 64)}
    for tokens in (16, 32, 48):
        assert longest(need[tokens]) == longest(need[tokens + 16] - 1) == tokens
    assert longest(10**12) == 64  # all that the model takes
    assert longest(need[16] - 1) is None


@pytest.mark.parametrize("method", ["mesp", "mebp"])
def test_a_plan_for_a_budget_is_that_of_the_length_it_finds(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "plan",
        str(CONFIGURATIONS / "qwen2.5-0.5b"),
        "--method",
        method,
        "--gflops",
        "100",
        "--optimizer",
        "sgd",
    ]
    assert main([*command, "--seq-len", "64", "--head-rows", "32", "--budget-mb", "250"]) == 0
    first, found = capsys.readouterr().out.split("\n", 1)
    assert main([*command, "--seq-len", first.split()[-2], "--head-rows", "32"]) == 0
    assert capsys.readouterr().out == found


def test_a_budget_that_is_too_small_names_what_would_fit_with_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """And each figure is what the plan with these options says."""
    command = ["plan", str(CONFIGURATIONS / "smollm2-135m"), "--gflops", "100"]
    assert main([*command, "--seq-len", "256", "--budget-mb", "50"]) == 2
    error = capsys.readouterr().err
    named = dict(re.findall(r"(--[^(]+) \((\d+\.\d) MB\)", error))
    assert {"--optimizer sgd", "--layers 15"} <= named.keys() and "256 tokens, which take" in error
    assert [*named][-1] == "--offload inputs --optimizer sgd --rank 4 --layers 15"
    for options, size in named.items():
        assert float(size) <= 50
        assert main([*command, "--seq-len", "256", *options.split()]) == 0
        (shown,) = re.findall(r"(\S+) MB  over an idle process", capsys.readouterr().out)
        assert float(shown) == pytest.approx(float(size), abs=0.06), options
    assert main([*command, "--budget-mb", "1"]) == 2
    error = capsys.readouterr().err
    assert "1 MB are not enough for 16 tokens" in error and "Not enough: --offload inputs (" in error


def test_a_configuration_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    given = ["--weights", "fp32", "--gflops", "100"]
    assert main(["plan", str(tmp_path), "--seq-len", "16,32", *given, "--optimizer", "sgd"]) == 0
    output = capsys.readouterr().out
    assert "block inputs" in output and "16 or 32 tokens" in output
    assert main(["plan", str(tmp_path), "--seq-len", "16", *given, "--budget-mb", "9"]) == 0
    output = capsys.readouterr().out
    assert "The longest sequence within 9 MB" in output and "columns of the feed-forward layer" in output


def test_plan_takes_the_dtype_of_block_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "hidden_size": 640}))
    shown = {}
    for dtype in ("float32", "float16"):
        assert main(["plan", str(tmp_path), "--seq-len", "64", "--block-inputs", dtype]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("block inputs"))
        shown[dtype] = float(line.split()[0])
    assert shown == {"float32": 0.33, "float16": 0.16}
    assert main(["plan", str(tmp_path), "--seq-len", "64", "--method", "mezo", "--block-inputs", "float16"]) == 2
    assert "mezo keeps no block inputs" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # what no Android library takes is not offered
        main(["plan", str(tmp_path), "--block-inputs", "bfloat16"])


def test_a_block_as_a_whole_takes_more_than_its_tiles(qwen3_mebp: Path) -> None:
    plan = bundle_plan(open_bundle(qwen3_mebp))
    whole, tiles = (footprint(plan.having(method=method), "sgd") for method in ("mebp", "mesp"))
    assert whole["XNNPACK's workspace"] > tiles["XNNPACK's workspace"]
    assert whole["block inputs"] == tiles["block inputs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--momentum", "0.9"], "--momentum is sgd's"),
        (["--clip-norm", "0"], "--clip-norm 0.0 must be"),
        (["--grad-accumulation", "0"], "--grad-accumulation 0 must be"),
        (["--budget-mb", "nan"], "--budget-mb nan must be"),
        (["--gflops", "0"], "--gflops 0.0 must be"),
        (["--gflops", "inf"], "--gflops inf must be"),
        (["--budget-mb", "90"], "is a bundle, whose lengths, adapter and weights"),
        (["--rank", "4"], "is a bundle, whose lengths, adapter and weights"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "manifest.json").write_text("{}")  # enough to be taken for a bundle
    assert main(["plan", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
