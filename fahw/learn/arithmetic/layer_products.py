"""The exact integer products of a weighted layer, groups included; axes as in `fahw.learn.arithmetic.integer`."""

from __future__ import annotations

from functools import cache
from math import prod

import torch
from torch import Tensor

from fahw.layers.layer import Layer
from fahw.learn.kernels.matmul import Way, exact_matmul
from fahw.learn.kernels.windows import col2im, im2col


def outputs(layer: Layer, weight: Tensor, operand: Tensor, bound: int, way: Way | None) -> Tensor:
    """Weight (out, ...) times operand (inputs of one output, positions * n)."""
    rows = weight.flatten(1)
    if layer.groups == 1:
        return exact_matmul(rows, operand, bound, way)
    parts = zip(rows.chunk(layer.groups), operand.chunk(layer.groups), strict=True)
    return torch.cat([exact_matmul(x, y, bound, way) for x, y in parts])


def errors(layer: Layer, delta: Tensor, feedback: Tensor, bound: int, way: Way | None) -> Tensor:
    """Feedback^T (as the weight) times delta (out, ..., n), summed where windows overlap: (in, ..., n)."""
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
    return col2im(acc, layer) if layer.kind == "conv2d" else acc


@cache
def _backwards(layer: Layer) -> Layer | None:
    """The convolution that sends an error down as this one sends values up, of kernels turned by 180 degrees: products
    with long sums, and no windows to add up. None where strides or paddings forbid it, or where it has more to do."""
    if layer.kind != "conv2d" or layer.groups > 1 or layer.padding_mode != "zeros" or prod(layer.kernel) == 1:
        return None
    padding = layer.kernel[0] - 1 - layer.padding[0], layer.kernel[1] - 1 - layer.padding[1]
    larger = prod(layer.in_shape[1:]) > layer.positions
    if layer.stride != (1, 1) or layer.dilation != (1, 1) or min(padding) < 0 or larger:
        return None
    return Layer(layer.name, "conv2d", layer.out_shape, layer.in_shape, layer.kernel, (1, 1), padding)
