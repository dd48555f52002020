"""Number formats: fixed point by width, floating point by name. A new float is one line of `FLOATS`.

Whatever is asked of a format, the format answers: its width, what values it holds, how it rounds, what it is priced as.
Rounding needs torch, which is loaded when something is rounded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from fahw.formats.rounding import Noise

    Unit: TypeAlias = float | Tensor


class Number(ABC):
    """A number format. `x` are real numbers in float32 or float64, and so are results; `unit` is the value of one step,
    a power of two, or a tensor of them that broadcasts to x."""

    has_exponent: ClassVar[bool] = False
    """Whether every number has an exponent of its own, and no unit."""
    follows_values: ClassVar[bool] = False
    """Whether the unit always follows the values, whatever scale a chip file gives."""
    own_scale: ClassVar[str] = ""
    """What the format has in place of a scale that a chip file can give, in words; empty where it takes one."""
    unit_compares: ClassVar[int] = 1
    """Comparisons per value that finding the unit takes, where it follows the values."""
    accumulates: bool = False
    """Whether sums can be accumulated in it; accumulators of fixed point are given by their width."""

    if TYPE_CHECKING:

        @property
        def bits(self) -> int:
            """The stored width in bits."""

        @property
        def digits(self) -> int:
            """The width of an exact operand of a product."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Its name in a sentence, before the name of a tensor."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What `fahw list formats` says of it."""

    @property
    def float_form(self) -> Float | None:
        """The float format that its sums and products are priced as; None where they are those of integers."""
        return None

    @property
    def has_one_magnitude(self) -> bool:
        """Whether it holds no other magnitude than 1 and perhaps 0: binary and ternary words."""
        return False

    @abstractmethod
    def needs_noise(self, mode: str) -> bool:
        """Whether rounding into it consumes random bits."""

    @abstractmethod
    def rounded(self, x: Tensor, unit: Unit = 1.0, mode: str = "nearest", noise: Noise | None = None) -> Tensor:
        """The numbers of the format that x rounds to; it saturates, infinities too, and what is not a number stays."""

    @abstractmethod
    def unit_of(self, x: Tensor, channel: int | None = None) -> Tensor:
        """The unit that x shares: one for all of x, or one for each index of the axis `channel`, shaped to broadcast to
        x; 1 where all values are zero."""

    @abstractmethod
    def beyond(self, x: Tensor, unit: Unit = 1.0) -> Tensor:
        """A mask of the numbers that lie beyond the ends of the format by more than half a unit."""

    @abstractmethod
    def at_ends(self, x: Tensor, unit: float = 1.0) -> Tensor:
        """A mask of the numbers of the format, x, that lie at one of its ends; False for all where it has none."""


@dataclass(frozen=True)
class Fixed(Number):
    """Integers from `lowest` to `highest` in `bits` bits, times a power of two; one bit holds -1 and +1."""

    bits: int
    lowest: int
    highest: int

    @property
    def digits(self) -> int:
        """The width of an exact operand: all bits, the sign included."""
        return self.bits

    @property
    def label(self) -> str:
        """`ternary`, or the width."""
        return "ternary" if self == TERNARY else f"{self.bits}-bit"

    @property
    def description(self) -> str:
        """The words that it holds."""
        return f"{self.lowest} to {self.highest} in {self.bits} bits, times a power of two"

    @property
    def has_one_magnitude(self) -> bool:
        """Whether it holds no other magnitude than 1 and perhaps 0: binary and ternary words."""
        return self.lowest == -1

    def needs_noise(self, mode: str) -> bool:
        """Whether rounding into it consumes random bits: not into one bit, which is the sign."""
        return mode == "stochastic" and self.bits > 1

    def rounded(self, x: Tensor, unit: Unit = 1.0, mode: str = "nearest", noise: Noise | None = None) -> Tensor:
        """The integers that x / unit rounds to, times the unit; one bit is the sign, zero counting as plus."""
        from fahw.formats.rounding import whole

        if self.bits == 1:
            words = (x >= 0).to(x.dtype) * 2 - 1
        else:
            words = whole(x / unit, mode, noise).clamp_(self.lowest, self.highest).to(x.dtype)
        return x.where(x.isnan(), words * unit)

    def unit_of(self, x: Tensor, channel: int | None = None) -> Tensor:
        """The unit that puts the leading one of the largest magnitude into the top digit."""
        from fahw.formats.rounding import largest_magnitude, unit_above

        return unit_above(largest_magnitude(x, channel), max(1, self.bits - 1)).to(x.dtype)

    def beyond(self, x: Tensor, unit: Unit = 1.0) -> Tensor:
        """Beyond the lowest or the highest integer; none for one bit, which has no ends."""
        if self.bits == 1:
            return x != x
        return (x / unit > self.highest + 0.5) | (x / unit < self.lowest - 0.5)

    def at_ends(self, x: Tensor, unit: float = 1.0) -> Tensor:
        """At the lowest or the highest integer; none for one bit, which has no ends."""
        if self.bits == 1:
            return x != x
        return (x == self.lowest * unit) | (x == self.highest * unit)


@dataclass(frozen=True)
class Float(Number):
    """A floating-point format: sign, exponent and mantissa, subnormal numbers included.

    `set_apart`: what stands for no number. The highest exponent, for infinities and NaN as in IEEE 754; only its
    highest mantissa, for NaN; or nothing.
    """

    has_exponent: ClassVar[bool] = True
    own_scale: ClassVar[str] = "has an exponent in every number"

    name: str
    exponent_bits: int
    mantissa_bits: int
    source: str
    set_apart: Literal["exponent", "mantissa", "nothing"] = "exponent"
    accumulates: bool = True

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

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    @property
    def description(self) -> str:
        """The bits and the range, and where it is defined."""
        shape = f"{self.exponent_bits} bits of exponent, {self.mantissa_bits} of mantissa"
        return f"{shape}; {self.smallest:.3g} to {self.largest:.3g} ({self.source})"

    @property
    def float_form(self) -> Float | None:
        """Itself."""
        return self

    def needs_noise(self, mode: str) -> bool:
        """Whether rounding into it consumes random bits: not into fp32."""
        return mode == "stochastic" and self.name != "fp32"

    def rounded(self, x: Tensor, unit: Unit = 1.0, mode: str = "nearest", noise: Noise | None = None) -> Tensor:
        """The numbers that x rounds to; into fp32 always to the nearest. A float has no unit."""
        from fahw.formats.rounding import native

        if self.name == "fp32":
            return x.float().to(x.dtype).clamp(-self.largest, self.largest)
        nearest = native(x.clamp(-self.largest, self.largest), self.name) if mode == "nearest" else None
        return self.rounded_in_places(x, mode, noise) if nearest is None else nearest

    def rounded_in_places(self, x: Tensor, mode: str = "nearest", noise: Noise | None = None) -> Tensor:
        """The result of `rounded`, computed in units of the last place at x: the way that every format and mode has."""
        from fahw.formats.rounding import in_last_places

        within = x.double().clamp(-self.largest, self.largest)
        values = in_last_places(within, self.lowest_exponent, self.mantissa_bits, mode, noise)
        return values.clamp_(-self.largest, self.largest).to(x.dtype)

    def unit_of(self, x: Tensor, channel: int | None = None) -> Tensor:
        """1: every number has its own exponent."""
        return x.new_ones([1] * x.dim())

    def beyond(self, x: Tensor, unit: Unit = 1.0) -> Tensor:
        """Larger than the largest number."""
        return x.abs() > self.largest

    def at_ends(self, x: Tensor, unit: float = 1.0) -> Tensor:
        """The largest number or its negative."""
        return x.abs() >= self.largest


_OFP8, _IEEE = "OCP 8-bit floating point specification 1.0", "IEEE 754"
FLOATS: dict[str, Float] = {
    form.name: form
    for form in (
        Float("fp8_e4m3", 4, 3, _OFP8, "mantissa", accumulates=False),
        Float("fp8_e5m2", 5, 2, _OFP8, accumulates=False),
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
