"""Convolution and pooling windows, in two orders of axes.

Integers lie as (channels, height, width, n): neighbouring samples are neighbours in memory, so that whatever moves by
windows moves in long runs. Floats lie as PyTorch has them, (n, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod

import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.layers.windows import Windowed


def im2col(x: Tensor, layer: Windowed) -> Tensor:
    """The windows of an image (channels, height, width, n) as a matrix (channels * kernel, positions * n): one row per
    channel and place of the kernel, one column per position and sample."""
    windows = _windows(padded(x, layer, 1) if layer.padding_mode != "zeros" else _padded(x, layer), layer)
    return windows.reshape(layer.in_shape[0] * prod(layer.kernel), -1)


def col2im(rows: Tensor, layer: Windowed) -> Tensor:
    """The adjoint of `im2col`: values summed where their windows lie, (channels, height, width, n)."""
    channels, height, width = layer.in_shape
    (kh, kw), (oh, ow) = layer.kernel, layer.out_shape[1:]
    if (oh, ow) == (1, 1) and layer.kernel == (height, width) and not any(layer.padding):
        return rows.view(channels, height, width, -1)
    n, (sh, sw), (dh, dw), (ph, pw) = rows.shape[1] // (oh * ow), layer.stride, layer.dilation, layer.padding
    parts = rows.view(channels, kh, kw, oh, ow, n)
    row_sums = rows.new_zeros((channels, kh, oh, width + 2 * pw, n))  # first summed along the rows of the image
    for column in range(kw):
        row_sums[:, :, :, dw * column : dw * column + sw * (ow - 1) + 1 : sw].add_(parts[:, :, column])
    below = rows.new_zeros((channels, height + 2 * ph, width + 2 * pw, n))
    for row in range(kh):
        below[:, dh * row : dh * row + sh * (oh - 1) + 1 : sh].add_(row_sums[:, row])
    return unpadded(below, layer, 1) if layer.padding_mode != "zeros" else _inside(below, layer)


def kernel_views(padded: Tensor, layer: Windowed) -> Iterator[Tensor]:
    """The pixels under each place of the kernel, in its order: views (channels, out height, out width, n)."""
    (kh, kw), (sh, sw), (oh, ow) = layer.kernel, layer.stride, layer.out_shape[1:]
    for row in range(0, kh * layer.dilation[0], layer.dilation[0]):
        for column in range(0, kw * layer.dilation[1], layer.dilation[1]):
            yield padded[:, row : row + sh * (oh - 1) + 1 : sh, column : column + sw * (ow - 1) + 1 : sw]


def max_pool(x: Tensor, layer: Windowed) -> tuple[Tensor, Tensor]:
    """The maxima of all windows, and which place of the kernel (int8; int16 for large kernels) has the first one."""
    padded = x
    if any(layer.padding):  # padded with what is below every word, so that no padding is a maximum
        padded = (
            _padded(x.to(torch.int16), layer, -(1 << 15)) if x.dtype == torch.int8 else _padded(x, layer, -(1 << 16))
        )
    first, *others = kernel_views(padded, layer)
    best = first.contiguous()
    argmax = torch.zeros_like(best, dtype=torch.int8 if prod(layer.kernel) <= 128 else torch.int16)
    for index, view in enumerate(others, 1):
        better = view.gt(best).view(torch.int8).to(argmax.dtype)
        torch.maximum(argmax, better.mul_(index), out=argmax)
        best = torch.maximum(best, view)
    return best.to(x.dtype), argmax


def max_pool_adjoint(error: Tensor, argmax: Tensor, layer: Windowed) -> Tensor:
    """The adjoint of `max_pool`: each value sent to the place of its maximum, summed where windows overlap."""
    overlapping = layer.stride[0] < layer.kernel[0] or layer.stride[1] < layer.kernel[1]
    below = _canvas(layer, error.to(_summed(error.dtype)) if overlapping else error)
    for index, view in enumerate(kernel_views(below, layer)):
        chosen = argmax.eq(index).view(torch.int8)
        if overlapping:
            view.add_(error * chosen)
        else:
            torch.mul(error, chosen, out=view) if error.dtype == torch.int8 else view.copy_(error * chosen)
    return _inside(below, layer)


def sum_pool(x: Tensor, layer: Windowed) -> Tensor:
    """The sum of every window of float words, (channels, out height, out width, n)."""
    return _windows(_padded(x, layer), layer).sum((1, 2))


def sum_pool_adjoint(x: Tensor, layer: Windowed) -> Tensor:
    """The adjoint of `sum_pool`: each value added to every pixel of its window, (channels, height, width, n)."""
    below = _canvas(layer, x)
    for view in kernel_views(below, layer):
        view.add_(x)
    return _inside(below, layer)


def spread_over_windows(x: Tensor, layer: Windowed) -> Tensor:
    """Each pooled value of (n, channels, ...) copied to its whole window, summed where windows overlap: floats shaped
    (n, channels, height, width)."""
    batch, channels = x.shape[:2]
    area = layer.kernel[0] * layer.kernel[1]
    rows = x.reshape(batch, channels, 1, -1).expand(-1, -1, area, -1).reshape(batch, channels * area, -1)
    height, width = layer.in_shape[1:]
    return tf.fold(rows, (height, width), layer.kernel, padding=layer.padding, stride=layer.stride)


def padded(x: Tensor, layer: Windowed, axis: int) -> Tensor:
    """Images, rows at `axis` and columns behind it, padded in the layer's mode with their own pixels."""
    rows, im2col = pad_sources(layer, x.device)
    return x.index_select(axis, rows).index_select(axis + 1, im2col)


