"""MeBP's backward pass of a block: by autodiff of the same forward programs that MeSP runs tile by tile.

The block's forward programs are put together into one function of its input and of the adapter's tensors. ``torch.func.vjp``
differentiates it, and the trace of both is one program, in which all of the block's intermediates are alive at once. That is what MeBP
(Memory-efficient Backpropagation) does on a phone: a checkpoint at each block's input, and the framework's own gradients inside.

The gradients come in operators that XNNPACK does not know; ``_Decompositions`` writes them in those it knows.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mesp.runtime.engine.schedule import Reference

from ..model.architecture import Layer
from .arguments import constant
from .plan import Plan
from .program import Argument, Arguments, OfAdapter, Program
from .sublayer import norm_after, norm_forward, tile_forward

aten = torch.ops.aten


class _Block:
    """A layer's forward programs in a row, and the arguments that all of them take, each once."""

    def __init__(self, plan: Plan, layer: Layer):
        self.inputs: dict[str, Argument] = {}
        self._scalars: dict[str, Argument] = {}
        self._calls: list[tuple[Program, dict[str, str], str]] = []
        zeros = constant("zeros", plan.tokens, plan.architecture.D)
        self._zeros = self._stored(zeros, 0).name if any(s.norm_after for s in layer) else None
        for sublayer in layer:
            self._add(norm_forward(plan, sublayer, plan.tokens))
            for group in plan.tiles(sublayer):
                for tile in range(group.count):
                    self._add(tile_forward(plan, sublayer, group), tile, "o" if sublayer.norm_after else "y")
            if sublayer.norm_after:
                self._add(norm_after(plan, sublayer, sublayer.norm_after, plan.tokens))

    def _add(self, program: Program, tile: int = 0, total: str = "y") -> None:
        """Adds a call; ``total`` is what the tiles of a sublayer add up to: the stream, or the sublayer's own output."""
        names = {}
        for argument in program.inputs:
            if argument.stored:
                names[argument.name] = self._stored(argument, tile).name
            elif argument.shape == (1,):
                names[argument.name] = self._scalars.setdefault(argument.name, argument).name
        self._calls.append((program, names, total))

    def _stored(self, argument: Argument, tile: int) -> Argument:
        """The argument for one tile. What differs by layer or tile gets a name of its own, and so do beginnings of one tensor."""
        assert argument.stored
        strides = dict(argument.stored.strides)
        place = Reference(argument.stored.tensor, argument.stored.offset + tile * strides.pop("tile", 0), strides)
        name = f"{place.tensor}.{place.offset}.{argument.name}" if argument.owner else argument.name
        if self.inputs.get(name, argument).shape != argument.shape:
            name = f"{name}.{argument.shape[0]}"
        return self.inputs.setdefault(name, replace(argument, name=name, stored=place))

    def arguments(self) -> list[Argument]:
        return [*self.inputs.values(), *self._scalars.values()]

    def run(self, x: Tensor, given: dict[str, Tensor]) -> Tensor:
        values = {"x": x, "y": x}
        for program, names, total in self._calls:
            known = {name: given[long] for name, long in names.items()}
            known |= {a.name: values[total if a.name == "y" else a.name] for a in program.inputs if a.name not in known}
            results = program.run(known)
            values |= {total if name == "y" else name: result for name, result in results.items()}
            if self._zeros and "n" in results:  # a sublayer begins
                values["o"] = given[self._zeros]
            values["x"] = values["y"]
        return values["y"]


