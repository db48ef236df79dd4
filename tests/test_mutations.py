"""Shows that the checks can fail: each mutation of the maths or of the programs is one that a person could write, and each is caught."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from types import ModuleType

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from mesp.export.programs import autodiff, block_inputs, head, ops, perturbation, sublayer
from mesp.export.programs.attention import AttentionTile
from mesp.export.programs.plan import Plan
from mesp.export.programs.program import Arguments
from mesp.export.schedules import mezo
from mesp.export.schedules.store_h import StoreH

from .checks import Draw, assert_close
from .models import GEMMA3, GRANITE, LFM2, LFM2_PROJECTIONS, LLAMA, PROJECTIONS, QWEN3
from .test_model import (
    IN_FLOAT16,
    STORED,
    WHOLE,
    check_mezo,
    check_model,
)
from .test_ops import (
    check_adamw,
    check_attention,
    check_cross_entropy,
    check_geglu,
    check_lora,
    check_momentum,
    check_rmsnorm,
    check_rope,
    check_short_convolution,
    check_swiglu,
)
from .test_programs import (
    BIASED,
    TILINGS,
    check_head,
    check_norm_after,
    check_norm_backward,
    check_tile_backward,
    draw_inputs,
    make_plan,
)
from .tolerances import GRADIENT_FP32

Check = Callable[[], None]


def tile(sublayer: str) -> Check:
    return lambda: check_tile_backward(make_plan(BIASED, *TILINGS["rest"]), sublayer)


def normed_heads() -> None:
    check_tile_backward(make_plan(QWEN3, *TILINGS["rest"]), "attention")


def whole_norm() -> None:
    check_norm_backward(make_plan(BIASED, *TILINGS["rest"]), "attention")


def whole_head() -> None:
    check_head(make_plan(BIASED, *TILINGS["rest"]))


def rmsnorm() -> None:
    check_rmsnorm(5, 12)


def lora() -> None:
    check_lora(5, 12, 9, 3)


def rope() -> None:
    check_rope(2, 5, 8, 4)


def attention() -> None:
    check_attention(3, 7, 4, 3)


def windowed_attention() -> None:
    check_attention(3, 13, 4, 5, 4)


def geglu() -> None:
    check_geglu(5, 11)


def short_convolution() -> None:
    check_short_convolution(7, 5, 3)


def norm_after() -> None:
    check_norm_after(make_plan(GEMMA3, *TILINGS["rest"]), "ffn")


def scaled_tile() -> None:
    check_tile_backward(make_plan(GRANITE, *TILINGS["rest"]), "ffn")


def scaled_head() -> None:
    check_head(make_plan(GRANITE, *TILINGS["rest"]))


def swiglu() -> None:
    check_swiglu(5, 11)


def momentum() -> None:
    check_momentum(13)


def cross_entropy() -> None:
    check_cross_entropy(6, 5, 13, 4, True)


def float16_model() -> None:
    with TemporaryDirectory() as folder:
        check_model(Path(folder), *IN_FLOAT16["mesp"], block_inputs="float16")


def adamw() -> None:
    check_adamw(13)


def stored_h() -> None:
    with TemporaryDirectory() as folder:
        check_model(Path(folder), *STORED["store-h"])


def mezo_estimate() -> None:
    with TemporaryDirectory() as folder:
        check_mezo(Path(folder), LLAMA, PROJECTIONS)


def decompositions(plan: Plan | None = None) -> None:
    """MeBP's block in the operators that XNNPACK has, against the same in autodiff's own."""
    plan = plan or make_plan(LLAMA, 9, WHOLE)
    program = autodiff.block_backward(plan, plan.architecture.layers[0])
    inputs = draw_inputs(plan, program, Draw(), {})
    names, tensors = list(inputs), [tensor.float() for tensor in inputs.values()]

    def run(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(program.body(Arguments(zip(names, given, strict=True))))

    traced = make_fx(run, decomposition_table=dict(program.decompositions))(*tensors)
    for output, ours, reference in zip(program.outputs, traced(*tensors), run(*tensors), strict=True):
        assert_close(ours, reference, GRADIENT_FP32, output.name)


def convolution_decompositions() -> None:
    decompositions(make_plan(LFM2, 9, WHOLE, LFM2_PROJECTIONS))


# (module or class, function, what it says, what the mutant says, the check that must fail)
MUTATIONS: list[tuple[ModuleType | type, str, str, str, Check]] = [
    (ops, "rmsnorm_backward", "rstd * u - x", "rstd * u + x", rmsnorm),
    (ops, "rmsnorm_backward", " - x * (rstd * rstd * rstd * mean)", "", rmsnorm),
    (ops, "rmsnorm_backward", "u = dy * weight", "u = dy", rmsnorm),
    (ops, "rmsnorm_backward", "rstd * rstd * rstd", "rstd * rstd", rmsnorm),
    (ops, "lora_down_backward", "dh = dh * scale", "pass", lora),
    (ops, "lora_up_backward", "torch.mm(dy.t(), h)", "-torch.mm(dy.t(), h)", lora),
    (ops, "linear_backward", "torch.mm(dy, weight.t())", "torch.mm(dy, weight.t()) * 0.5", lora),
    (ops, "rope_backward", "dy1 * cos + dy2 * sin", "dy1 * cos - dy2 * sin", rope),
    (ops, "rope_backward", "dy2 * cos - dy1 * sin", "dy2 * cos", rope),
    (ops, "attention_backward", " - torch.mm(do_rows * o, ones)", "", attention),
    (ops, "attention_backward", "* scale", "", attention),
    (ops, "attention_backward", "dk + dk_block", "dk_block", attention),
    (ops, "attention_backward", "dv + dv_block", "dv - dv_block", attention),
    (ops, "causal_mask", "after > 0", "after >= 0", attention),
    (ops, "causal_mask", "after <= -window", "after < -window", windowed_attention),
    (ops, "_blocks", "start - window + 1", "start - window + 2", windowed_attention),
    (ops, "attention_backward", "(0, 0, first, tokens - end)", "(0, 0, tokens - end, first)", windowed_attention),
    (ops, "geglu_backward", "(3 * _GELU * _GELU_CUBIC)", "(_GELU * _GELU_CUBIC)", geglu),
    (ops, "geglu_backward", " * slope", "", geglu),
    (ops, "short_convolution_backward", "du * x, dy * v, du * b", "du * b, dy * v, du * x", short_convolution),
    (ops, "causal_convolution_backward", "pad(dv[by:], (0, 0, 0, by))", "dv", short_convolution),
    (sublayer, "norm_after_backward", 'weight"], rstd,', 'weight"], rstd * rstd,', norm_after),
    (sublayer, "norm_after", 'a["x"] + n', "n", norm_after),
    (sublayer, "tile_backward", 'a["dy"] * scale', 'a["dy"]', scaled_tile),
    (head, "_scaled", "x * scale", "x", scaled_head),
    (ops, "swiglu_backward", "+ silu * (1.0 - sigma)", "", swiglu),
    (ops, "swiglu_backward", "dy * silu,", "dy * sigma,", swiglu),
    (ops, "momentum", "momentum * velocity +", "velocity +", momentum),
    (ops, "momentum", " + weight_decay * parameter", "", momentum),
    (ops, "momentum", "parameter - lr * velocity", "parameter - lr * gradient", momentum),
    (ops, "cross_entropy_tile", "dx * a +", "dx +", cross_entropy),
    (ops, "cross_entropy_tile", "lse - torch.log(a)", "lse + torch.log(a)", cross_entropy),
    (ops, "_tile_share", "z = z + padding", "pass", whole_head),
    (ops, "cross_entropy_backward", "dx / (1.0 - torch.exp(z_target - lse))", "dx", cross_entropy),
    (ops, "cross_entropy_backward", " - target_rows)", ")", cross_entropy),
    (ops, "cross_entropy_loss", "lse + torch.log(1.0 - torch.exp(z_target - lse))", "lse", cross_entropy),
    (ops, "cross_entropy_tile_loss", "lse - torch.log(a)", "lse", whole_head),
    (
        AttentionTile,
        "enter_backward",
        'ops.rope_backward(dx, a["rope.cos"], a["rope.sin"])',
        "dx",
        tile("attention"),
    ),
    (
        AttentionTile,
        "enter_backward",
        'self._normed_backward(a, "k", dk, projected[self._k])',
        "dk",
        normed_heads,
    ),
    (AttentionTile, "_normed_backward", "weight, rstd, ones", "weight, rstd * rstd, ones", normed_heads),
    (AttentionTile, "_normed_backward", "rows, weight, rstd", "dy.reshape(rows.shape), weight, rstd", normed_heads),
    (AttentionTile, "backward", '"k": dk, "v": dv', '"k": dv, "v": dk', tile("attention")),
    (
        sublayer,
        "tile_backward",
        "entered = middle.enter(a, projected)",
        "entered = middle.enter(a, {n: y - a.get(f'{n}.bias', 0) for n, y in projected.items()})",
        tile("attention"),
    ),
    (
        sublayer,
        "tile_backward",
        "entered = middle.enter(a, projected)",
        "entered = middle.enter(a, {n: y - a.get(f'{n}.bias', 0) for n, y in projected.items()})",
        tile("ffn"),
    ),
    (sublayer, "_into_backward", 'a[f"dh.{projection}"]) + dh', "0.0) + dh", tile("ffn")),
    (sublayer, "_into_backward", "dn = dn + ops", "dn = ops", tile("ffn")),
    (
        sublayer,
        "_out_of_backward",
        'dx + torch.mm(dh * a["lora_scale"], a[f"{projection}.lora_a"].t())',
        "dx",
        tile("ffn"),
    ),
    (sublayer, "_out_of_gradients", "summed + dlora_b", "dlora_b", tile("attention")),
    (sublayer, "norm_backward", 'a["dy"] + ops', "ops", whole_norm),
    (sublayer, "norm_backward", "dn = dn + dn_p", "pass", whole_norm),
    (sublayer, "norm_backward", 'a[f"grad.{p}.lora_a"] + dlora_a', "dlora_a", whole_norm),
    # With block inputs in float16 the tolerance is wider, and a real error is still beyond it.
    (ops, "swiglu_backward", "+ silu * (1.0 - sigma)", "", float16_model),
    (ops, "rmsnorm_backward", " - x * (rstd * rstd * rstd * mean)", "", float16_model),
    (block_inputs, "unpack_input", 'a["packed"]', 'a["packed"][[0, *range(rows - 1)]]', float16_model),
    (head, "head_end", "_scaled(plan, dn)", "_scaled(plan, -dn)", whole_head),
    (head, "head_end", 'a["loss"] + loss', "loss", whole_head),
    (head, "head_loss", 'a["loss"] + ops', "ops", whole_head),
    (head, "head_start", "return n, ops", "return n * 1.01, ops", whole_head),
    (ops, "adamw", "(gradient - m) * one_minus_beta1", "gradient * one_minus_beta1", adamw),
    (ops, "adamw", "gradient * gradient - v", "gradient - v", adamw),
    (ops, "adamw", " * rsqrt_correction2 + eps", " + eps", adamw),
    (ops, "adamw", " - parameter * lr_weight_decay", "", adamw),
    (autodiff, "_slice_backward", "[start, sizes[dim] - end]", "[sizes[dim] - end, start]", decompositions),
    (autodiff, "_pad", "before, x.shape", "0, x.shape", convolution_decompositions),
    (autodiff, "_power", "x * x * x", "x * x", decompositions),
    (autodiff._Decompositions, "_softmax_backward", "product - y *", "product +  y *", decompositions),
    (autodiff._Decompositions, "table", "grad * (y - y * y)", "grad * y", decompositions),
    (autodiff._Decompositions, "_sum", "total = torch.mm", "total = 2 * torch.mm", decompositions),
    (perturbation, "perturb", " * factor", "", mezo_estimate),
    (perturbation, "slope", 'a["loss_plus"] - a["loss_minus"]', 'a["loss_minus"] - a["loss_plus"]', mezo_estimate),
    (
        perturbation,
        "slope",
        'a["loss_plus"] + a["loss_minus"]',
        'a["loss_plus"] + a["loss_plus"] * 1.01',
        mezo_estimate,
    ),
    (perturbation, "estimate", 'a["noise"] * a["slope"].view(1)', 'a["noise"] + a["slope"].view(1)', mezo_estimate),
    (mezo.Mezo, "_draw", '{"layer": adapter.longest}', "{}", mezo_estimate),
    (StoreH, "place", '{"layer": size}', '{"layer": 0}', stored_h),
    (StoreH, "output_gradient", '"lora_b"', '"lora_a"', stored_h),
]


@pytest.mark.parametrize(
    ("module", "function", "right", "wrong", "check"), MUTATIONS, ids=[f"{m[1]}: {m[2]} -> {m[3]}" for m in MUTATIONS]
)
def test_a_mutation_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | type, function: str, right: str, wrong: str, check: Check
) -> None:
    source = dedent(inspect.getsource(getattr(module, function)))
    assert right in source, "the mutation no longer fits the code: write it anew"
    namespace = dict(vars(sys.modules[module.__module__] if isinstance(module, type) else module))
    exec(source.replace(right, wrong), namespace)
    check()
    monkeypatch.setattr(module, function, namespace[function])
    with pytest.raises(AssertionError, match="relative error"):
        check()
