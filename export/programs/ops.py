"""The maths: every operation's forward beside its backward.

Pure functions on plain tensors, in any floating-point precision. They are traced as they stand into the programs that
run on the phone, and checked in fp64 against autograd. Frozen weights get no gradient: there is no ``dweight`` anywhere.

Shapes, once for the whole package:

    T  tokens of the sequence        D  model width             V  vocabulary
    H  query heads                   K  key-value heads         G  query heads of one key-value head, H / K
    C  width of a head               F  feed-forward width      R  rank of the adapters

Layouts: activations are [tokens, width]; a frozen weight is [in, out], so that y = x W; the adapter's A is [in, R] and B is
[out, R], so that a slice of inputs (of A) or of outputs (of B) is a contiguous run of rows. PEFT keeps A transposed.

Two habits come from XNNPACK, which takes a program as one delegate only if every operator in it is one that it knows:
a sum over the last axis is a product with a column of ones (``ones``), and powers are written as products.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

# --- RMSNorm ----------------------------------------------------------------------------------------------------------


def rmsnorm(x: Tensor, weight: Tensor, ones: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps)   (Zhang and Sennrich, 2019)

    x [T, D], weight [D], ones [D, 1] -> y [T, D], rstd [T, 1]
    """
    rstd = torch.rsqrt(torch.mm(x * x, ones) * (1.0 / x.shape[-1]) + eps)
    return x * rstd * weight, rstd


def rmsnorm_backward(dy: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, ones: Tensor) -> Tensor:
    """dx = rstd * u - x * rstd^3 * mean(u * x), u = dy * weight

    The second term is the derivative of rstd itself: drstd/dx = -rstd^3 x / D.

    dy [T, D], x [T, D], weight [D], rstd [T, 1], ones [D, 1] -> dx [T, D]
    """
    u = dy * weight
    mean = torch.mm(u * x, ones) * (1.0 / x.shape[-1])
    return rstd * u - x * (rstd * rstd * rstd * mean)


# --- LoRA linear ------------------------------------------------------------------------------------------------------
#
# y = x W + bias + h B^T, h = scale * x A      (Hu et al., 2022; scale = alpha / R)
#
# Split in two, because a projection whose outputs are tiled shares one h between its tiles:
#   down: h = scale * x A           up: y = x W + bias + h B^T
# h is never kept for the backward pass: x is at hand there, and h is one thin product (MeSP, Park et al., 2026).


def lora_down(x: Tensor, lora_a: Tensor, scale: Tensor) -> Tensor:
    """h = scale * x A

    x [T, in], lora_a [in, R], scale [1] -> h [T, R]
    """
    return torch.mm(x, lora_a) * scale


