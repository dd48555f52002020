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

from fahw.layers.layer import Layer
from fahw.learn.kernels.device import CPU


@dataclass(frozen=True)
class Axis:
    """A convolution along one axis of the image: sizes and settings."""

    inside: int
    outside: int
    kernel: int
    stride: int
    padding: int
    dilation: int


@dataclass(frozen=True, eq=False)
class Tiling:
    """Which taps reach which pixels. `rows` (row classes, kernel height) and `columns` hold 0 and 1, float64;
    `row_of`, `column_of`: the class of every input row and column."""

    rows: Tensor
    columns: Tensor
    row_of: Tensor
    column_of: Tensor

    def sums(self, kernel: Tensor) -> Tensor:
        """(..., kernel height, kernel width) to (..., row classes, column classes), summed over the taps that reach."""
        return self.rows.to(kernel.dtype) @ kernel @ self.columns.to(kernel.dtype).t()

    def spread(self, x: Tensor, dim: int = -2) -> Tensor:
        """Values of the classes, rows at `dim` and columns behind it, at every pixel."""
        return x.index_select(dim, self.row_of).index_select(dim + 1, self.column_of)


@lru_cache(maxsize=512)
def tiling(height: Axis, width: Axis, device: torch.device = CPU) -> Tiling:
    """Of an image."""
    (rows, row_of), (columns, column_of) = _classes(height), _classes(width)
    parts = _indicator(rows, height.kernel), _indicator(columns, width.kernel), row_of, column_of
    return Tiling(*(part.to(device) for part in parts))


def _classes(axis: Axis) -> tuple[list[tuple[int, ...]], Tensor]:
    """The distinct sets of taps that reach a pixel, and which one each pixel has."""
    found: dict[tuple[int, ...], int] = {}
    index = []
    for place in range(axis.inside):
        lowest = [place + axis.padding - axis.dilation * tap for tap in range(axis.kernel)]
        taps = tuple(
            tap for tap, at in enumerate(lowest) if at % axis.stride == 0 and 0 <= at // axis.stride < axis.outside
        )
        index.append(found.setdefault(taps, len(found)))
    return list(found), torch.tensor(index)


def _indicator(sets: Sequence[tuple[int, ...]], size: int) -> Tensor:
    matrix = torch.zeros(len(sets), size, dtype=torch.float64)
    for row, taps in enumerate(sets):
        matrix[row, list(taps)] = 1
    return matrix


def axes(
    in_shape: Sequence[int], out_shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> tuple[Axis, Axis]:  # fmt: skip
    """Height and width of a convolution; the shapes end with them."""
    height, width = zip(in_shape[-2:], out_shape[-2:], kernel, stride, padding, dilation, strict=True)
    return Axis(*height), Axis(*width)


def layer_tiling(layer: Layer, device: torch.device) -> Tiling:
    """Of a convolution's image, padded already where that is not with zeros."""
    zeros = layer.padding_mode == "zeros"
    inside = layer.in_shape if zeros else [s + 2 * p for s, p in zip(layer.in_shape[1:], layer.padding, strict=True)]
    padding = layer.padding if zeros else (0, 0)
    return tiling(*axes(inside, layer.out_shape, layer.kernel, layer.stride, padding, layer.dilation), device)
