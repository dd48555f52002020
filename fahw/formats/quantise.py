"""Rounding of real numbers into a number format, and counts of what it loses.

    quantise(x, FLOATS["fp8_e4m3"])                                # nearest, ties to even
    quantise(x, fixed_format(8), 2.0**-4, "stochastic", noise)     # words of 8 bits, 4 of them behind the point
    quantise(x, fixed_format(8), shared_unit(x, fixed_format(8)))  # the finest power of two that holds the largest

The result is a value, not its code. Every format saturates, infinities too; what is not a number stays so.
Subnormal numbers are kept. Rounding is to the nearest number of the format, ties to even; `floor`, towards minus
infinity; or `stochastic`: with w random bits r, floor of x + r 2^-w in units of the format at x. One bit is the sign,
zero counting as plus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fahw.formats.fixed_point import draws_random
from fahw.formats.number import Fixed, Float, Number
from fahw.formats.precision import Precision, Rounding
from fahw.prng import Lfsr

_CPU = torch.device("cpu")
_NATIVE = {
    "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2, "fp16": torch.float16, "bf16": torch.bfloat16,
    "fp32": torch.float32,
}  # fmt: skip
"""Formats that torch rounds to, to the nearest, by itself; others take the slower way."""


_LOWEST_UNIT = -126
"""Exponent of the smallest shared unit, a normal number of float32."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Random numbers for stochastic rounding: `draws` has the shape of the values, its integers have `bits` bits."""

    draws: Tensor
    bits: int


def noise(random: Lfsr, shape: torch.Size, bits: int, device: torch.device = _CPU) -> Noise:
    """Fresh random numbers of `shape`, row-major: the top `bits` of a byte each, or of two bytes, lower one first."""
    random_bytes = random.take(shape.numel() * (1 if bits <= 8 else 2))
    words = random_bytes if bits <= 8 else random_bytes.view("<u2").astype(np.int32)
    return Noise(torch.from_numpy(words >> ((8 if bits <= 8 else 16) - bits)).view(shape).to(device), bits)


def needs_noise(form: Number, mode: Rounding) -> bool:
    """Whether rounding into a format consumes random bits: not into one bit, nor into fp32."""
    if isinstance(form, Fixed):
        return draws_random(mode, form.bits)
    return mode == "stochastic" and form.name != "fp32"


def quantise(
    x: Tensor, form: Number, unit: float | Tensor = 1.0, mode: Rounding = "nearest", noise: Noise | None = None
) -> Tensor:
    """The numbers of the format that x rounds to, in x's type (float32 or float64) and shape.

    `unit`: the value of one step of a fixed-point format, a power of two or a tensor of them that broadcasts to x.
    """
    if isinstance(form, Fixed):
        words = _fixed_words(x, form, unit, mode, noise)
        return torch.where(x.isnan(), x, words * unit)
    if form.name == "fp32":
        return x.float().to(x.dtype).clamp(-form.largest, form.largest)
    if mode == "nearest" and form.name in _NATIVE and x.dtype == torch.float32:
        return x.clamp(-form.largest, form.largest).to(_NATIVE[form.name]).to(x.dtype)
    return float_values(x, form, mode, noise)


def float_values(x: Tensor, form: Float, mode: Rounding = "nearest", noise: Noise | None = None) -> Tensor:
    """The result of `quantise` for a floating-point format, computed in units of the last place at x."""
    values = x.double().clamp(-form.largest, form.largest)
    last_place = torch.frexp(values).exponent.sub_(1).clamp_(min=form.lowest_exponent).sub_(form.mantissa_bits)
    unit = power_of_two(last_place)
    rounded = _rounded(values / unit, mode, noise).mul_(unit)
    return rounded.clamp_(-form.largest, form.largest).to(x.dtype)


def _fixed_words(x: Tensor, form: Fixed, unit: float | Tensor, mode: Rounding, noise: Noise | None) -> Tensor:
    """The integers that x is rounded to, in x's type, saturated."""
    if form.bits == 1:
        return torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return _rounded(x / unit, mode, noise).clamp_(form.lowest, form.highest).to(x.dtype)


def _rounded(x: Tensor, mode: Rounding, noise: Noise | None) -> Tensor:
    """x rounded to integers; x may be overwritten. Bits of x below those of the noise never decide, and are cut off, so
    that every step is exact."""
    if mode == "nearest":
        return x.round_()
    if mode == "stochastic":
        assert noise is not None, "stochastic rounding needs random bits"
        x = x.double().mul_(2.0**noise.bits).floor_().add_(noise.draws).mul_(2.0**-noise.bits)
    return x.floor_()


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in float64, exact, for integers from -1022 to 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def shared_unit(x: Tensor, form: Fixed, channel: int | None = None) -> Tensor:
    """The unit of words that share an exponent: it puts the leading one of the largest magnitude into their top digit.

    It is one unit for all of x, or one for each index of the axis `channel`, shaped to broadcast to x; 1 where all
    values are zero.
    """
    axes = [axis for axis in range(x.dim()) if axis != channel]
    largest = (x.abs().amax(axes, keepdim=True) if x.numel() else x.new_zeros([1] * x.dim())).double()
    exponent = torch.frexp(largest.clamp(max=torch.finfo(torch.float32).max)).exponent
    unit = power_of_two((exponent - max(1, form.bits - 1)).clamp_(min=_LOWEST_UNIT))
    return torch.where(largest > 0, unit, 1.0).to(x.dtype)


@dataclass(frozen=True)
class Losses:
    """The losses of rounding `values` numbers: how many lay beyond the format's ends (`saturated`), and how many that
    were not zero became zero (`underflowed`)."""

    values: int
    saturated: int
    underflowed: int


def losses(x: Tensor, rounded: Tensor, form: Number, unit: float | Tensor = 1.0) -> Losses:
    """The losses of quantising x to `rounded`; none for one bit, which has neither a zero nor ends."""
    if isinstance(form, Fixed) and form.bits == 1:
        return Losses(x.numel(), 0, 0)
    if isinstance(form, Fixed):
        beyond = (x / unit > form.highest + 0.5) | (x / unit < form.lowest - 0.5)
    else:
        beyond = x.abs() > form.largest
    return Losses(x.numel(), int(beyond.sum()), int(((x != 0) & (rounded == 0)).sum()))


def emulation_dtype(precision: Precision) -> torch.dtype:
    """The tensor type that carries emulated values: float64 for a fixed-point accumulator, else float32."""
    return torch.float64 if isinstance(precision.number("accumulator"), Fixed) else torch.float32