def lora_down_backward(dh: Tensor, x: Tensor, lora_a: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """dx = scale * dh A^T, dA = scale * x^T dh

    dh [T, R], x [T, in], lora_a [in, R], scale [1] -> dx [T, in], dlora_a [in, R]
    """
    dh = dh * scale
    return torch.mm(dh, lora_a.t()), torch.mm(x.t(), dh)


def lora_up(
    x: Tensor, weight: Tensor, h: Tensor | None = None, lora_b: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """y = x W + h B^T + bias; without an adapter (h and lora_b None) a frozen linear layer.

    x [T, in], weight [in, out], h [T, R], lora_b [out, R], bias [out] -> y [T, out]
    """
    y = torch.mm(x, weight)
    if h is not None and lora_b is not None:
        y = y + torch.mm(h, lora_b.t())
    return y if bias is None else y + bias


def lora_up_backward(dy: Tensor, h: Tensor, lora_b: Tensor) -> tuple[Tensor, Tensor]:
    """dh = dy B, dB = dy^T h. (The other path, dx = dy W^T, is the frozen layer's own.)

    dy [T, out], h [T, R], lora_b [out, R] -> dh [T, R], dlora_b [out, R]
    """
    return torch.mm(dy, lora_b), torch.mm(dy.t(), h)


def linear_backward(dy: Tensor, weight: Tensor) -> Tensor:
    """dx = dy W^T

    dy [T, out], weight [in, out] -> dx [T, in]
    """
    return torch.mm(dy, weight.t())


# --- Rotary embedding -------------------------------------------------------------------------------------------------


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[y1, y2] = [x1 cos - x2 sin, x2 cos + x1 sin], x1 and x2 the halves of a head   (Su et al., 2021)

    Tables of fewer columns turn as many elements of a head as they have for both halves, the first ones, and leave the others.

    x [..., T, C], cos [T, C/2], sin [T, C/2] -> y [..., T, C]
    """
    x1, x2, rest = _halves(x, cos)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin, *rest], -1)


def _halves(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The halves of what a head is turned in, and what is left of it, if anything is."""
    half = table.shape[-1]
    if 2 * half == x.shape[-1]:
        return x[..., :half], x[..., half:], []
    return x[..., :half], x[..., half : 2 * half], [x[..., 2 * half :]]


def rope_backward(dy: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[dx1, dx2] = [dy1 cos + dy2 sin, dy2 cos - dy1 sin]: the rotation by the opposite angle, its transpose.

    dy [..., T, C], cos [T, C/2], sin [T, C/2] -> dx [..., T, C]
    """
    dy1, dy2, rest = _halves(dy, cos)
    return torch.cat([dy1 * cos + dy2 * sin, dy2 * cos - dy1 * sin, *rest], -1)


# --- Attention, one key-value head with its query heads ---------------------------------------------------------------
#
# S = scale * Q K^T + mask, P = softmax(S), O = P V, in blocks of query rows. A block that starts at row i ends at row j and sees keys
# 0 .. j only, so that no [T, T] matrix exists. With a window of w keys, its own among them, a row sees the last w alone: the block then
# takes keys i - w + 1 .. j, and no others are read.


def causal_mask(tokens: int, block: int, window: int | None = None) -> Tensor:
    """The masks of all blocks in one table, [block, tokens]: row i may see columns up to i + tokens - block, and of these the last ``window``.

    A block that sees fewer keys, or has fewer rows, takes the table's last ones: see ``_mask_of_block``.
    """
    _, columns = mask_shape(tokens, block, window)
    after = torch.arange(columns)[None, :] - torch.arange(block)[:, None] - (columns - block)
    hidden = after > 0
    if window is not None:
        hidden |= after <= -window
    return hidden.float() * -1e4


def mask_shape(tokens: int, block: int, window: int | None = None) -> tuple[int, int]:
    """Of ``causal_mask``: [block, tokens], or with a window only as many columns as a block can see."""
    return block, tokens if window is None else min(tokens, window + block - 1)


def _cut(x: Tensor, dim: int, start: int, end: int) -> Tensor:
    """x[start:end] along dim. A slice that takes all is traced as a copy that XNNPACK does not know, so it is left out."""
    return x if start == 0 and end == x.shape[dim] else x.narrow(dim, start, end - start)


def _mask_of_block(mask: Tensor, rows: int, keys: int) -> Tensor:
    block, columns = mask.shape
    return _cut(_cut(mask, 0, block - rows, block), 1, columns - keys, columns)


def _probabilities(
    q: Tensor, k: Tensor, mask: Tensor, scale: float, block: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Rows start .. end of Q of all heads, [G * rows, C], and their P, [G * rows, end - first], for the block's keys."""
    heads, _, width = q.shape
    first, start, end = block
    rows = _cut(q, 1, start, end).reshape(heads * (end - start), width)
    scores = torch.mm(rows, _cut(k, 0, first, end).t()).view(heads, end - start, end - first) * scale
    scores = scores + _mask_of_block(mask, end - start, end - first)
    return rows, torch.softmax(scores, -1).view(heads * (end - start), end - first)


def _blocks(tokens: int, block: int, window: int | None) -> list[tuple[int, int, int]]:
    """(first key, first row, end of both) of each block."""
    return [
        (0 if window is None else max(0, start - window + 1), start, min(start + block, tokens))
        for start in range(0, tokens, block)
    ]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, window: int | None = None) -> Tensor:
    """O = softmax(scale * Q K^T + mask) V

    q [G, T, C], k [T, C], v [T, C], mask from ``causal_mask`` of T, the block, and the window -> o [G, T, C]
    """
    outputs = []
    for block in _blocks(q.shape[1], mask.shape[0], window):
        first, start, end = block
        _, p = _probabilities(q, k, mask, scale, block)
        outputs.append(torch.mm(p, _cut(v, 0, first, end)).view(q.shape[0], end - start, q.shape[2]))
    return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]


def attention_backward(
    do: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    ones: Tensor,
    scale: float,
    window: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dV = P^T dO, dP = dO V^T, dS = scale * P * (dP - rowsum(dO * O)), dQ = dS K, dK = dS^T Q

    P and O are rebuilt block by block; rowsum(dP * P) = rowsum(dO * O) is FlashAttention's identity (Dao et al., 2022).
    dK and dV of a block cover the keys it saw: they are padded with zeros and summed.

    do [G, T, C], q [G, T, C], k [T, C], v [T, C], mask as in ``attention``, ones [C, 1]
    -> dq [G, T, C], dk [T, C], dv [T, C], and the rebuilt o [G, T, C], which the output projection's adapter needs
    """
    heads, tokens, width = q.shape
    dqs: list[Tensor] = []
    outputs: list[Tensor] = []
    dk: Tensor | None = None
    dv: Tensor | None = None
    for block in _blocks(tokens, mask.shape[0], window):
        first, start, end = block
        rows, p = _probabilities(q, k, mask, scale, block)
        o = torch.mm(p, _cut(v, 0, first, end))
        do_rows = _cut(do, 1, start, end).reshape(heads * (end - start), width)
        dp = torch.mm(do_rows, _cut(v, 0, first, end).t())
        ds = p * (dp - torch.mm(do_rows * o, ones)) * scale
        dqs.append(torch.mm(ds, _cut(k, 0, first, end)).view(heads, end - start, width))
        outputs.append(o.view(heads, end - start, width))
        dk_block = torch.mm(ds.t(), rows)
        dv_block = torch.mm(p.t(), do_rows)
        if end - first < tokens:
            outside = (0, 0, first, tokens - end)
            dk_block, dv_block = pad(dk_block, outside), pad(dv_block, outside)
        dk = dk_block if dk is None else dk + dk_block
        dv = dv_block if dv is None else dv + dv_block
    assert dk is not None and dv is not None
    if len(dqs) == 1:
        return dqs[0], dk, dv, outputs[0]
    return torch.cat(dqs, 1), dk, dv, torch.cat(outputs, 1)


# --- SwiGLU -----------------------------------------------------------------------------------------------------------


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """y = gate * sigmoid(gate) * up   (Shazeer, 2020)

    gate [T, F], up [T, F] -> y [T, F]
    """
    return gate * torch.sigmoid(gate) * up


def swiglu_backward(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dgate = dy * up * (sigma + silu * (1 - sigma)), dup = dy * silu; sigma = sigmoid(gate), silu = gate * sigma

    dy [T, F], gate [T, F], up [T, F] -> dgate [T, F], dup [T, F], and the rebuilt y [T, F] for the down projection's adapter
    """
    sigma = torch.sigmoid(gate)
    silu = gate * sigma
    return dy * up * (sigma + silu * (1.0 - sigma)), dy * silu, silu * up


# --- GeGLU ------------------------------------------------------------------------------------------------------------
#
# gelu(g) = g * (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (g + 0.044715 g^3), and (1 + tanh(u)) / 2 = sigmoid(2u): so GeGLU is SwiGLU with another
# argument of its sigmoid.

_GELU = 2 * (2 / math.pi) ** 0.5
_GELU_CUBIC = 0.044715


def _gelu_sigmoid(gate: Tensor) -> tuple[Tensor, Tensor]:
    """sigma = sigmoid(2u), and g^2"""
    square = gate * gate
    return torch.sigmoid(gate * (square * (_GELU * _GELU_CUBIC) + _GELU)), square


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """y = gelu(gate) * up, gelu by its approximation with tanh   (Hendrycks and Gimpel, 2016; Shazeer, 2020)

    gate [T, F], up [T, F] -> y [T, F]
    """
    sigma, _ = _gelu_sigmoid(gate)
    return gate * sigma * up


def geglu_backward(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dgate = dy * up * (sigma + gelu * (1 - sigma) * 2u'), dup = dy * gelu; 2u' = sqrt(8 / pi) * (1 + 3 * 0.044715 g^2)

    dy [T, F], gate [T, F], up [T, F] -> dgate [T, F], dup [T, F], and the rebuilt y [T, F] for the down projection's adapter
    """
    sigma, square = _gelu_sigmoid(gate)
    gelu = gate * sigma
    slope = square * (3 * _GELU * _GELU_CUBIC) + _GELU
    return dy * up * (sigma + gelu * (1.0 - sigma) * slope), dy * gelu, gelu * up


# --- Gated short convolution ------------------------------------------------------------------------------------------


def causal_convolution(u: Tensor, kernel: Tensor) -> Tensor:
    """v_t = sum_j k_j * u_(t - (L - 1) + j), each channel by its own kernel; zeros come before the first token

    u [T, W], kernel [L, W] -> v [T, W]
    """
    return _taps([u if by == 0 else pad(u[: u.shape[0] - by], (0, 0, by, 0)) for by in _delays(u, kernel)], kernel)


def causal_convolution_backward(dv: Tensor, kernel: Tensor) -> Tensor:
    """du_t = sum_j k_j * dv_(t + (L - 1) - j): the same from the other end

    dv [T, W], kernel [L, W] -> du [T, W]
    """
    return _taps([dv if by == 0 else pad(dv[by:], (0, 0, 0, by)) for by in _delays(dv, kernel)], kernel)


def _delays(x: Tensor, kernel: Tensor) -> range:
    """By how many tokens a tap reaches back; those that reach beyond the sequence read zeros alone and are left out."""
    return range(min(x.shape[0], kernel.shape[0]))


def _taps(delayed: list[Tensor], kernel: Tensor) -> Tensor:
    """The sum of x delayed by 0, 1, ..., each times its row of the kernel, whose last one belongs to no delay."""
    last = kernel.shape[0] - 1
    products = [x * _cut(kernel, 0, last - by, last - by + 1) for by, x in enumerate(delayed)]
    total = products[0]
    for product in products[1:]:
        total = total + product
    return total


def short_convolution(b: Tensor, c: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    """y = c * conv(b * x)   (Liquid AI, LFM2, 2025)

    b, c, x [T, W], kernel [L, W] -> y [T, W]
    """
    return c * causal_convolution(b * x, kernel)


def short_convolution_backward(
    dy: Tensor, b: Tensor, c: Tensor, x: Tensor, kernel: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dc = dy * conv(b * x), du = conv_backward(dy * c), db = du * x, dx = du * b; the kernel is frozen

    dy, b, c, x [T, W], kernel [L, W] -> db, dc, dx [T, W], and the rebuilt y [T, W] for the output projection's adapter
    """
    v = causal_convolution(b * x, kernel)
    du = causal_convolution_backward(dy * c, kernel)
    return du * x, dy * v, du * b, c * v


# --- Cross-entropy of a linear head, in one pass over tiles of the vocabulary -----------------------------------------
#
# loss = logsumexp(z) - z_t, z = x E^T; dx = softmax(z) E - E_t. The logits never exist whole. The state is
#   lse  log-sum-exp of the logits seen so far, with the target's counted once beforehand: it starts as z_t
#   dx   the rows of E seen so far, weighted by exp(z - lse); it starts as zero
# A tile appends lse to its logits as one more column: P = softmax([z, lse]) and its last column, a, is the share of what was
# there before. So the merge is the softmax itself. At the end the target has been counted twice: once too often.


def cross_entropy_start(x: Tensor, target_rows: Tensor, ones: Tensor) -> Tensor:
    """z_t = x . E_t

    x [T, D], target_rows E_t [T, D], ones [D, 1] -> z_t [T, 1]
    """
    return torch.mm(x * target_rows, ones)


def _tile_share(
    x: Tensor, rows: Tensor, scale: Tensor | None, padding: Tensor | None, lse: Tensor
) -> tuple[Tensor, Tensor]:
    """P = softmax([z, lse]) without its last column, and that, a. z = x rows^T * scale + padding.

    ``scale`` belongs to the rows of E: E = scale * rows. It multiplies z, and P, instead, which are smaller. ``padding`` is -1e4 for a row
    that is no word, else 0. a is kept above 1e-37, so a token's loss saturates at about 85 instead of overflowing.

    x [T, D], rows [v, D], scale [1, v] or None, padding [1, v] or None, lse [T, 1] -> P [T, v], a [T, 1]
    """
    z = torch.mm(x, rows.t())
    if scale is not None:
        z = z * scale
    if padding is not None:
        z = z + padding
    p, columns = torch.softmax(torch.cat([z, lse], 1), -1), rows.shape[0]
    return p[:, :columns], torch.clamp(p[:, columns:], min=1e-37)


def cross_entropy_tile(
    x: Tensor, rows: Tensor, scale: Tensor | None, padding: Tensor | None, lse: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """lse <- lse - log(a), dx <- a dx + P E, with P and a of ``_tile_share``.

    x [T, D], rows [v, D], scale [1, v] or None, padding [1, v] or None, lse [T, 1], dx [T, D] -> lse [T, 1], dx [T, D]
    """
    p, a = _tile_share(x, rows, scale, padding, lse)
    if scale is not None:
        p = p * scale
    return lse - torch.log(a), dx * a + torch.mm(p, rows)


def cross_entropy_tile_loss(
    x: Tensor, rows: Tensor, scale: Tensor | None, padding: Tensor | None, lse: Tensor
) -> Tensor:
    """lse <- lse - log(a), for a loss without a gradient. Shapes as ``cross_entropy_tile``."""
    _, a = _tile_share(x, rows, scale, padding, lse)
    return lse - torch.log(a)


def cross_entropy_loss(lse: Tensor, z_target: Tensor, token_weight: Tensor) -> Tensor:
    """Takes the extra count of the target out again: s = exp(z_t - lse), which is at most 1/2,
    loss = sum(token_weight * (lse + log(1 - s) - z_t))

    lse [T, 1], z_target [T, 1], token_weight [T, 1] -> loss [1, 1]
    """
    loss = lse + torch.log(1.0 - torch.exp(z_target - lse)) - z_target
    return torch.mm(token_weight.t(), loss)


def cross_entropy_backward(
    lse: Tensor, dx: Tensor, z_target: Tensor, target_rows: Tensor, token_weight: Tensor
) -> Tensor:
    """dx = token_weight * (dx / (1 - s) - E_t), with s of ``cross_entropy_loss``.

    lse [T, 1], dx [T, D], z_target [T, 1], target_rows [T, D], token_weight [T, 1] -> dx [T, D]
    """
    return (dx / (1.0 - torch.exp(z_target - lse)) - target_rows) * token_weight


# --- Gradient norm and optimizers -------------------------------------------------------------------------------------------------------


def square_sum(gradient: Tensor, total: Tensor, ones: Tensor, columns: int) -> Tensor:
    """total <- total + sum(g^2), in two products: along rows of ``columns``, which divides N, then along the rest.

    gradient [N], total [1, 1], ones [max(columns, N / columns), 1] -> total [1, 1]
    """
    squares = (gradient * gradient).view(-1, columns)
    rows = torch.mm(squares, _cut(ones, 0, 0, columns)).view(1, -1)
    return total + torch.mm(rows, _cut(ones, 0, 0, rows.shape[1]))


def sgd(parameter: Tensor, gradient: Tensor, lr: Tensor, weight_decay: Tensor) -> Tensor:
    """p <- p - lr * (g + weight_decay * p), as torch.optim.SGD

    parameter [N], gradient [N], lr [1], weight_decay [1] -> parameter [N]
    """
    return parameter - lr * (gradient + weight_decay * parameter)


def momentum(
    parameter: Tensor, gradient: Tensor, velocity: Tensor, lr: Tensor, weight_decay: Tensor, momentum: Tensor
) -> tuple[Tensor, Tensor]:
    """u <- momentum * u + g + weight_decay * p, p <- p - lr * u, as torch.optim.SGD with its defaults (no dampening, not Nesterov's)

    parameter [N], gradient [N], velocity [N], lr [1], weight_decay [1], momentum [1] -> parameter [N], velocity [N]
    """
    velocity = momentum * velocity + (gradient + weight_decay * parameter)
    return parameter - lr * velocity, velocity


def adamw(
    parameter: Tensor,
    gradient: Tensor,
    m: Tensor,
    v: Tensor,
    lr_weight_decay: Tensor,
    one_minus_beta1: Tensor,
    one_minus_beta2: Tensor,
    step_size: Tensor,
    rsqrt_correction2: Tensor,
    eps: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """m <- m + (g - m)(1 - beta1), v <- v + (g^2 - v)(1 - beta2),
    p <- p - lr weight_decay p - step_size m / (sqrt(v) rsqrt_correction2 + eps), as torch.optim.AdamW

    With t the number of this step: step_size = lr / (1 - beta1^t), rsqrt_correction2 = 1 / sqrt(1 - beta2^t). The scalars, all
    [1], are worked out in double precision by the caller (``mesp.runtime.optimizer``).

    parameter [N], gradient [N], m [N], v [N] -> parameter [N], m [N], v [N]
    """
    m = m + (gradient - m) * one_minus_beta1
    v = v + (gradient * gradient - v) * one_minus_beta2
    update = m / (torch.sqrt(v) * rsqrt_correction2 + eps)
    return parameter - parameter * lr_weight_decay - update * step_size, m, v
