"""Convolution and pooling windows as rows of a matrix, and back."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as tf
from torch import Tensor
from torch.nn import grad

from fahw.learn.product import float32_magnitudes, matmul_flags, worst_cases
from fahw.network import Layer


def columns(x: Tensor, layer: Layer) -> Tensor:
    """(n, channels, height, width) to (n * positions, channels * kernel): one row per place of the kernel."""
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel, layer.stride, layer.padding
    padded = tf.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    windows = padded.unfold(2, kh, sh).unfold(3, kw, sw)
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * kh * kw)


def scatter(rows: Tensor, layer: Layer, batch: int) -> Tensor:
    """The adjoint of `columns`: float rows summed where their windows lie, (n, channels, height, width)."""
    folded = rows.view(batch, -1, rows.shape[1]).transpose(1, 2)
    height, width = layer.in_shape[1:]
    return tf.fold(folded, (height, width), layer.kernel, padding=layer.padding, stride=layer.stride)


def spread(x: Tensor, layer: Layer) -> Tensor:
    """Each pooled value into its whole window, summed where windows overlap: (n, channels, height, width)."""
    batch, channels = x.shape[:2]
    area = layer.kernel[0] * layer.kernel[1]
    rows = x.reshape(batch, channels, 1, -1).expand(-1, -1, area, -1).reshape(batch, channels * area, -1)
    height, width = layer.in_shape[1:]
    return tf.fold(rows, (height, width), layer.kernel, padding=layer.padding, stride=layer.stride)


def rows_of(x: Tensor) -> Tensor:
    """(n, channels, height, width) to (n * positions, channels)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def images_of(rows: Tensor, layer: Layer) -> Tensor:
    """The inverse of `rows_of` for the layer's output, contiguous."""
    channels, height, width = layer.out_shape
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()


def transposed(x: Tensor, kernel: Tensor, layer: Layer) -> Tensor:
    """What a convolution's output error sends to its input: (n, *in_shape) from (n, *out_shape) and floats W or B."""
    shape = (len(x), *layer.in_shape)
    below: Tensor = grad.conv2d_input(shape, kernel, x, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
    return below


def transposed_is_exact(layer: Layer, batch: int, bound: int) -> bool:
    """Whether `transposed` in float32 is exact on integers whose sums stay within `bound`; tried once per shape."""
    return bound < 1 << 24 and _tried(layer, batch, matmul_flags())


@cache
def _tried(layer: Layer, batch: int, flags: tuple[str, ...]) -> bool:
    terms = layer.weights // layer.in_shape[0]
    pairs = [
        pair
        for tops in float32_magnitudes(terms)
        for pair in worst_cases((batch, *layer.out_shape), layer.weight_shape, tops)
    ]
    return all(torch.equal(transposed(a.float(), b.float(), layer).double(), transposed(a, b, layer)) for a, b in pairs)
