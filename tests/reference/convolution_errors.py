"""The error of a convolution, made of the products of either form: unfolded by index, multiplied, and put in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fahw.layers.weighted import Weighted
from fahw.layers.window_axes import WindowAxis
from fahw.work.error_forms import ErrorForm, ErrorProduct

Words = NDArray[np.int64]
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""What numpy calls a padding."""


def sources(layer: Weighted) -> Words:
    """The pixel that every place of the padded image holds, -1 where it holds a zero."""
    _, height, width = layer.in_shape
    pixels = np.arange(height * width).reshape(height, width)
    padding = [(pad, pad) for pad in layer.padding]
    if layer.padding_mode == "zeros":
        return np.pad(pixels, padding, constant_values=-1)
    return np.pad(pixels, padding, mode=MODES[layer.padding_mode])


def forward_macs(layer: Weighted, samples: int) -> tuple[int, int]:
    """Multiply-accumulates of the forward pass, and those that take a zero of the padding."""
    where, (kernel_rows, kernel_columns) = sources(layer) < 0, layer.kernel
    padded = 0
    for row in range(kernel_rows):
        for column in range(kernel_columns):
            padded += int(_of_tap(where, layer, row, column).sum())
    return samples * layer.macs, samples * padded * layer.out_shape[0] * layer.in_shape[0] // layer.groups


def _of_tap(places: Words, layer: Weighted, row: int, column: int) -> Words:
    """What a tap meets in every window of a padded image `(height, width)`."""
    (_, rows, columns), (down, right), (across, along) = layer.out_shape, layer.stride, layer.dilation
    top, left = row * across, column * along
    picked: Words = places[top : top + (rows - 1) * down + 1 : down, left : left + (columns - 1) * right + 1 : right]
    return picked


def scattered(layer: Weighted, form: ErrorForm, weight: Words, error: Words) -> Words:
    """The error at the input from the one product of the scatter form: `(samples, channels, height, width)`."""
    (product,) = form.products
    m, n, k, groups = product.sizes
    samples, (rows, columns) = len(error), layer.kernel
    total = np.zeros((samples, layer.in_shape[0], layer.in_shape[1] * layer.in_shape[2]), np.int64)
    where, channels = sources(layer), layer.in_shape[0] // groups
    for group in range(groups):
        left = error[:, group * k : (group + 1) * k].transpose(0, 2, 3, 1).reshape(m, k)
        right = weight[group * k : (group + 1) * k].reshape(k, n)
        results = (left @ right).reshape(samples, layer.positions, channels, rows, columns)
        for row in range(rows):
            for column in range(columns):
                pixels = _of_tap(where, layer, row, column).ravel()
                for place in np.flatnonzero(pixels >= 0):
                    own = total[:, group * channels : (group + 1) * channels, pixels[place]]
                    own += results[:, place, :, row, column]
    return total.reshape(samples, *layer.in_shape)


def gathered(layer: Weighted, form: ErrorForm, weight: Words, error: Words) -> Words:
    """The error at the input from the products of the gather form: those of a border of copies added to the pixels."""
    copies = layer.padding if layer.padding_mode != "zeros" else (0, 0)
    channels, height, width = layer.in_shape
    places = np.zeros((len(error), channels, height + 2 * copies[0], width + 2 * copies[1]), np.int64)
    reached = np.zeros(places.shape[2:], np.int64)
    for product in form.products:
        rows, columns = product.places
        at = slice(rows.first, None, layer.stride[0]), slice(columns.first, None, layer.stride[1])
        places[:, :, *at] = _gathered_by(product, weight, error, channels)
        reached[at] += 1
    assert reached.max(initial=0) <= 1, "two products for a place"
    own = reached[copies[0] : copies[0] + height, copies[1] : copies[1] + width]
    assert (own == 0).sum() * len(error) * channels == form.zeros
    assert (reached.sum() - own.sum()) * len(error) * channels == form.added
    assert reached.sum() * len(error) * channels == form.results
    if layer.padding_mode == "zeros":
        return places
    total = np.zeros((len(error), channels, height * width), np.int64)
    for place, pixel in enumerate(sources(layer).ravel()):
        total[:, :, pixel] += places.reshape(len(error), channels, -1)[:, :, place]
    return total.reshape(len(error), channels, height, width)


def _gathered_by(product: ErrorProduct, weight: Words, error: Words, channels: int) -> Words:
    """The errors that one product yields: `(samples, channels, rows, columns)`."""
    m, n, k, groups = product.sizes
    rows, columns = product.places
    unfolded = _unfolded(error, rows.outputs, columns.outputs)  # samples, out, places, places, taps, taps
    kernel = weight[:, :, list(rows.taps)][:, :, :, list(columns.taps)]
    results = []
    for group in range(groups):
        out = slice(group * len(error[0]) // groups, (group + 1) * len(error[0]) // groups)
        left = unfolded[:, out].transpose(0, 2, 3, 1, 4, 5).reshape(m, k)
        right = kernel[out].transpose(0, 2, 3, 1).reshape(k, n)
        results.append((left @ right).reshape(len(error), rows.places, columns.places, n))
    return np.concatenate(results, axis=3).transpose(0, 3, 1, 2)


def _unfolded(values: Words, rows: WindowAxis, columns: WindowAxis) -> Words:
    """What the taps of all windows meet, zeros beyond the edges."""
    down, right = touched(rows), touched(columns)
    inside = ((down >= 0) & (down < rows.places))[:, None, :, None] & ((right >= 0) & (right < columns.places))[:, None]
    picked = values[:, :, down.clip(0, rows.places - 1)][..., right.clip(0, columns.places - 1)]
    # samples, channels, row windows, row taps, column windows, column taps
    return np.where(inside, picked.transpose(0, 1, 2, 4, 3, 5), 0)


def touched(axis: WindowAxis) -> Words:
    """The place of every tap of every window, also beyond the edges: `(windows, taps)`."""
    windows, taps = np.arange(axis.windows)[:, None], np.arange(axis.taps)
    return axis.start + windows * axis.stride + taps * axis.dilation
