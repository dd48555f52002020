"""Numbers as readers see them: SI prefixes, significant digits, percentages. No computation reads these texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, isfinite, log10

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_THIN = "\u202f"
BITS_PER_KIB = 8192
J_PER_PJ = 1e-12


@dataclass(frozen=True)
class Scale:
    """One unit for many values: `factor` turns a value in the base unit into one in `unit`, with `decimals` places."""

    factor: float
    unit: str
    decimals: int

    def show(self, value: float) -> str:
        """The value in this unit, without the unit's name."""
        return fixed(value * self.factor, self.decimals if value else 0)


def scale_for(values: Iterable[float], unit: str, digits: int = 4, prefixed: bool = True) -> Scale:
    """The scale whose prefix suits the largest of `values`, which then shows `digits` significant digits."""
    largest = max((abs(value) for value in values if isfinite(value)), default=0.0)
    power = _prefix_power(largest, digits) if prefixed else 0
    scaled = largest * 10.0**-power
    return Scale(10.0**-power, f"{_PREFIXES[power]}{unit}", _decimals(scaled, digits))


def si(value: float, unit: str, digits: int = 3) -> str:
    """The value with a suitable SI prefix: `si(1.2345e-6, "J")` is "1.23 µJ"."""
    scale = scale_for([value], unit, digits)
    return f"{scale.show(value)} {scale.unit}"


def fixed(value: float, decimals: int) -> str:
    """The value to `decimals` places, digits grouped by thin spaces, with a true minus sign and no "-0"; a dash where
    it is not finite."""
    if not isfinite(value):
        return "–"
    text = f"{value:,.{decimals}f}".replace(",", _THIN)
    if text.startswith("-"):
        text = text[1:] if not text.strip(f"-0.{_THIN}") else f"−{text[1:]}"
    return text


def general(value: float) -> str:
    """The value in few digits, with an exponent where it needs one; a dash where it is not finite."""
    return f"{value:g}" if isfinite(value) else "–"


def significant(value: float, digits: int = 3) -> str:
    """The value with `digits` significant digits, never with an exponent."""
    return fixed(value, _decimals(abs(value), digits))


def percent_number(share: float) -> str:
    """A share in percent, the sign % left off: one digit after the point, more for shares below 1 %."""
    size = abs(share) * 100
    decimals = 1 if size >= 1 or size < 5e-5 else min(4, _decimals(size, 2 if size >= 0.1 else 1))
    return fixed(share * 100, decimals)


def percent(share: float) -> str:
    """The share in percent with its sign: `percent(0.086)` is "8.6 %"."""
    return f"{percent_number(share)} %"


def _prefix_power(value: float, digits: int) -> int:
    """The power of ten of the prefix that suits `value`, rounded to `digits` significant digits first."""
    if not value or not isfinite(value):
        return 0
    rounded = float(f"{value:.{digits - 1}e}")
    return max(-15, min(12, 3 * floor(log10(rounded) / 3 + 1e-12)))


def _decimals(value: float, digits: int) -> int:
    """Digits after the point that leave `digits` significant ones."""
    if not value or not isfinite(value):
        return 0
    rounded = float(f"{value:.{digits - 1}e}")
    return max(0, digits - 1 - floor(log10(rounded) + 1e-12))
