"""Each program alone, run eagerly in fp64: a backward program against autograd of its forward program, head and optimizers against PyTorch."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mesp.export.export_settings import Tiling
from mesp.export.programs import catalogue
from mesp.export.programs.block_inputs import pack_input, unpack_input
from mesp.export.programs.ops import causal_mask
from mesp.export.programs.plan import Plan
from mesp.export.programs.program import Argument, Program
from mesp.export.schedules.schedules import Schedules

from .checks import Draw, assert_close
from .models import GEMMA3, GRANITE, LFM2, LFM2_PROJECTIONS, LLAMA, PROJECTIONS, QWEN2, QWEN3, plan_of
from .tolerances import PROGRAM_FP64

BIASED = {**LLAMA, "attention_bias": True, "mlp_bias": True}
TILINGS = {"even": (12, Tiling(4, 32, 97)), "rest": (13, Tiling(5, 40, 30))}
TILES = [(tiling, sublayer, "") for tiling in TILINGS for sublayer in ("attention", "ffn")] + [("rest", "ffn", "_rest")]


def make_plan(config: dict[str, Any], tokens: int, tiling: Tiling, targets: tuple[str, ...] = PROJECTIONS) -> Plan:
    return plan_of(config, (tokens,), targets=targets, tiling=tiling)


def programs_of(plan: Plan) -> dict[str, Program]:
    sublayers = plan.architecture.sublayers
    tiles = catalogue.tiles_forward(plan, sublayers) + catalogue.tiles_backward(plan, sublayers)
    norms = catalogue.norms_forward(plan, sublayers, plan.tokens) + catalogue.norms_backward(
        plan, sublayers, plan.tokens
    )
    head = catalogue.head_tiles(plan, plan.tokens) + catalogue.head_ends(plan, plan.tokens)
    return {program.name: program for program in head + tiles + norms}


def draw_inputs(plan: Plan, program: Program, draw: Draw, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random tensors for what is not known yet, the constants as they are."""

    def one(argument: Argument) -> Tensor:
        if argument.name in known:
            return known[argument.name]
        if argument.name == "ones":
            return torch.ones(argument.shape, dtype=torch.float64)
        if argument.name == "causal_mask":
            return causal_mask(plan.tokens, plan.query_rows).double()
        if argument.dtype == torch.int64:
            return torch.randint(plan.architecture.V, argument.shape, generator=draw.generator)
        return draw(*argument.shape)

    return {argument.name: one(argument) for argument in program.inputs}


def _of(gradient: str) -> str:
    """The name of what a gradient is of."""
    return gradient.removeprefix("grad.") if gradient.startswith("grad.") else gradient.removeprefix("d")


def check_tile_backward(plan: Plan, sublayer: str, suffix: str = "") -> None:
    """Forward adds the tile to y; backward adds to dn, dh and the shared B's gradient, and gives the tile's own gradients."""
    programs, draw = programs_of(plan), Draw()
    forward, backward = programs[f"{sublayer}_forward{suffix}"], programs[f"{sublayer}_backward{suffix}"]
    inputs = draw_inputs(plan, forward, draw, {})
    wanted = {_of(output.name): output for output in backward.outputs}
    leaves = {name: inputs[name].requires_grad_() for name in wanted}
    y = forward.run(inputs)["y"]
    dy = draw(*y.shape)
    reference = dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), dy), strict=True))
    with torch.no_grad():
        given = draw_inputs(plan, backward, draw, {**inputs, "dy": dy})
        results = backward.run(given)
    for name, output in wanted.items():
        start = given[output.name] if output.stored is None else 0.0
        assert_close(results[output.name] - start, reference[name], PROGRAM_FP64, f"{sublayer}: {output.name}")


