"""The products of a torch layer with weights, forward, backward and for its gradient, in float."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fahw.learn.error_path.tiled import axes, tiling
from fahw.prng import derive

Pair = tuple[int, int]
Layout = tuple[torch.Size, tuple[int, ...]]
"""Shape and strides of a tensor."""
Operand = Tensor | Layout
"""A tensor, or the layout of one that is not needed."""
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""The error at the input, the gradient of the weight and that of the bias; None for those not asked for."""


def layout_of(x: Tensor) -> Layout:
    """The layout of a tensor."""
    return x.shape, x.stride()


class Products(Protocol):
    """The products of a weighted layer; `x` has a batch axis and is padded already where the layer pads."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output."""

    def backward(self, g: Tensor, x: Operand, feedback: Operand, biased: bool) -> Gradients:
        """Given the error `g` at the output: the error sent down through the feedback if that is a tensor, the gradient
        of the weight if `x` is one, and that of the bias if `biased`."""


@dataclass(frozen=True)
class LinearProducts:
    """The products of a linear layer: x (..., in), weight (out, in), g (..., out)."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output, (..., out)."""
        return functional.linear(x, weight, bias)

    def backward(self, g: Tensor, x: Operand, feedback: Operand, biased: bool) -> Gradients:
        """See `Products.backward`; the error sent down is (..., in), the weight's gradient (out, in)."""
        rows = g.flatten(0, -2)
        down = g @ feedback if isinstance(feedback, Tensor) else None
        d_weight = rows.T @ x.flatten(0, -2) if isinstance(x, Tensor) else None
        return down, d_weight, rows.sum(0) if biased else None


@dataclass(frozen=True)
class ConvProducts:
    """The products of a two-dimensional convolution: x (n, in, h, w), weight (out, in / groups, kh, kw), g (n, out, h',
    w')."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output, (n, out, h', w')."""
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, g: Tensor, x: Operand, feedback: Operand, biased: bool) -> Gradients:
        """See `Products.backward`; the error sent down is (n, in, h, w), the weight's gradient shaped as the weight."""
        output_mask = [isinstance(feedback, Tensor), isinstance(x, Tensor), biased]
        # Strides too: from them torch concludes the memory format, and copies what has another.
        x, weight = (
            operand if isinstance(operand, Tensor) else g.new_empty_strided(*operand) for operand in (x, feedback)
        )
        options = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        gradients: Gradients = torch.ops.aten.convolution_backward(g, x, weight, [g.shape[1]], *options, output_mask)
        return gradients

    def tiled(self, rows: Tensor, kernel: Tensor, x_shape: torch.Size, out_shape: torch.Size) -> Tensor:
        """The error at the input, shaped as `x_shape`: the error rows (n, outputs), tiled over the output's pixels,
        sent down through `kernel` (outputs, in, kh, kw)."""
        sides = axes(x_shape, out_shape, kernel.shape[2:], self.stride, self.padding, self.dilation)
        tiles = tiling(*sides, kernel.device)
        sums = tiles.sums(kernel)
        return tiles.spread((rows @ sums.flatten(1)).view(len(rows), *sums.shape[1:]))


def through_two(products: Products, g: Tensor, narrow: Tensor, wide: Tensor, x: Layout) -> Tensor | None:
    """The error at the input, laid out as `x`, from that at the output, `g`: through the matrix `narrow` (out, rank)
    first, then through `wide` as `Products.backward` sends it."""
    if isinstance(products, ConvProducts):
        between = g.new_empty(len(g), len(wide), *g.shape[2:])
        pixelwise = ConvProducts((1, 1), (0, 0), (1, 1), products.groups)
        kernel = narrow.view(*narrow.shape, 1, 1)
        narrowed, *_ = pixelwise.backward(g, layout_of(between), kernel, False)
    else:
        narrowed = g @ narrow
    assert narrowed is not None
    return products.backward(narrowed, x, wide, False)[0]


def xavier_uniform(shape: tuple[int, ...], fans: float, like: Tensor, seed: int, *parts: int | str) -> Tensor:
    """Uniform numbers within sqrt(6 / fans), the same for the same seed and parts on every device."""
    generator = torch.Generator().manual_seed(derive(seed, *parts))
    bound = sqrt(6 / fans)
    drawn = torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
    return drawn.to(like.device, like.dtype)
