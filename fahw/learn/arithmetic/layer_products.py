"""The exact integer products of a weighted layer, groups included; axes as in `fahw.learn.arithmetic.integer`.

A `bound` is the largest magnitude of a product, `way` forces a way to multiply.
"""

from __future__ import annotations

from functools import cache
from math import prod

import torch
from torch import Tensor

from fahw.layers.convolution import Conv2d
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.accumulator import Accumulator
from fahw.learn.error_path.tiled import layer_tiling
from fahw.learn.kernels.matmul import Way, exact_matmul
from fahw.learn.kernels.windows import col2im, im2col, unpadded
from fahw.learn.state.overflow import AccumulatorBounds
from fahw.learn.state.parameters import Gradient


def outputs(layer: Weighted, weight: Tensor, operand: Tensor, bound: int, way: Way | None) -> Tensor:
    """The product of weight (out, ...) and operand (inputs of one output, positions * n)."""
    rows = weight.flatten(1)
    if layer.groups == 1:
        return exact_matmul(rows, operand, bound, way)
    parts = zip(rows.chunk(layer.groups), operand.chunk(layer.groups), strict=True)
    return torch.cat([exact_matmul(x, y, bound, way) for x, y in parts])


def errors(layer: Weighted, delta: Tensor, feedback: Tensor, bound: int, way: Way | None) -> Tensor:
    """The product of feedback^T (as the weight) and delta (out, ..., n), summed where windows overlap: (in, ..., n)."""
    back = _backwards(layer)
    if back is not None:
        turned = feedback.flip(2, 3).transpose(0, 1).flatten(1)
        return exact_matmul(turned, im2col(delta.view(*back.in_shape, -1), back), bound, way)
    rows = delta.view(len(feedback), -1)
    if layer.groups == 1:
        acc = exact_matmul(feedback.flatten(1).t(), rows, bound, way)
    else:
        parts = zip(feedback.flatten(1).chunk(layer.groups), rows.chunk(layer.groups), strict=True)
        acc = torch.cat([exact_matmul(b.t(), d, bound, way) for b, d in parts])
    return col2im(acc, layer) if layer.convolutional else acc


def direct_errors(layer: Weighted, signal: Tensor, feedback: Tensor, bound: int, way: Way | None) -> Tensor:
    """The product of feedback^T and what is sent back from the output, or of the kernel and the tiled signal:
    (in, ..., n)."""
    if feedback.dim() == 2:
        return exact_matmul(feedback.t(), signal, bound, way)
    tiles = layer_tiling(layer, feedback.device)
    sums = tiles.sums(feedback.double())
    acc = exact_matmul(sums.flatten(1).t(), signal, bound, way)
    acc = tiles.spread(acc.view(*sums.shape[1:], -1), 1)
    return acc if layer.padding_mode == "zeros" else unpadded(acc, layer, 1)


class GradientSums:
    """The gradient sums of weighted layers, as the accumulators hold them: int32 or float. The next call for a layer
    may use their memory again."""

    def __init__(self, bounds: dict[str, AccumulatorBounds], accumulator: Accumulator, way: Way | None) -> None:
        self._bounds, self._accumulator, self._way = bounds, accumulator, way
        self._sums: dict[str, Tensor] = {}
        self._columns: dict[tuple[int, torch.dtype], Tensor] = {}

    def sums(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """Delta (out, ..., n) times operand^T, and the sums of delta over samples and positions."""
        bound = self._bounds[layer.name]
        rows = delta.view(delta.shape[0], -1)
        if layer.groups > 1:
            parts = zip(operand.chunk(layer.groups), rows.chunk(layer.groups), strict=True)
            acc = torch.cat([self._product(x, d.t(), bound.gradient).t() for x, d in parts])
        elif layer.convolutional:  # the longer side first, which is faster
            acc = self._product(operand, rows.t(), bound.gradient).t()
        else:
            acc = self._product(rows, operand.t(), bound.gradient, self._memory(layer, rows, operand))
        if not layer.bias:
            return Gradient(acc, None)
        return Gradient(acc, self._product(rows, self._ones(rows), bound.bias_gradient).view(-1))

    def _product(self, a: Tensor, b: Tensor, bound: int, out: Tensor | None = None) -> Tensor:
        """The exact product, wrapped where it can overflow the accumulator."""
        return self._accumulator.sums(exact_matmul(a, b, bound, self._way, out), bound)

    def _memory(self, layer: Weighted, rows: Tensor, operand: Tensor) -> Tensor | None:
        """Memory for the layer's sums, the same in every step; None where the product is not one of bytes."""
        if not rows.dtype == operand.dtype == torch.int8:
            return None
        if layer.name not in self._sums:
            self._sums[layer.name] = torch.empty(len(rows), len(operand), dtype=torch.int32, device=rows.device)
        return self._sums[layer.name]

    def _ones(self, rows: Tensor) -> Tensor:
        """A column that sums the rows."""
        key = rows.shape[1], rows.dtype
        if key not in self._columns:
            self._columns[key] = torch.ones(key[0], 1, dtype=key[1], device=rows.device)
        return self._columns[key]


@cache
def _backwards(layer: Weighted) -> Conv2d | None:
    """The convolution that sends an error down as this one sends values up, of kernels turned by 180 degrees: products
    with long sums, and no windows to add up. None where strides or paddings forbid it, or where it has more to do."""
    if not layer.convolutional or layer.groups > 1 or layer.padding_mode != "zeros" or prod(layer.kernel) == 1:
        return None
    padding = layer.kernel[0] - 1 - layer.padding[0], layer.kernel[1] - 1 - layer.padding[1]
    larger = prod(layer.in_shape[1:]) > layer.positions
    if layer.stride != (1, 1) or layer.dilation != (1, 1) or min(padding) < 0 or larger:
        return None
    return Conv2d(layer.name, (layer.out_shape,), layer.in_shape, kernel=layer.kernel, padding=padding)
