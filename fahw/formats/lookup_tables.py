"""Tables that a chip looks values up in: the softmax's exponential, activation functions, pixels.

They are correctly rounded, so that they are the same on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fahw.formats.functions import ExactFunctions, Function, powers

EXP_BITS = 15
"""Fraction bits of the softmax table."""


@lru_cache
def exp_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """The softmax table: nearest(exp(-d * 2^-frac_bits) * 2^15) for d = 0 ... 2^bits - 1, int64 `(2^bits,)`."""
    one = Decimal(1 << EXP_BITS)
    return _table(1 << bits, -1, frac_bits, lambda power: _nearest(power * one))


_FAR = 1 << 20
"""What a word of one bit stands for where a function is looked up: only its sign is known."""


@lru_cache
def function_table(function: Function, bits: int, frac_bits: int, into_frac_bits: int) -> NDArray[np.int64]:
    """The `function` of every word q = -2^(bits-1) ... 2^(bits-1) - 1 with `frac_bits` fraction bits, in words of as
    many bits with `into_frac_bits`, nearest and saturated; entry 0 is that of the lowest word.

    One bit: of -1 and +1, which stand for numbers far from zero.
    """
    half, one = 1 << (bits - 1), Decimal(2) ** into_frac_bits
    low, high = (-1, 1) if bits == 1 else (-half, half - 1)
    words = (-_FAR, _FAR) if bits == 1 else range(-half, half)
    with localcontext() as context:
        context.prec = 60
        functions = ExactFunctions(0 if bits == 1 else frac_bits)
        unit = Decimal(2) ** -(0 if bits == 1 else frac_bits)
        values = (_nearest(function(functions, word * unit) * one) for word in words)
        return np.fromiter((min(max(value, low), high) for value in values), np.int64, len(words))


def _table(size: int, slope: int, frac_bits: int, value: Callable[[Decimal], int]) -> NDArray[np.int64]:
    """The `value` of exp(slope * d * 2^-frac_bits) for d < size. `decimal` rounds exp correctly on any machine."""
    with localcontext() as context:
        context.prec = 60
        return np.fromiter((value(power) for power in islice(powers(slope, frac_bits), size)), np.int64, size)


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