def block_backward(plan: Plan, layer: Layer) -> Program:
    """From x, a layer's input, and dy at its output: dx at its input, and the gradients of the layer's adapter."""
    block, wide = _Block(plan, layer), (plan.tokens, plan.architecture.D)
    leaves = [argument for argument in block.arguments() if argument.stored and argument.stored.tensor == "adapter"]
    gradients = [_gradient(leaf) for leaf in leaves]
    inputs = (Argument("x", wide), Argument("dy", wide), *block.arguments())

    widths = {norm.width for sublayer in layer for norm in sublayer.norms}
    table = _Decompositions({plan.tokens, *widths}).table()

    def body(a: Arguments) -> tuple[Tensor, ...]:
        def forward(x: Tensor, *tensors: Tensor) -> Tensor:
            return block.run(x, {**a, **{leaf.name: t for leaf, t in zip(leaves, tensors, strict=True)}})

        result = torch.func.vjp(forward, a["x"], *[a[leaf.name] for leaf in leaves])
        return tuple(result[1](a["dy"]))

    outputs = (Argument("dx", wide, stored=Reference("dy")), *gradients)
    return Program(block_backward_name(plan, layer), inputs, outputs, body, table)


def block_backward_name(plan: Plan, layer: Layer) -> str:
    """What the program is called: where there are several kinds of layers, with the kind's number."""
    kinds = plan.architecture.kinds
    return "block_backward" if len(kinds) == 1 else f"block_backward_{kinds.index(layer)}"


def _gradient(leaf: Argument) -> Argument:
    """Where a leaf's gradient lies in the layer's vector: where the leaf lies in the adapter's."""
    assert leaf.stored and isinstance(leaf.owner, OfAdapter)
    stored, owner = replace(leaf.stored, tensor="gradient"), replace(leaf.owner, all_layers=False)
    return Argument(f"grad.{leaf.name}", leaf.shape, stored=stored, owner=owner)


# --- Autodiff's operators in those that XNNPACK has -----------------------------------------------------------------------


class _Decompositions:
    """The table, for tensors whose last axis is as long as one of ``lengths``."""

    def __init__(self, lengths: Iterable[int]):
        # Made before the trace, they are constants of it; made in it, they would be operators outside of the delegate.
        self._ones = {length: torch.ones(length, 1) for length in lengths}

    def table(self) -> dict[Any, Callable[..., Tensor]]:
        return {
            aten.sum.dim_IntList: self._sum,
            aten._softmax_backward_data.default: self._softmax_backward,
            aten.slice_backward.default: _slice_backward,
            aten.constant_pad_nd.default: _pad,
            aten.sigmoid_backward.default: lambda grad, y: grad * (y - y * y),
            aten.pow.Tensor_Scalar: _power,
            aten.mul.Scalar: lambda x, factor: x * factor,
        }

    def _sum(self, x: Tensor, dim: list[int], keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
        """Along the last axis: a product with a column of ones."""
        if [axis % x.dim() for axis in dim] != [x.dim() - 1]:
            raise NotImplementedError(f"A sum of {tuple(x.shape)} along {dim} has no form for XNNPACK.")
        total = torch.mm(x.reshape(-1, x.shape[-1]), self._ones[x.shape[-1]]).view(*x.shape[:-1], 1)
        return total if keepdim else total.view(x.shape[:-1])

    def _softmax_backward(self, grad: Tensor, y: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
        product = grad * y
        return product - y * self._sum(product, [dim], True)


def _slice_backward(grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """Zeros on both sides."""
    dim, end = dim % len(sizes), min(end, sizes[dim])
    return pad(grad, [0, 0] * (len(sizes) - 1 - dim) + [start, sizes[dim] - end])


def _pad(x: Tensor, sizes: list[int], value: float = 0.0) -> Tensor:
    """Of the derivative of padding, which is padding by negative sizes: a slice. Padding itself stays as it is."""
    if min(sizes) >= 0:
        return NotImplemented  # type: ignore[no-any-return]  # what a table of decompositions leaves as it is
    for place in range(len(sizes) // 2):
        dim, before, after = x.dim() - 1 - place, -sizes[2 * place], -sizes[2 * place + 1]
        if before or after:
            x = x.narrow(dim, before, x.shape[dim] - before - after)
    return x


def _power(x: Tensor, exponent: float) -> Tensor:
    """Of the derivative of 1 / sqrt."""
    if exponent != 3:
        raise NotImplementedError(f"A power of {exponent} has no form for XNNPACK.")
    return x * x * x
