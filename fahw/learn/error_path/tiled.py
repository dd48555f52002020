"""Tiled feedback of a convolution under a direct rule: the output error, the same at every pixel, through a kernel.

The error at the input is the transposed convolution of the tiled error with B, (outputs, channels, kernel height,
kernel width). Because the tiled error is constant, a pixel gets e times the sum of those taps of B that fall on an
output pixel there; pixels that the same taps reach are computed once. Source: BioTorch (Sanfiz and Akrout 2021), Conv2d
of its DFA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fahw.layers.weighted import Weighted
from fahw.learn.kernels.device import CPU


@dataclass(frozen=True)
class ConvolutionAxis:
    """A convolution along one axis of the image: the sizes of its input (`inside`) and output (`outside`) in pixels,
    and its settings."""

    inside: int
    outside: int
    kernel: int
    stride: int
    padding: int
    dilation: int


@dataclass(frozen=True, eq=False)
class Tiling:
    """Which taps of a kernel reach which pixels of an image. Rows of the image that the same taps reach are a class.

    `rows` (row classes, kernel height) and `columns` (column classes, kernel width) are 1 where a tap reaches a class,
    else 0, float64; `row_of`, `column_of`: the class of every input row and column.
    """

    rows: Tensor
    columns: Tensor
    row_of: Tensor
    column_of: Tensor

    def sums(self, kernel: Tensor) -> Tensor:
        """Sums over the taps that reach each class: `kernel` (..., kernel height, kernel width) gives (..., row
        classes, column classes)."""
        return self.rows.to(kernel.dtype) @ kernel @ self.columns.to(kernel.dtype).t()

    def spread(self, x: Tensor, dim: int = -2) -> Tensor:
        """The values of the classes, rows at axis `dim` and columns behind it, copied to every pixel of their class."""
        return x.index_select(dim, self.row_of).index_select(dim + 1, self.column_of)


@lru_cache(maxsize=512)
def tiling(height: ConvolutionAxis, width: ConvolutionAxis, device: torch.device = CPU) -> Tiling:
    """The tiling of an image with these two axes; its tensors lie on `device`."""
    (rows, row_of), (columns, column_of) = _classes(height), _classes(width)
    parts = _indicator(rows, height.kernel), _indicator(columns, width.kernel), row_of, column_of
    return Tiling(*(part.to(device) for part in parts))


def _classes(axis: ConvolutionAxis) -> tuple[list[tuple[int, ...]], Tensor]:
    """The distinct sets of taps that reach a pixel of the axis, and the index of each pixel's set."""
    class_of_taps: dict[tuple[int, ...], int] = {}
    class_of_pixel = []
    for pixel in range(axis.inside):
        offsets = [pixel + axis.padding - axis.dilation * tap for tap in range(axis.kernel)]
        taps = tuple(
            tap
            for tap, offset in enumerate(offsets)
            if offset % axis.stride == 0 and 0 <= offset // axis.stride < axis.outside
        )
        class_of_pixel.append(class_of_taps.setdefault(taps, len(class_of_taps)))
    return list(class_of_taps), torch.tensor(class_of_pixel)


def _indicator(sets: Sequence[tuple[int, ...]], size: int) -> Tensor:
    matrix = torch.zeros(len(sets), size, dtype=torch.float64)
    for row, taps in enumerate(sets):
        matrix[row, list(taps)] = 1
    return matrix


def axes(
    in_shape: Sequence[int], out_shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> tuple[ConvolutionAxis, ConvolutionAxis]:  # fmt: skip
    """The axes of a convolution, height and width; `in_shape` and `out_shape` end with their sizes."""
    height, width = zip(in_shape[-2:], out_shape[-2:], kernel, stride, padding, dilation, strict=True)
    return ConvolutionAxis(*height), ConvolutionAxis(*width)


def layer_tiling(layer: Weighted, device: torch.device) -> Tiling:
    """The tiling of a convolution's input image: of the padded one where the layer pads other than with zeros."""
    zeros = layer.padding_mode == "zeros"
    inside = layer.in_shape if zeros else [s + 2 * p for s, p in zip(layer.in_shape[1:], layer.padding, strict=True)]
    padding = layer.padding if zeros else (0, 0)
    return tiling(*axes(inside, layer.out_shape, layer.kernel, layer.stride, padding, layer.dilation), device)
