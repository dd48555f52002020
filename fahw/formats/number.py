"""Number formats: fixed point by width, floating point by name. A new float is one line of `FLOATS`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

FloatName = Literal["fp8_e4m3", "fp8_e5m2", "fp16", "bf16", "fp32"]
FixedName = Literal["binary", "ternary"]


@dataclass(frozen=True)
class Fixed:
    """Integers from `lowest` to `highest` in `bits` bits, times a power of two; one bit holds -1 and +1."""

    bits: int
    lowest: int
    highest: int

    @property
    def digits(self) -> int:
        """The width of an exact operand: all bits, the sign included."""
        return self.bits


@dataclass(frozen=True)
class Float:
    """A floating-point format: sign, exponent and mantissa, subnormal numbers included.

    `set_apart`: what stands for no number. The highest exponent, for infinities and NaN as in IEEE 754; only its
    highest mantissa, for NaN; or nothing.
    """

    name: FloatName
    exponent_bits: int
    mantissa_bits: int
    source: str
    set_apart: Literal["exponent", "mantissa", "nothing"] = "exponent"

    @property
    def bits(self) -> int:
        """The stored width in bits."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def digits(self) -> int:
        """The width of the significand in bits, its leading one included."""
        return 1 + self.mantissa_bits

    @property
    def lowest_exponent(self) -> int:
        """The exponent of the smallest normal number, which subnormal numbers share."""
        return 2 - (1 << (self.exponent_bits - 1))

    @property
    def highest_exponent(self) -> int:
        """The exponent of the largest number."""
        return (1 << (self.exponent_bits - 1)) - (1 if self.set_apart == "exponent" else 0)

    @property
    def largest(self) -> float:
        """The largest finite number; what is larger saturates there."""
        ones = (1 << self.digits) - (2 if self.set_apart == "mantissa" else 1)
        return float(ones) * 2.0 ** (self.highest_exponent - self.mantissa_bits)

    @property
    def smallest(self) -> float:
        """The smallest number above zero, a subnormal."""
        return float(2.0 ** (self.lowest_exponent - self.mantissa_bits))


Number: TypeAlias = Fixed | Float

_OFP8, _IEEE = "OCP 8-bit floating point specification 1.0", "IEEE 754"
FLOATS: dict[str, Float] = {
    form.name: form
    for form in (
        Float("fp8_e4m3", 4, 3, _OFP8, "mantissa"),
        Float("fp8_e5m2", 5, 2, _OFP8),
        Float("fp16", 5, 10, _IEEE),
        Float("bf16", 8, 7, "the upper half of an fp32 word"),
        Float("fp32", 8, 23, _IEEE),
    )
}

TERNARY = Fixed(2, -1, 1)


@cache
def fixed_format(bits: int) -> Fixed:
    """The fixed-point format of `bits` bits: two's complement; for one bit, -1 and +1."""
    return Fixed(1, -1, 1) if bits == 1 else Fixed(bits, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


@cache
def number_format(width: int | str) -> Number:
    """The format that a file writes as a width in bits or as a name. Raises KeyError for an unknown name."""
    if isinstance(width, int):
        return fixed_format(width)
    return {"binary": fixed_format(1), "ternary": TERNARY}.get(width) or FLOATS[width]
