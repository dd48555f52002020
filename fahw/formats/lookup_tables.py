"""Tables that a chip looks values up in: exponential, tanh, sigmoid, pixels. Correctly
rounded, so that they are the same on any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EXP_BITS = 15
"""Fraction bits of the softmax table."""


@lru_cache
def exp_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """The softmax table: nearest(exp(-d * 2^-frac_bits) * 2^15) for d = 0 ... 2^bits - 1, int64 `(2^bits,)`."""
    one = Decimal(1 << EXP_BITS)
    return _table(1 << bits, -1, frac_bits, lambda power: _nearest(power * one))


@lru_cache
def tanh_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """The tanh of every word q = -2^(bits-1) ... 2^(bits-1) - 1 with `bits` - 1 fraction bits, saturated; entry 0 is
    that of the lowest word. One bit: (-1, +1)."""
    if bits == 1:
        return np.array([-1, 1])
    one, half = Decimal(1 << (bits - 1)), 1 << (bits - 1)
    positive = _table(half + 1, -2, frac_bits, lambda power: _nearest((1 - power) / (1 + power) * one))
    return np.concatenate([-positive[:0:-1], np.minimum(positive[:half], half - 1)])


@lru_cache
def sigmoid_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """The sigmoid 1 / (1 + exp(-x)) of every word, in the order and scale of `tanh_table`; one bit: (0, 1)."""
    if bits == 1:
        return np.array([0, 1])
    one, half = Decimal(1 << (bits - 1)), 1 << (bits - 1)
    negative = _table(half + 1, -1, frac_bits, lambda power: _nearest(power / (1 + power) * one))
    positive = _table(half + 1, -1, frac_bits, lambda power: _nearest(1 / (1 + power) * one))
    return np.concatenate([negative[:0:-1], np.minimum(positive[:half], half - 1)])


def _table(size: int, slope: int, frac_bits: int, value: Callable[[Decimal], int]) -> NDArray[np.int64]:
    """The `value` of exp(slope * d * 2^-frac_bits) for d < size. `decimal` rounds exp correctly on any machine."""
    with localcontext() as context:
        context.prec = 60
        return np.fromiter((value(power) for power in _powers(size, slope, frac_bits)), np.int64, size)


def _powers(size: int, slope: int, frac_bits: int) -> Iterator[Decimal]:
    """exp(slope * d * 2^-frac_bits) for d < size; 0 once it is too small to matter."""
    base = (Decimal(slope) * Decimal(2) ** -frac_bits).exp()
    power = Decimal(1)
    for _ in range(size):
        yield power
        power *= base
        if power < Decimal("1e-40"):
            power = Decimal(0)


def _nearest(value: Decimal) -> int:
    return int(value.to_integral_value(rounding="ROUND_HALF_EVEN"))


@lru_cache
def pixel_table(bits: int, maximum: int) -> NDArray[np.int64]:
    """The input word of every pixel from 0 to 255, or to `maximum` where that is more, the largest pixel's value."""
    pixels = range(max(256, maximum + 1))
    if bits == 1:
        return np.array([2 * pixel >= maximum for pixel in pixels], np.int64)
    one = 1 << (bits - 1)
    words = []
    for pixel in pixels:
        quotient, remainder = divmod(pixel * one, maximum)
        words.append(min(one - 1, quotient + (2 * remainder + (quotient & 1) > maximum)))  # nearest, ties to even
    return np.array(words, np.int64)
