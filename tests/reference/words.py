"""What the slow integer step is made of: roundings, windows, and the batch norm in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fahw.layers.layer import Layer
from fahw.network.recipe import Tuning
from fahw.optimizers import OPTIMIZERS

Words = NDArray[np.int64]
Reals = NDArray[np.float64]


def shift_nearest(acc: Words, shift: int) -> Words:
    """acc / 2^shift, ties to even."""
    if shift <= 0:
        return acc << min(-shift, 30)
    shift = min(shift, 60)
    floor = acc >> shift
    rest, half = acc - (floor << shift), 1 << (shift - 1)
    up = (rest > half) | ((rest == half) & (floor % 2 == 1))
    result: Words = floor + up.astype(np.int64)
    return result


def value_range(bits: int) -> tuple[int, int]:
    """Lowest and highest word."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def saturate(q: Words, bits: int) -> Words:
    """Into that range; one bit keeps the sign, zero counting as plus."""
    return np.where(q >= 0, 1, -1) if bits == 1 else np.clip(q, *value_range(bits))


def reciprocal(layer: Layer) -> int:
    """Of a window's area, in 16 fraction bits."""
    return round(2**16 / (layer.kernel[0] * layer.kernel[1]))


def windows(layer: Layer) -> Iterator[tuple[int, int, Words]]:
    """Row and column of every output position, and the flat input indices of its window, -1 in the padding:
    `(channels, kernel height, kernel width)` for conv2d, `(channels, kernel area)` for pooling."""
    channels, height, width = layer.in_shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel, layer.stride, layer.padding, layer.dilation
    for row in range(layer.out_shape[1]):
        for column in range(layer.out_shape[2]):
            where = np.full((channels, kh, kw), -1, np.int64)
            for i in range(kh):
                for j in range(kw):
                    y = _source(row * sh - ph + i * dh, height, layer.padding_mode)
                    x = _source(column * sw - pw + j * dw, width, layer.padding_mode)
                    if y >= 0 and x >= 0:
                        where[:, i, j] = (np.arange(channels) * height + y) * width + x
            yield row, column, where if layer.kind == "conv2d" else where.reshape(channels, kh * kw)


def _source(place: int, size: int, mode: str) -> int:
    """The pixel that a place inside or beside an image of `size` shows; -1 where it shows none."""
    if mode == "zeros":
        return place if 0 <= place < size else -1
    if mode == "circular":
        return place % size
    if mode == "replicate":
        return min(max(place, 0), size - 1)
    return -place if place < 0 else 2 * size - 2 - place if place >= size else place


