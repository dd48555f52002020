"""Rounding of real numbers into a number format, and counts of what it loses.

    quantise(x, FLOATS["fp8_e4m3"])                                # nearest, ties to even
    quantise(x, fixed_format(8), 2.0**-4, "stochastic", noise)     # words of 8 bits, 4 of them behind the point
    quantise(x, fixed_format(8), fixed_format(8).unit_of(x))       # the finest power of two that holds the largest

The result is a value, not its code. Every format saturates, infinities too; what is not a number stays so.
Subnormal numbers are kept. Rounding is to the nearest number of the format, ties to even; `floor`, towards minus
infinity; or `stochastic`: with w random bits r, floor of x + r 2^-w in units of the format at x. One bit is the sign,
zero counting as plus. How each format does it is a method of the format (`fahw.formats.number`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.formats.number import Number
from fahw.formats.precision import Precision, Rounding
from fahw.formats.rounding import Noise


def quantise(
    x: Tensor, form: Number, unit: float | Tensor = 1.0, mode: Rounding = "nearest", noise: Noise | None = None
) -> Tensor:
    """The numbers of the format that x rounds to, in x's type (float32 or float64) and shape.

    `unit`: the value of one step of a fixed-point format, a power of two or a tensor of them that broadcasts to x.
    """
    return form.rounded(x, unit, mode, noise)


@dataclass(frozen=True)
class Losses:
    """The losses of rounding `values` numbers: how many lay beyond the format's ends (`saturated`), and how many that
    were not zero became zero (`underflowed`)."""

    values: int
    saturated: int
    underflowed: int


def losses(x: Tensor, rounded: Tensor, form: Number, unit: float | Tensor = 1.0) -> Losses:
    """The losses of quantising x to `rounded`; none for one bit, which has neither a zero nor ends."""
    if form.bits == 1:
        return Losses(x.numel(), 0, 0)
    return Losses(x.numel(), int(form.beyond(x, unit).sum()), int(((x != 0) & (rounded == 0)).sum()))


def emulation_dtype(precision: Precision) -> torch.dtype:
    """The tensor type that carries emulated values: float64 for a fixed-point accumulator, else float32."""
    return torch.float32 if precision.number("accumulator").has_exponent else torch.float64
