"""Fixed-point formats of a training run: scales, rounding into them, rate constants and tables.

A value is q * 2^-frac with q a two's complement integer of `bits` bits; one bit holds -1 and +1 (after ReLU and for
inputs 0 and 1). Integers are carried in float32 tensors where every intermediate stays under 2^24, else in float64
under 2^53: there adding, scaling by powers of two, `round` (ties to even) and `floor` are exact, on any processor.

Nearest powers of two are taken without logarithms from the mantissa's square, so that no libm can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp

import torch
from torch import Tensor

from fahw.errors import ConfigError, Problem
from fahw.formats.number import Number
from fahw.formats.precision import Rounding
from fahw.prng import Lfsr

MU_BITS = 8
"""Fraction bits of the momentum constant and of the sum that the velocity is rounded from."""
RANDOM_BITS = 8
"""Random bits per stochastic rounding."""
POOL_BITS = 16
"""Fraction bits of average pooling's reciprocal."""

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53
"""Magnitudes up to which float32 and float64 hold every integer."""


@dataclass(frozen=True)
class Format:
    """A fixed-point format: integers of `bits` bits, `frac` fraction bits (which may exceed `bits` or be negative)."""

    bits: int
    frac: int

    @property
    def limit(self) -> int:
        """The largest magnitude that the integer can have."""
        return 1 << max(0, self.bits - 1)


@dataclass(frozen=True)
class Rate:
    """A learning rate as the chip multiplies by it: `mantissa` * 2^-`shift`, the mantissa 128 to 255."""

    mantissa: int
    shift: int


def ceil_log2(x: float) -> int:
    """The smallest k with x <= 2^k."""
    mantissa, exponent = frexp(x)
    return exponent - 1 if mantissa == 0.5 else exponent


def nearest_log2(x: float) -> int:
    """The k whose 2^k is nearest to x in ratio."""
    mantissa, exponent = frexp(x)
    return exponent if mantissa * mantissa >= 0.5 else exponent - 1


def fraction_bits(bits: int, largest: float) -> int:
    """The fraction bits of a `bits`-bit format for magnitudes up to `largest`; one bit stands for a quarter of that."""
    return (2 if bits == 1 else bits - 1) - ceil_log2(largest)


def format_fraction_bits(form: Number, largest: float) -> int:
    """The `fraction_bits` of a number format; ternary words have the magnitude of one-bit words."""
    return fraction_bits(1 if form.has_one_magnitude else form.bits, largest)


def rate_constant(value: float) -> Rate:
    """The 8-bit mantissa and shift nearest to `value` > 0."""
    mantissa, exponent = frexp(value)
    eight_bits = round(mantissa * 256)
    return Rate(128, 7 - exponent) if eight_bits == 256 else Rate(eight_bits, 8 - exponent)


def word_dtype(bits: int) -> torch.dtype:
    """The tensor type in which matrix products read words of `bits` bits."""
    return torch.int8 if bits <= 8 else torch.float32


def carrier(bound: int, shift: int = 0, mode: Rounding = "nearest") -> torch.dtype:
    """The float type in which integers up to `bound`, and their rounding by a right shift of `shift`, are exact.

    Raises ConfigError where float64 is not enough.
    """
    highest = bound
    if mode == "stochastic" and shift > 0:
        highest = (bound + (1 << shift)) << max(0, RANDOM_BITS - shift)
    if highest >= FLOAT64_EXACT:
        message = f"a sum can need {highest.bit_length()} bits, 53 can be computed exactly"
        raise ConfigError(Problem("precision", message))
    return torch.float32 if highest < FLOAT32_EXACT else torch.float64


def useful_shift(bound: int, shift: int) -> int:
    """The shift, limited to the largest that changes the result: bits further right round as if they lay there."""
    return min(shift, bound.bit_length() + RANDOM_BITS + 1)


def wrap_(acc: Tensor, bits: int) -> Tensor:
    """Wrap integers, carried in a float tensor, around to two's complement of `bits` bits, in place."""
    half = 2.0 ** (bits - 1)
    return acc.sub_(((acc + half) * (0.5 / half)).floor_().mul_(2 * half))


def round_(x: Tensor, mode: Rounding, random: Tensor | None = None) -> Tensor:
    """Round x to integers, in place. `random`, for stochastic rounding: 0 to 255 for each value, in x's type."""
    if mode == "nearest":
        return x.round_()
    if mode == "stochastic":
        assert random is not None, "stochastic rounding needs random bits"
        x.add_(random, alpha=2.0**-RANDOM_BITS)
    return x.floor_()


def saturate_(q: Tensor, bits: int) -> Tensor:
    """Limit the integers q to the range of `bits` bits, in place; one bit keeps the sign, zero counting as plus."""
    if bits == 1:
        return q.copy_(q >= 0).mul_(2).sub_(1)
    return q.clamp_(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def requantise_(acc: Tensor, shift: int, bits: int, mode: Rounding, random: Tensor | None = None) -> Tensor:
    """Round acc / 2^shift and saturate it to `bits` bits, in place. One bit is acc's sign and needs no random bits.

    `random`: as `round_`'s, or uint8, in acc's row-major order.
    """
    if bits > 1:
        acc.mul_(2.0**-shift)
        if shift > 0:
            round_(acc, mode, None if random is None else random.to(acc.dtype).view(acc.shape))
    return saturate_(acc, bits)


def draws_random(mode: Rounding, bits: int) -> bool:
    """Whether rounding into a fixed-point format of `bits` bits consumes random bytes."""
    return mode == "stochastic" and bits > 1


def random_bytes(random: Lfsr, count: int, device: torch.device) -> Tensor:
    """The generator's next `count` bytes on the device, uint8 `(count,)`; on a CPU they are the generator's memory."""
    return torch.from_numpy(random.take(count)).to(device)
