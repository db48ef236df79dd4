"""Attention as the middle of a sublayer. A tile is one key-value head with its query heads."""

from collections.abc import Mapping

from torch import Tensor

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import Attention, Rotary, Sublayer
from . import ops
from .arguments import constant, norm_weight
from .plan import Plan
from .program import Argument, Arguments


def mask_name(tokens: int) -> str:
    """The causal mask's tensor for sequences of this length: the one constant that is no prefix of a longer sequence's."""
    return f"causal_mask.{tokens}"


def rotary_names(rotary: Rotary) -> tuple[str, str]:
    """The tensors of its two tables, each [T, C / 2]."""
    return f"{rotary.name}.cos", f"{rotary.name}.sin"


class AttentionTile:
    """O = softmax(Q K^T / sqrt(C) + mask) V of normed and rotated Q and K, for one key-value head."""

    def __init__(self, plan: Plan, sublayer: Sublayer, middle: Attention):
        self._tokens, self._query_rows, self._sublayer = plan.tokens, plan.query_rows, sublayer
        self._norms = {"q": middle.q_norm, "k": middle.k_norm}
        self._G, self._C, self._rotary = middle.G, middle.C, middle.rotary
        self._q, self._k, self._v = (projection.name for projection in sublayer.into)

    def arguments(self, backward: bool) -> list[Argument]:
        half = (self._tokens, self._C // 2)
        cos, sin = rotary_names(self._rotary)
        mask = Reference(mask_name(self._tokens))
        norms = [norm_weight(norm, self._sublayer, f"{q}_norm.weight") for q, norm in self._norms.items() if norm]
        return [
            constant("rope.cos", *half, tensor=cos),
            constant("rope.sin", *half, tensor=sin),
            Argument("causal_mask", (self._query_rows, self._tokens), stored=mask),
            *([constant("ones", self._C, 1)] if backward or norms else []),
            *norms,
        ]

    def enter(self, a: Arguments, projected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """q [G, T, C] and k [T, C], both normed and rotated, and v [T, C]."""
        cos, sin = a["rope.cos"], a["rope.sin"]
        q, k = self._normed(a, "q", self._by_heads(projected[self._q])), self._normed(a, "k", projected[self._k])
        return {"q": ops.rope(q, cos, sin), "k": ops.rope(k, cos, sin), "v": projected[self._v]}

    def enter_backward(
        self, a: Arguments, gradients: Mapping[str, Tensor], projected: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        cos, sin = a["rope.cos"], a["rope.sin"]
        dq, dk = (ops.rope_backward(gradients[name], cos, sin) for name in ("q", "k"))
        dq = self._by_tokens(self._normed_backward(a, "q", dq, self._by_heads(projected[self._q])))
        return {self._q: dq, self._k: self._normed_backward(a, "k", dk, projected[self._k]), self._v: gradients["v"]}

    def forward(self, a: Arguments, entered: Mapping[str, Tensor]) -> Tensor:
        return self._by_tokens(ops.attention(entered["q"], entered["k"], entered["v"], a["causal_mask"]))

    def backward(self, a: Arguments, dx: Tensor, entered: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        q, k, v = entered["q"], entered["k"], entered["v"]
        dq, dk, dv, o = ops.attention_backward(self._by_heads(dx), q, k, v, a["causal_mask"], a["ones"])
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