def check_norm_backward(plan: Plan, sublayer: str) -> None:
    """x reaches the loss through n, through every h, and along the residual stream."""
    programs, draw = programs_of(plan), Draw()
    forward, backward = programs[f"{sublayer}_norm_forward"], programs[f"{sublayer}_norm_backward"]
    inputs = draw_inputs(plan, forward, draw, {})
    leaves = [inputs[_of(output.name)].requires_grad_() for output in backward.outputs]
    results = forward.run(inputs)
    cotangents = {name: draw(*result.shape) for name, result in results.items()}
    dy = draw(*inputs["x"].shape)
    total = sum((results[name] * cotangents[name]).sum() for name in results) + (inputs["x"] * dy).sum()
    reference = dict(zip((output.name for output in backward.outputs), torch.autograd.grad(total, leaves), strict=True))
    with torch.no_grad():
        known = {**inputs, "dy": dy, **{f"d{name}": cotangent for name, cotangent in cotangents.items()}}
        given = draw_inputs(plan, backward, draw, known)
        ours = backward.run(given)
    for name, gradient in reference.items():
        assert_close(ours[name] - given.get(name, 0), gradient, PROGRAM_FP64, f"{sublayer} norm: {name}")


def check_norm_after(plan: Plan, sublayer: str) -> None:
    """y = x + rmsnorm(o), and the gradient at o."""
    sublayers, draw = [s for s in plan.architecture.sublayers if s.name == sublayer], Draw()
    (forward,) = catalogue.norms_after(plan, sublayers, plan.tokens)
    (backward,) = catalogue.norms_after_backward(plan, sublayers, plan.tokens)
    inputs = draw_inputs(plan, forward, draw, {})
    x, o, weight = inputs["x"], inputs["o"].requires_grad_(), inputs["norm.weight"]
    y = forward.run(inputs)["y"]
    (norm,) = (s.norm_after for s in sublayers)
    assert norm
    reference = x + F.rms_norm(o, (plan.architecture.D,), weight, norm.eps)
    assert_close(y.detach(), reference.detach(), PROGRAM_FP64, f"{sublayer}: y")
    dy = draw(*y.shape)
    (do,) = torch.autograd.grad(reference, o, dy)
    with torch.no_grad():
        ours = backward.run(draw_inputs(plan, backward, draw, {**inputs, "dy": dy}))["do"]
    assert_close(ours, do, PROGRAM_FP64, f"{sublayer}: do")


