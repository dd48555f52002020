"""Convolution and pooling windows as rows of a matrix, and back."""

from __future__ import annotations

import torch.nn.functional as tf
from torch import Tensor

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
