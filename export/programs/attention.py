"""Attention as the middle of a sublayer. A tile is one key-value head with its query heads."""

from collections.abc import Mapping

from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import Attention, Rotary, Sublayer
from . import ops
from .arguments import constant, norm_weight
from .plan import Plan
from .program import Argument, Arguments


def window_of(attention: Attention, tokens: int) -> int | None:
    """Its window, if that hides any key of a sequence of so many tokens."""
    return attention.window if attention.window is not None and attention.window < tokens else None


def mask_name(tokens: int, window: int | None = None) -> str:
    """The mask's tensor for sequences of this length: the one constant that is no prefix of a longer sequence's."""
    return f"causal_mask.{tokens}" if window is None else f"causal_mask.{tokens}.{window}"


def rotary_names(rotary: Rotary) -> tuple[str, str]:
    """The tensors of its two tables, each [T, C / 2]."""
    return f"{rotary.name}.cos", f"{rotary.name}.sin"


class AttentionTile:
    """O = softmax(scale * Q K^T + mask) V of normed and rotated Q and K, for one key-value head."""

    def __init__(self, plan: Plan, sublayer: Sublayer, middle: Attention):
        self._tokens, self._sublayer = plan.tokens, sublayer
        self._norms = {"q": middle.q_norm, "k": middle.k_norm}
        self._G, self._C, self._rotary, self._scale = middle.G, middle.C, middle.rotary, middle.scale
        self._q, self._k, self._v = (columns.name for columns in sublayer.columns)
        self._window = window_of(middle, plan.tokens)
        self._mask = ops.mask_shape(plan.tokens, plan.query_rows, self._window)

    def arguments(self, backward: bool) -> list[Argument]:
        mask = Reference(mask_name(self._tokens, self._window))
        norms = [norm_weight(norm, self._sublayer, f"{q}_norm.weight") for q, norm in self._norms.items() if norm]
        return [
            *self._tables(),
            Argument("causal_mask", self._mask, stored=mask),
            *([constant("ones", self._C, 1)] if backward or norms else []),
            *norms,
        ]

    def _tables(self) -> list[Argument]:
        if not self._rotary:
            return []
        shape = (self._tokens, len(self._rotary.frequencies))
        names = zip(("rope.cos", "rope.sin"), rotary_names(self._rotary), strict=True)
        return [constant(name, *shape, tensor=tensor) for name, tensor in names]

    def enter(self, a: Arguments, projected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """q [G, T, C] and k [T, C], both normed and rotated, and v [T, C]."""
        q, k = self._normed(a, "q", self._by_heads(projected[self._q])), self._normed(a, "k", projected[self._k])
        if self._rotary:
            q, k = (ops.rope(x, a["rope.cos"], a["rope.sin"]) for x in (q, k))
        return {"q": q, "k": k, "v": projected[self._v]}

    def enter_backward(
        self, a: Arguments, gradients: Mapping[str, Tensor], projected: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        dq, dk = gradients["q"], gradients["k"]
        if self._rotary:
            dq, dk = (ops.rope_backward(dx, a["rope.cos"], a["rope.sin"]) for dx in (dq, dk))
        dq = self._by_tokens(self._normed_backward(a, "q", dq, self._by_heads(projected[self._q])))
        return {self._q: dq, self._k: self._normed_backward(a, "k", dk, projected[self._k]), self._v: gradients["v"]}

    def forward(self, a: Arguments, entered: Mapping[str, Tensor]) -> Tensor:
        q, k, v = entered["q"], entered["k"], entered["v"]
        return self._by_tokens(ops.attention(q, k, v, a["causal_mask"], self._scale, self._window))

    def backward(self, a: Arguments, dx: Tensor, entered: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        q, k, v, do = entered["q"], entered["k"], entered["v"], self._by_heads(dx)
        dq, dk, dv, o = ops.attention_backward(do, q, k, v, a["causal_mask"], a["ones"], self._scale, self._window)
        return {"q": dq, "k": dk, "v": dv}, self._by_tokens(o)

    def _normed(self, a: Arguments, name: str, x: Tensor) -> Tensor:
        """Queries or keys, [..., C], each head's by its RMSNorm, if they have one."""
        if not (norm := self._norms[name]):
            return x
        y, _ = ops.rmsnorm(x.reshape(-1, self._C), a[f"{name}_norm.weight"], a["ones"], norm.eps)
        return y.view(x.shape)

    def _normed_backward(self, a: Arguments, name: str, dy: Tensor, x: Tensor) -> Tensor:
        """rstd is counted again from x, as everything in a tile is."""
        if not (norm := self._norms[name]):
            return dy
        rows, weight, ones = x.reshape(-1, self._C), a[f"{name}_norm.weight"], a["ones"]
        _, rstd = ops.rmsnorm(rows, weight, ones, norm.eps)
        return ops.rmsnorm_backward(dy.reshape(-1, self._C), rows, weight, rstd, ones).view(x.shape)

    def _by_heads(self, x: Tensor) -> Tensor:
        """[T, G C] -> [G, T, C]"""
        return x.view(self._tokens, self._G, self._C).transpose(0, 1)

    def _by_tokens(self, x: Tensor) -> Tensor:
        """[G, T, C] -> [T, G C]"""
        return x.transpose(0, 1).reshape(self._tokens, self._G * self._C)