def check_head(plan: Plan) -> None:
    """Final norm, head and loss over all tiles, against F.cross_entropy of whole logits."""
    programs, draw, arch = programs_of(plan), Draw(), plan.architecture
    table, norm = draw(arch.V, arch.D), draw(arch.D)
    x, targets, weight = (
        draw(plan.tokens, arch.D).requires_grad_(),
        torch.arange(plan.tokens) % arch.V,
        draw(plan.tokens, 1).abs(),
    )
    logits = F.linear(F.rms_norm(x, (arch.D,), norm, arch.norm.eps), table) * arch.logit_scale
    loss = (F.cross_entropy(logits, targets, reduction="none") * weight[:, 0]).sum()
    (dx,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        known = {"x": x, "targets": targets, "token_weight": weight, "table.values": table, "norm.weight": norm}
        known |= programs["head_start"].run(draw_inputs(plan, programs["head_start"], draw, known))
        known |= {"lse": known["z_target"], "dn": torch.zeros_like(x), "loss": torch.ones(1, 1, dtype=torch.float64)}
        group, lse = plan.vocabulary(), known["z_target"]
        padded = F.pad(table, (0, 0, 0, plan.padded_vocabulary - arch.V))
        padding = torch.arange(plan.padded_vocabulary).ge(arch.V).double() * -1e4
        for tile in range(group.count):
            reach = slice(tile * group.width, (tile + 1) * group.width)
            of_tile = {"table.values": padded[reach], "table.padding": padding[None, reach]}
            lse = programs["head_loss_tile"].run({**known, **of_tile, "lse": lse})["lse"]
            known |= programs["head_tile"].run({**known, **of_tile})
        ours = programs["head_end"].run(draw_inputs(plan, programs["head_end"], draw, known))
        alone = programs["head_loss"].run({**known, "lse": lse})["loss"]
    assert_close(ours["loss"] - 1, loss.detach().view(1, 1), PROGRAM_FP64, "loss")
    assert_close(alone - 1, loss.detach().view(1, 1), PROGRAM_FP64, "loss without a gradient")
    assert_close(ours["dx"], dx, PROGRAM_FP64, "head: dx")


@pytest.mark.parametrize("config", [BIASED, QWEN2, QWEN3], ids=["llama-biased", "qwen2", "qwen3"])
@pytest.mark.parametrize(("tiling", "sublayer", "suffix"), TILES)
def test_tile_backward(config: dict[str, Any], tiling: str, sublayer: str, suffix: str) -> None:
    check_tile_backward(make_plan(config, *TILINGS[tiling]), sublayer, suffix)


@pytest.mark.parametrize("targets", [("q_proj", "down_proj"), ("o_proj", "up_proj"), ("v_proj",)])
@pytest.mark.parametrize("sublayer", ["attention", "ffn"])
def test_tile_and_norm_backward_of_some_targets(targets: tuple[str, ...], sublayer: str) -> None:
    plan = make_plan(LLAMA, 13, TILINGS["rest"][1], targets)
    check_tile_backward(plan, sublayer)
    check_norm_backward(plan, sublayer)


@pytest.mark.parametrize("sublayer", ["attention", "ffn"])
def test_norm_backward(sublayer: str) -> None:
    check_norm_backward(make_plan(LLAMA, *TILINGS["rest"]), sublayer)


def test_a_block_input_in_float16_is_the_nearest_one_and_comes_back_exactly() -> None:
    plan = make_plan(LLAMA, *TILINGS["rest"]).having(block_inputs="float16")
    x = Draw()(5, plan.architecture.D) * 100
    x[0, :4] = torch.tensor([2.0**19, -(2.0**19), 2.0**21, -(2.0**21)])
    packed = pack_input(plan, 5).run({"x": x})["packed"]
    unpacked = unpack_input(plan, 5).run({"packed": packed})["x"]
    assert unpacked[0, :4].tolist() == [2.0**19, -(2.0**19), float("inf"), -float("inf")]
    assert torch.equal(unpacked[1:], x[1:].half().float())


@pytest.mark.parametrize("block_inputs", ["float32", "float16"])
@pytest.mark.parametrize("method", ["mesp", "store-h", "mebp"])
def test_block_inputs_are_packed_only_if_they_are_kept_in_16_bits(method: str, block_inputs: str) -> None:
    plan = make_plan(LLAMA, *TILINGS["rest"]).having(method=method, block_inputs=block_inputs)
    schedules = Schedules(plan)
    packing = {name for name in schedules.programs if "pack" in name}
    names = {"pack_input.13", "unpack_input.13"} if block_inputs == "float16" else set()
    assert packing == names
    assert ("block_input" in schedules.tensors()) == bool(names)
    assert schedules.tensors()["block_inputs"].spec.dtype == block_inputs


@pytest.mark.parametrize("config", [LLAMA, GRANITE], ids=["llama", "granite"])
@pytest.mark.parametrize("tiling", TILINGS)
def test_head(tiling: str, config: dict[str, Any]) -> None:
    check_head(make_plan(config, *TILINGS[tiling]))


@pytest.mark.parametrize("sublayer", ["attention", "sliding_attention", "ffn"])
def test_norm_after_backward(sublayer: str) -> None:
    check_norm_after(make_plan(GEMMA3, *TILINGS["rest"]), sublayer)


@pytest.mark.parametrize("sublayer", ["attention", "ffn"])
def test_tile_backward_where_what_goes_out_is_scaled(sublayer: str) -> None:
    check_tile_backward(make_plan(GRANITE, *TILINGS["rest"]), sublayer)


@pytest.mark.parametrize(("sublayer", "suffix"), [("convolution", ""), ("convolution", "_rest")])
def test_short_convolution_backward(sublayer: str, suffix: str) -> None:
    plan = make_plan(LFM2, *TILINGS["rest"], LFM2_PROJECTIONS)
    check_tile_backward(plan, sublayer, suffix)
    check_norm_backward(plan, sublayer)