def unpadded(x: Tensor, layer: Windowed, axis: int) -> Tensor:
    """The adjoint of `padded`: every pixel of the padding is added to the one that it copies."""
    for dim, sources, size in zip((axis, axis + 1), pad_sources(layer, x.device), layer.in_shape[1:], strict=True):
        shape = list(x.shape)
        shape[dim] = size
        x = x.new_zeros(shape).index_add_(dim, sources, x)
    return x


@cache
def pad_sources(layer: Windowed, device: torch.device) -> tuple[Tensor, Tensor]:
    """For every row and every column of the padded image, the row or column of the image that it copies."""
    sources = []
    for size, pad in zip(layer.in_shape[1:], layer.padding, strict=True):
        source = torch.arange(-pad, size + pad, device=device)
        if layer.padding_mode == "reflect":
            source = torch.where(source < 0, -source, torch.where(source >= size, 2 * (size - 1) - source, source))
        sources.append(source % size if layer.padding_mode == "circular" else source.clamp(0, size - 1))
    return sources[0], sources[1]


def _padded(x: Tensor, layer: Windowed, value: int = 0) -> Tensor:
    ph, pw = layer.padding
    return tf.pad(x, (0, 0, pw, pw, ph, ph), value=value) if ph or pw else x


def _inside(padded: Tensor, layer: Windowed) -> Tensor:
    """The image without its padding, contiguous."""
    (ph, pw), (height, width) = layer.padding, layer.in_shape[1:]
    return padded[:, ph : ph + height, pw : pw + width].contiguous()


def _canvas(layer: Windowed, like: Tensor) -> Tensor:
    """Zeros shaped as the padded input, for the samples and in the type of `like`."""
    (channels, height, width), (ph, pw) = layer.in_shape, layer.padding
    return like.new_zeros((channels, height + 2 * ph, width + 2 * pw, like.shape[-1]))


def _windows(padded: Tensor, layer: Windowed) -> Tensor:
    """All windows as a view (channels, kernel height, kernel width, out height, out width, n)."""
    channel, row, column, sample = padded.stride()
    (sh, sw), (dh, dw), (oh, ow) = layer.stride, layer.dilation, layer.out_shape[1:]
    shape = (len(padded), *layer.kernel, oh, ow, padded.shape[-1])
    strides = (channel, dh * row, dw * column, sh * row, sw * column, sample)
    return padded.as_strided(shape, strides, padded.storage_offset())


def _summed(dtype: torch.dtype) -> torch.dtype:
    """The type in which words of `dtype` are added."""
    return torch.int32 if dtype == torch.int8 else dtype
