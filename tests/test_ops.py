"""Each operation's backward against autograd of its forward, in fp64, in odd shapes; and each forward against PyTorch's own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mesp.export.programs import ops

from .checks import Draw, assert_close
from .tolerances import OP_FP64

Shape = tuple[int, ...]


def ones(length: int) -> Tensor:
    return torch.ones(length, 1, dtype=torch.float64)


def gradients(y: Tensor, dy: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, dy)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.requires_grad_()


def check_rmsnorm(tokens: int, width: int) -> None:
    draw = Draw()
    x, weight, dy, eps = leaf(draw(tokens, width)), draw(width), draw(tokens, width), 1e-5
    y, rstd = ops.rmsnorm(x, weight, ones(width), eps)
    assert_close(y.detach(), F.rms_norm(x.detach(), (width,), weight, eps), OP_FP64, "rmsnorm")
    (dx,) = gradients(y, dy, x)
    assert_close(
        ops.rmsnorm_backward(dy, x.detach(), weight, rstd.detach(), ones(width)), dx, OP_FP64, "rmsnorm_backward"
    )


def check_lora(tokens: int, inputs: int, outputs: int, rank: int) -> None:
    """down and up together are the LoRA linear layer."""
    draw = Draw()
    x, weight, bias = leaf(draw(tokens, inputs)), draw(inputs, outputs), draw(outputs)
    a, b, scale = leaf(draw(inputs, rank)), leaf(draw(outputs, rank)), torch.tensor([1.7], dtype=torch.float64)
    dy = draw(tokens, outputs)
    y = ops.lora_up(x, weight, ops.lora_down(x, a, scale), b, bias)
    reference = F.linear(x, weight.t(), bias) + 1.7 * F.linear(F.linear(x, a.t()), b)
    assert_close(y.detach(), reference.detach(), OP_FP64, "lora forward")
    dx, da, db = gradients(reference, dy, x, a, b)
    with torch.no_grad():
        dh, our_db = ops.lora_up_backward(dy, ops.lora_down(x, a, scale), b)
        dx_lora, our_da = ops.lora_down_backward(dh, x, a, scale)
        our_dx = ops.linear_backward(dy, weight) + dx_lora
    for name, ours, theirs in (("dx", our_dx, dx), ("dlora_a", our_da, da), ("dlora_b", our_db, db)):
        assert_close(ours, theirs, OP_FP64, name)


def check_rope(heads: int, tokens: int, width: int, half: int) -> None:
    """Of 2 * half elements of a head."""
    draw = Draw()
    x, dy, angle = leaf(draw(heads, tokens, width)), draw(heads, tokens, width), draw(tokens, half)
    cos, sin = angle.cos(), angle.sin()
    y = ops.rope(x, cos, sin)
    turned = x[..., : 2 * half]
    rotated = torch.cat([-turned[..., half:], turned[..., :half]], -1)  # transformers' rotate_half
    reference = turned * torch.cat([cos, cos], -1) + rotated * torch.cat([sin, sin], -1)
    reference = torch.cat([reference, x[..., 2 * half :]], -1)
    assert_close(y.detach(), reference.detach(), OP_FP64, "rope")
    (dx,) = gradients(reference, dy, x)
    assert_close(ops.rope_backward(dy, cos, sin), dx, OP_FP64, "rope_backward")


def check_attention(heads: int, tokens: int, width: int, block: int, window: int | None = None) -> None:
    draw, scale = Draw(), 0.7
    q, k, v, do = (
        leaf(draw(heads, tokens, width)),
        leaf(draw(tokens, width)),
        leaf(draw(tokens, width)),
        draw(heads, tokens, width),
    )
    mask = ops.causal_mask(tokens, min(block, tokens), window).double()
    o = ops.attention(q, k, v, mask, scale, window)
    back = torch.arange(tokens)[:, None] - torch.arange(tokens)[None, :]
    seen = (back >= 0) & (back < (window or tokens))
    every = (k.expand(heads, -1, -1), v.expand(heads, -1, -1))
    reference = F.scaled_dot_product_attention(q, *every, attn_mask=seen, scale=scale)
    assert_close(o.detach(), reference.detach(), OP_FP64, "attention")
    with torch.no_grad():
        *ours, rebuilt = ops.attention_backward(do, q, k, v, mask, ones(width), scale, window)
    for name, our, their in zip(("dq", "dk", "dv"), ours, gradients(reference, do, q, k, v), strict=True):
        assert_close(our, their, OP_FP64, name)
    assert_close(rebuilt, o.detach(), OP_FP64, "rebuilt o")


def check_swiglu(tokens: int, width: int) -> None:
    check_gated(tokens, width, F.silu, ops.swiglu, ops.swiglu_backward)


def check_geglu(tokens: int, width: int) -> None:
    def gelu(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    check_gated(tokens, width, gelu, ops.geglu, ops.geglu_backward)


def check_gated(
    tokens: int,
    width: int,
    activation: Callable[[Tensor], Tensor],
    forward: Callable[[Tensor, Tensor], Tensor],
    backward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
) -> None:
    draw = Draw()
    gate, up, dy = leaf(draw(tokens, width)), leaf(draw(tokens, width)), draw(tokens, width)
    reference = activation(gate) * up
    assert_close(forward(gate, up).detach(), reference.detach(), OP_FP64, "gated")
    with torch.no_grad():
        our_dgate, our_dup, rebuilt = backward(dy, gate, up)
    dgate, dup = gradients(reference, dy, gate, up)
    for name, ours, theirs in (
        ("dgate", our_dgate, dgate),
        ("dup", our_dup, dup),
        ("rebuilt y", rebuilt, reference.detach()),
    ):
        assert_close(ours, theirs, OP_FP64, name)


def check_short_convolution(tokens: int, width: int, taps: int) -> None:
    draw = Draw()
    b, c, x, dy, kernel = *(leaf(draw(tokens, width)) for _ in range(3)), draw(tokens, width), draw(taps, width)
    padded = F.pad((b * x).t(), (taps - 1, 0))
    reference = c * F.conv1d(padded[None], kernel.t()[:, None], groups=width)[0].t()
    y = ops.short_convolution(b, c, x, kernel)
    assert_close(y.detach(), reference.detach(), OP_FP64, "short convolution")
    with torch.no_grad():
        *ours, rebuilt = ops.short_convolution_backward(dy, b, c, x, kernel)
    for name, our, their in zip(("db", "dc", "dx"), ours, gradients(reference, dy, b, c, x), strict=True):
        assert_close(our, their, OP_FP64, name)
    assert_close(rebuilt, reference.detach(), OP_FP64, "rebuilt y")


def check_cross_entropy(tokens: int, width: int, vocabulary: int, tile: int, scaled: bool) -> None:
    draw = Draw()
    x, rows = leaf(draw(tokens, width)), draw(vocabulary, width)
    scale = draw(vocabulary).abs() if scaled else None
    table = rows if scale is None else rows * scale[:, None]
    targets = torch.randint(vocabulary, (tokens,), generator=draw.generator)
    weight = draw(tokens, 1).abs()
    weight[0] = 0  # a masked token
    reference = (F.cross_entropy(x @ table.t(), targets, reduction="none") * weight[:, 0]).sum()
    (dx,) = gradients(reference, torch.ones((), dtype=torch.float64), x)
    with torch.no_grad():
        z_target = ops.cross_entropy_start(x, table[targets], ones(width))
        lse, our_dx = z_target, torch.zeros_like(x)
        for start in range(0, vocabulary, tile):
            part = slice(start, min(start + tile, vocabulary))
            part_scale = None if scale is None else scale[None, part]
            lse, our_dx = ops.cross_entropy_tile(x, rows[part], part_scale, None, lse, our_dx)
        loss = ops.cross_entropy_loss(lse, z_target, weight)
        our_dx = ops.cross_entropy_backward(lse, our_dx, z_target, table[targets], weight)
    assert_close(loss, reference.detach().view(1, 1), OP_FP64, "loss")
    assert_close(our_dx, dx, OP_FP64, "dx")


def check_sgd(size: int) -> None:
    draw = Draw()
    start, gradient = draw(size), draw(size)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([parameter], lr=0.3, weight_decay=0.1)
    parameter.grad = gradient
    optimizer.step()
    lr, decay = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    assert_close(ops.sgd(start, gradient, lr, decay), parameter.detach(), OP_FP64, "sgd")


def check_momentum(size: int) -> None:
    draw = Draw()
    ours = draw(size)
    parameter, velocity = torch.nn.Parameter(ours.clone()), torch.zeros_like(ours)
    optimizer = torch.optim.SGD([parameter], lr=0.3, weight_decay=0.1, momentum=0.8)
    scalars = [torch.tensor([value], dtype=torch.float64) for value in (0.3, 0.1, 0.8)]
    for step in range(1, 4):
        parameter.grad = draw(size)
        ours, velocity = ops.momentum(ours, parameter.grad, velocity, *scalars)
        optimizer.step()
        assert_close(ours, parameter.detach(), OP_FP64, f"momentum, step {step}")


def check_adamw(size: int) -> None:
    from mesp.runtime.training.optimizer import LearningRate, Optimizer

    draw = Draw()
    ours = draw(size)
    parameter = torch.nn.Parameter(ours.clone())
    settings = Optimizer("adamw", LearningRate(0.01), weight_decay=0.1)
    optimizer = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.1)
    m, v = torch.zeros_like(ours), torch.zeros_like(ours)
    for step in range(1, 5):
        parameter.grad = draw(size)
        scalars = {name: torch.tensor([value], dtype=torch.float64) for name, value in settings.scalars(step).items()}
        ours, m, v = ops.adamw(ours, parameter.grad, m, v, **scalars)
        optimizer.step()
        assert_close(ours, parameter.detach(), OP_FP64, f"adamw, step {step}")


def check_square_sum(size: int, columns: int) -> None:
    gradient, total = Draw()(size), torch.tensor([[2.5]], dtype=torch.float64)
    ours = ops.square_sum(gradient, total, ones(max(columns, size // columns)), columns)
    assert_close(ours, (2.5 + gradient.square().sum()).view(1, 1), OP_FP64, "square_sum")


Case = tuple[Callable[..., None], tuple[int, ...]]

CASES: list[Case] = [
    (check_rmsnorm, (5, 12)),
    (check_rmsnorm, (1, 7)),
    (check_lora, (5, 12, 9, 3)),
    (check_lora, (3, 4, 17, 1)),
    (check_rope, (2, 5, 8, 4)),
    (check_rope, (1, 3, 2, 1)),
    (check_rope, (2, 5, 8, 3)),
    (check_attention, (3, 7, 4, 3)),
    (check_attention, (1, 8, 6, 4)),
    (check_attention, (2, 5, 2, 16)),
    (check_attention, (2, 9, 4, 1)),
    (check_attention, (3, 13, 4, 5, 4)),
    (check_attention, (2, 9, 4, 4, 2)),
    (check_attention, (2, 9, 4, 16, 3)),
    (check_attention, (1, 9, 4, 2, 8)),
    (check_swiglu, (5, 11)),
    (check_geglu, (5, 11)),
    (check_short_convolution, (7, 5, 3)),
    (check_short_convolution, (2, 5, 4)),
    (check_short_convolution, (1, 3, 1)),
    (check_cross_entropy, (6, 5, 13, 4, False)),
    (check_cross_entropy, (6, 5, 13, 4, True)),
    (check_cross_entropy, (3, 4, 8, 8, True)),
    (check_sgd, (13,)),
    (check_momentum, (13,)),
    (check_adamw, (13,)),
    (check_square_sum, (24, 4)),
    (check_square_sum, (13, 1)),
]


@pytest.mark.parametrize(("check", "shape"), CASES, ids=[f"{check.__name__}-{shape}" for check, shape in CASES])
def test_op(check: Callable[..., None], shape: Shape) -> None:
    check(*shape)


def test_a_loss_too_large_to_hold_saturates_instead_of_overflowing() -> None:
    x = torch.tensor([[200.0]])
    lse, dx = ops.cross_entropy_tile(x, torch.tensor([[1.0], [0.0]]), None, None, torch.zeros(1, 1), torch.zeros(1, 1))
    assert torch.isfinite(lse).all() and torch.isfinite(dx).all()
    assert 80 < lse.item() < 90


@pytest.mark.parametrize(("tokens", "block", "window"), [(40, 8, 5), (40, 8, 33), (13, 5, 4)])
def test_keys_outside_of_the_window_are_not_computed(tokens: int, block: int, window: int) -> None:
    """No block has a score for more keys than its rows can see together."""
    _, columns = ops.causal_mask(tokens, block, window).shape
    assert columns == min(tokens, window + block - 1)
    for first, start, end in ops._blocks(tokens, block, window):
        assert first == max(0, start - window + 1) and end == min(start + block, tokens)
    assert ops._blocks(tokens, block, None) == [(0, start, end) for _, start, end in ops._blocks(tokens, block, window)]