def per_output(layer: Layer, window: Words) -> Words:
    """What every output channel reads of a window `(channels, ...)`: `(out, channels of its group, ...)`."""
    parts = window.reshape(layer.groups, -1, *window.shape[1:])
    return np.repeat(parts, layer.out_shape[0] // layer.groups, axis=0)


@dataclass
class Norm:
    """A batch norm's memories in float64: scale, shift, their velocities; running means and variances."""

    scale: Reals
    shift: Reals
    scale_velocity: Reals
    shift_velocity: Reals
    mean: Reals
    variance: Reals
    scale_square: Reals
    shift_square: Reals
    together: int
    """Samples of a micro-batch, each of which is normalised by itself."""
    kept: list[tuple[Reals, Reals]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, layer: Layer, together: int) -> Norm:
        """Before training."""
        one, zero = np.ones(layer.in_shape[0]), np.zeros(layer.in_shape[0])
        return cls(one, zero, zero, zero, zero, one, zero, zero, together)

    def forward(self, x: Words, units: tuple[float, float], training: bool) -> Reals:
        """Words `(n, channels, ...)` before rounding; `units` are what a word counts, read and written."""
        if not training:
            return self._applied(x, self.mean / units[0], 1 / np.sqrt(self.variance + 1e-5), units)
        self.kept = []
        return np.concatenate([self._trained(part, units) for part in self._micro_batches(x)])

    def backward(self, x: Words, error: Words, unit: float) -> tuple[Reals, Reals, Reals]:
        """The error before the norm in words before rounding, and the sums for scale and shift in the error's words."""
        below, along, total = [], np.zeros(x.shape[1]), np.zeros(x.shape[1])
        parts = zip(self._micro_batches(x), self._micro_batches(error), self.kept, strict=True)
        for part, part_error, (mean, inverse) in parts:
            exact, part_along, part_total = self._sent(part, part_error, unit, mean, inverse)
            below.append(exact)
            along, total = along + part_along, total + part_total
        return np.concatenate(below), along, total

    def _micro_batches(self, x: Words) -> list[Words]:
        return [x[start : start + self.together] for start in range(0, len(x), self.together)]

    def _trained(self, x: Words, units: tuple[float, float]) -> Reals:
        unit, axes, count = units[0], _axes(x), x.size // x.shape[1]
        mean = x.sum(axes) / count
        variance = np.maximum((x * x).sum(axes) / count - mean * mean, 0) * (unit * unit)
        inverse = 1 / np.sqrt(variance + 1e-5)
        self.mean = self.mean * 0.9 + mean * unit * 0.1
        self.variance = self.variance * 0.9 + variance * (count / max(1, count - 1)) * 0.1
        self.kept.append((mean, inverse))
        return self._applied(x, mean, inverse, units)

    def _applied(self, x: Words, mean: Reals, inverse: Reals, units: tuple[float, float]) -> Reals:
        (unit, out), gain = units, self.scale * inverse
        a, b = gain * (unit * (1 / out)), (self.shift - gain * (mean * unit)) * (1 / out)
        return x * _wide(a, x) + _wide(b, x)

    def _sent(
        self, x: Words, error: Words, unit: float, mean: Reals, inverse: Reals
    ) -> tuple[Reals, Reals, Reals]:  # fmt: skip
        axes, count = _axes(x), x.size // x.shape[1]
        total = error.sum(axes).astype(np.float64)
        along = ((error * x).sum(axes) - mean * total) * (inverse * unit)
        gain = self.scale * inverse
        slope = gain * (inverse * unit) * (along / count)
        start = slope * mean - gain * (total / count)
        return error * _wide(gain, x) - x * _wide(slope, x) + _wide(start, x), along, total

    def update(self, scale: Reals, shift: Reals, tuning: Tuning, rate: float, batch_size: int, step: int) -> None:
        """By the optimizer in float64."""
        unit, optimizer = RealUnit(tuning, batch_size), OPTIMIZERS[tuning.optimizer]
        factor = rate / batch_size if optimizer.linear else rate
        for name, gradient in (("scale", scale), ("shift", shift)):
            if tuning.clip is not None:
                gradient = np.clip(gradient, -tuning.clip * batch_size, tuning.clip * batch_size)
            fields = [f"{name}_velocity", f"{name}_square"][: optimizer.states]
            way, new = optimizer.direction(unit, gradient, [getattr(self, field) for field in fields], step)
            for field, value in zip(fields, new, strict=True):
                setattr(self, field, value)
            setattr(self, name, getattr(self, name) - way * factor)


class RealUnit:
    """`fahw.optimizers.Unit` in float64; momentum has 8 fraction bits unless the optimizer is a float one."""

    def __init__(self, tuning: Tuning, batch_size: int) -> None:
        self.momentum, self.second_moment, self._batch_size = tuning.momentum, tuning.second_moment, batch_size
        if not OPTIMIZERS[tuning.optimizer].is_float:
            self.momentum = round(tuning.momentum * 256) / 256

    def blend(self, state: Reals, gradient: Reals, keep: bool = False) -> Reals:
        """A new array."""
        return state * self.momentum + gradient

    def sign(self, gradient: Reals) -> Reals:
        """By numpy."""
        return np.sign(gradient)

    def real(self, gradient: Reals) -> Reals:
        """The mean."""
        return gradient / self._batch_size

    def root(self, x: Reals) -> Reals:
        """By numpy."""
        return np.sqrt(x)


def _axes(x: Words) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _wide(channels: Reals, like: Words) -> Reals:
    return channels.reshape(-1, *[1] * (like.ndim - 2))
