"""The tables of tanh and sigmoid, each by its own formula, to hold those of `fahw.formats.lookup_tables` against."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fahw.formats.lookup_tables import _nearest, _table


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
