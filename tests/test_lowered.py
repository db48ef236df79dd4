"""The lowered programs: against themselves run eagerly, in place, and a whole step against autograd."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesp.command_line.parser import main
from mesp.export.bundle.lower import lower
from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.programs.program import Argument, Program
from mesp.export.reference import verify as verification
from mesp.export.reference.transformers_model import reference_model
from mesp.export.schedules.schedules import Schedules, training_programs
from mesp.runtime.data.dataset import Example, inputs
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine import executorch_runtime
from mesp.runtime.engine.arena import plan_arena
from mesp.runtime.engine.bundle import PROGRAM, Bundle, open_bundle
from mesp.runtime.engine.manifest import Schedule
from mesp.runtime.engine.session import Session
from mesp.runtime.engine.sizes import Size
from mesp.runtime.errors import MespError
from mesp.runtime.training.adapter import named

from .checks import assert_close
from .conftest import FAMILY_BUNDLES
from .models import pefts_gradients
from .tolerances import GRADIENT_FLOAT16_INPUTS, GRADIENT_FP32, LOWERED_FP32

BUNDLES = ("qwen2_fp32", "llama_int4", "qwen3_int8", "llama_store_h", "qwen3_mebp", *sorted(FAMILY_BUNDLES))


def draw(argument: Argument, generator: torch.Generator) -> Tensor:
    if argument.dtype == torch.int64:
        return torch.randint(5, argument.shape, generator=generator)  # every table has so many rows
    if argument.dtype == torch.int8:
        return torch.randint(-128, 128, argument.shape, generator=generator, dtype=torch.int8)
    if argument.dtype == torch.float16:
        return torch.randn(argument.shape, generator=generator).half()
    if argument.stored and argument.stored.tensor == "ones":
        return torch.ones(argument.shape)
    if argument.name in ("v", "one_minus_beta2"):  # AdamW's second moment has a root
        return torch.rand(argument.shape, generator=generator)
    # A target's logit is below the log-sum-exp that it is a part of.
    shift = -5.0 if argument.name == "z_target" else 0.0
    size = 0.002 if argument.name.endswith(".scale") else 0.3
    return torch.randn(argument.shape, generator=generator) * size + shift


@pytest.mark.parametrize("fixture", [*BUNDLES, "llama_mezo", "llama_float16"])
def test_every_lowered_program_computes_what_it_does_eagerly(fixture: str, request: pytest.FixtureRequest) -> None:
    """Each result, and again with the accumulators fed back into the memory that they came from."""
    bundle = open_bundle(request.getfixturevalue(fixture))
    module = executorch_runtime.load(bundle.path / PROGRAM)
    generator = torch.Generator().manual_seed(0)
    for program in training_programs(bundle_plan(bundle)).values():
        inputs = {argument.name: draw(argument, generator) for argument in program.inputs}
        results = module.run_method(program.name, list(inputs.values()), clone_outputs=False)
        assert_results(program, inputs, results)
        fed_back = {
            o.name: result
            for o, result in zip(program.outputs, results, strict=True)
            if o.name in inputs and not o.stored
        }
        again = {**inputs, **{name: result.clone() for name, result in fed_back.items()}}
        results = module.run_method(program.name, list({**inputs, **fed_back}.values()), clone_outputs=False)
        assert_results(program, again, results)


def assert_results(program: Program, inputs: dict[str, Tensor], results: list[Tensor]) -> None:
    for (name, eager), lowered in zip(program.run(inputs).items(), results, strict=True):
        assert_close(lowered, eager, LOWERED_FP32, f"{program.name}: {name}")


@pytest.mark.parametrize("fixture", BUNDLES)
def test_verify_passes(fixture: str, request: pytest.FixtureRequest) -> None:
    result = verification.verify(request.getfixturevalue(fixture))
    assert result.passed
    assert max(check.relative_error for check in result.checks) <= GRADIENT_FP32
    manifest = open_bundle(request.getfixturevalue(fixture)).manifest
    assert len(result.checks) == len(manifest.lora.tensors) * len(manifest.sizes())


@pytest.mark.parametrize("fixture", ["qwen3_int8", *sorted(FAMILY_BUNDLES)])
def test_gradients_of_a_padded_row_are_pefts(fixture: str, request: pytest.FixtureRequest) -> None:
    """Of a sequence two tokens shorter than the programs', longer than the windows, with masked targets; by PEFT's own layers in fp32."""
    bundle = open_bundle(request.getfixturevalue(fixture))
    lora, size = bundle.manifest.lora, Size(bundle.manifest.tokens, bundle.manifest.tokens)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(bundle.manifest.model.vocabulary, (size.tokens - 1,), generator=generator)
    targets = ids[1:].clone()
    targets[[0, 2, 3]] = MASKED
    example = Example(ids[:-1], targets)
    session = Session(bundle, [f"gradients.{size.name}"])
    session.state[lora.state].copy_(0.1 * torch.randn(lora.elements, generator=generator))
    given: dict[str, Tensor | float] = {
        **inputs(example, size, example.predictions),
        "lora_scale": lora.alpha / lora.rank,
    }
    loss = float(session.run(f"gradients.{size.name}", given)["loss"])
    theirs, gradients = pefts_gradients(bundle, session.state[lora.state], example)
    assert loss == pytest.approx(theirs, rel=GRADIENT_FP32)
    for name, ours in named(lora, session.state["gradients"]).items():
        assert_close(ours, gradients[name], GRADIENT_FP32, name)


def test_verify_exits_with_1_on_a_miss(
    qwen2_fp32: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(qwen2_fp32)]) == 0
    assert "0 missed" in capsys.readouterr().out
    monkeypatch.setattr(verification, "TOLERANCE", 1e-12)
    assert main(["verify", str(qwen2_fp32)]) == 1
    assert "MISS" in capsys.readouterr().out


def test_block_inputs_in_float16_have_a_tolerance_of_their_own_that_an_error_misses(
    llama_float16: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = verification.verify(llama_float16)
    assert result.passed
    assert 1e-5 < max(check.relative_error for check in result.checks) <= GRADIENT_FLOAT16_INPUTS
    model = reference_model

    def wrong_by_two_percent(bundle: Bundle) -> Any:
        return scaled(model(bundle), "model.layers.1.mlp.up_proj.weight", 1.02)

    monkeypatch.setattr(verification, "reference_model", wrong_by_two_percent)
    assert main(["verify", str(llama_float16)]) == 1
    output = capsys.readouterr().out
    assert "MISS" in output and "tolerance 1e-02 for block inputs kept in float16" in output


def scaled(model: Any, weight: str, factor: float) -> Any:
    model.get_parameter(weight).mul_(factor)
    return model


def test_block_inputs_in_float16_are_the_same_in_memory_as_in_a_file(llama_float16: Path) -> None:
    bundle = open_bundle(llama_float16)
    in_memory = bundle_plan(bundle).having(offload=None)
    schedules = Schedules(in_memory)
    tensors = schedules.tensors()
    assert tensors["block_inputs"].spec == bundle.manifest.tensors["block_inputs"].spec
    kinds = {name: tensor.kind for name, tensor in tensors.items() if tensor.in_arena}
    instructions = schedules.schedules()["gradients.9"]
    specs = bundle.tensors()
    schedule = Schedule(instructions, plan_arena(instructions, specs, kinds))
    manifest = replace(bundle.manifest, tensors=tensors, schedules={"gradients.9": schedule})
    found = [
        next(iter(verification.both_ways(each))) for each in (bundle, Bundle(bundle.path, manifest, bundle.weights))
    ]
    assert found[0].loss == found[1].loss
    for name, gradient in found[0].gradients.items():
        assert torch.equal(gradient, found[1].gradients[name]), name


def test_a_conversion_outside_the_delegate_is_refused_unless_it_is_of_float16() -> None:
    ids, x = Argument("ids", (4, 4), torch.int64), Argument("x", (4, 4))
    half = Argument("half", (4, 4), torch.float16)
    assert lower([Program("pack", (x,), (half,), lambda a: (a["x"].to(torch.float16),))]).planned_bytes["pack"] >= 32
    with pytest.raises(MespError, match="_to_dim_order_copy"):
        lower([Program("convert", (ids,), (x,), lambda a: (a["ids"].to(torch.float32) * 2,))])


def test_a_program_that_is_not_one_delegate_is_refused() -> None:
    argument = Argument("x", (4, 4))
    with pytest.raises(MespError, match="cumsum"):
        lower([Program("partial_sums", (argument,), (argument,), lambda a: (torch.cumsum(a["x"] * 2, 0),))])
