"""The lowered programs: against themselves run eagerly, in place, and a whole step against autograd."""

from pathlib import Path

import pytest
import torch
from mesp.export import verify as verification
from mesp.export.cli import main
from mesp.export.lower import lower
from mesp.export.plan import Argument, Program
from mesp.export.schedule import training_programs
from mesp.runtime.bundle import PROGRAM, open_bundle
from mesp.runtime.errors import MespError
from torch import Tensor

from .checks import assert_close
from .tolerances import GRADIENT_FP32, LOWERED_FP32

BUNDLES = ("qwen2_fp32", "llama_int4", "llama_int8", "qwen2_mebp")


def draw(argument: Argument, generator: torch.Generator) -> Tensor:
    if argument.dtype == torch.int64:
        return torch.randint(5, argument.shape, generator=generator)  # every table has so many rows
    if argument.dtype == torch.int8:
        return torch.randint(-128, 128, argument.shape, generator=generator, dtype=torch.int8)
    if argument.name == "ones":
        return torch.ones(argument.shape)
    if argument.name in ("v", "one_minus_beta2"):  # AdamW's second moment has a root
        return torch.rand(argument.shape, generator=generator)
    # A target's logit is below the log-sum-exp that it is a part of.
    shift = -5.0 if argument.name == "z_target" else 0.0
    size = 0.002 if argument.name.endswith(".scale") else 0.3
    return torch.randn(argument.shape, generator=generator) * size + shift


@pytest.mark.parametrize("fixture", BUNDLES)
def test_every_lowered_program_computes_what_it_does_eagerly(fixture: str, request: pytest.FixtureRequest) -> None:
    """Each result, and again with the accumulators fed back into the memory that they came from."""
    from executorch.extension.pybindings import portable_lib

    bundle = open_bundle(request.getfixturevalue(fixture))
    module = portable_lib._load_for_executorch(str(bundle.path / PROGRAM))
    generator = torch.Generator().manual_seed(0)
    for program in training_programs(verification.bundle_plan(bundle)).values():
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
    assert len(result.checks) == 2 * len(manifest.lora.targets) * manifest.lora.layers * len(manifest.sizes())


def test_verify_exits_with_1_on_a_miss(
    qwen2_fp32: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(qwen2_fp32)]) == 0
    assert "0 missed" in capsys.readouterr().out
    monkeypatch.setattr(verification, "TOLERANCE", 1e-12)
    assert main(["verify", str(qwen2_fp32)]) == 1
    assert "MISS" in capsys.readouterr().out


def test_a_program_that_is_not_one_delegate_is_refused() -> None:
    argument = Argument("x", (4, 4))
    with pytest.raises(MespError, match="cumsum"):
        lower([Program("partial_sums", (argument,), (argument,), lambda a: (torch.cumsum(a["x"] * 2, 0),))])
