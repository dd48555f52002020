"""Affine words: codes that stand for unit x (code - zero point), both found in the values.

The range reaches from the smallest to the largest value, zero included, so that a tensor without negative values has
all codes for positive ones. The unit is the least power of two of which the range has at most 2^bits - 1; the zero
point is the code of 0, the nearest to -smallest / unit. Zero is a number of the format, and rounding to the nearest is
at most half a unit off. Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.1, but for the unit, there any real
number: a power of two is applied by a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fahw.formats.number import Number

if TYPE_CHECKING:
    from torch import Tensor

    from fahw.formats.number import Unit
    from fahw.formats.rounding import Noise

_LARGEST = 2.0**127
"""Magnitude above which values saturate, infinities too, so that float32 holds what they round to."""


@dataclass(frozen=True)
class Affine(Number):
    """Codes of `bits` bits less a zero point, times a power of two."""

    follows_values: ClassVar[bool] = True
    own_scale: ClassVar[str] = "finds its unit and zero point in the values"
    unit_compares: ClassVar[int] = 2
    """The smallest and the largest value."""

    bits: int

    @property
    def digits(self) -> int:
        """The width of an exact operand: a code less the zero point has a sign."""
        return self.bits + 1

    @property
    def label(self) -> str:
        """`affine` and the width."""
        return f"affine{self.bits}"

    @property
    def description(self) -> str:
        """The codes that it has."""
        return f"0 to {self._top} less a zero point, in {self.bits} bits, times a power of two; both follow the values"

    @property
    def _top(self) -> int:
        return (1 << self.bits) - 1

    def needs_noise(self, mode: str) -> bool:
        """Whether rounding into it consumes random bits."""
        return mode == "stochastic"

    def rounded(self, x: Tensor, unit: Unit = 1.0, mode: str = "nearest", noise: Noise | None = None) -> Tensor:
        """The numbers that x rounds to, with the zero point that x has at this unit."""
        from fahw.formats.rounding import whole

        zero = self.zero_point(x, unit)
        codes = (whole(x.double().clamp(-_LARGEST, _LARGEST) / unit, mode, noise) + zero).clamp_(0, self._top)
        return x.where(x.isnan(), ((codes - zero) * unit).to(x.dtype))

    def unit_of(self, x: Tensor, channel: int | None = None) -> Tensor:
        """The least power of two of which the range of the values has at most 2^bits - 1."""
        from fahw.formats.rounding import LOWEST_UNIT, power_of_two

        low, high = _range(x, [axis for axis in range(x.dim()) if axis != channel])
        least = (high - low) / self._top
        mantissa, exponent = least.frexp()
        unit = power_of_two((exponent - (mantissa == 0.5).int()).clamp(min=LOWEST_UNIT))
        return unit.where(least > 0, 1.0).to(x.dtype)

    def zero_point(self, x: Tensor, unit: Unit) -> Tensor:
        """The code of 0, in float64, for each unit: that which puts the smallest value at code 0 or next to it."""
        shared = getattr(unit, "shape", ())
        axes = [axis for axis in range(x.dim()) if axis >= len(shared) or shared[axis] == 1]
        return (-_range(x, axes)[0] / unit).round().clamp(0, self._top)

    def beyond(self, x: Tensor, unit: Unit = 1.0) -> Tensor:
        """Beyond the first or the last code; none under the unit of x."""
        codes = x.double() / unit + self.zero_point(x, unit)
        return (codes > self._top + 0.5) | (codes < -0.5)

    def at_ends(self, x: Tensor, unit: float = 1.0) -> Tensor:
        """None: the ends are those of the values."""
        return x != x


def _range(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value over the axes, in float64, zero included."""
    values = x.double().nan_to_num(0.0).clamp(-_LARGEST, _LARGEST)
    if not values.numel():
        values = values.new_zeros([1] * x.dim())
    return values.amin(axes, keepdim=True).clamp(max=0), values.amax(axes, keepdim=True).clamp(min=0)
