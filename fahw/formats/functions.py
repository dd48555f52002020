"""The functions of one real number that activations are made of, and their exact values for tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Protocol

_SMALLEST = Decimal("1e-40")
"""Powers below this are too small to matter."""


class Functions(Protocol):
    """The functions of one real number that activations are made of; numbers add, subtract and multiply as Python's."""

    def exp(self, x: Any) -> Any:
        """The exponential."""

    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent."""

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x))."""


Function = Callable[[Functions, Any], Any]
"""A function of one number, in `Functions`."""


class ExactFunctions:
    """The functions of `Decimal` numbers that are whole multiples of 2^-`frac_bits`."""

    def __init__(self, frac_bits: int) -> None:
        self._unit = Decimal(2) ** -frac_bits
        self._powers: list[Decimal] = []
        self._rest = powers(-1, frac_bits)

    def exp(self, x: Decimal) -> Decimal:
        """The exponential; beyond 1e40 and below 1e-40 these."""
        steps = int(abs(x) / self._unit)
        while len(self._powers) <= steps:
            self._powers.append(next(self._rest))
        power = max(self._powers[steps], _SMALLEST)
        return 1 / power if x > 0 else power

    def tanh(self, x: Decimal) -> Decimal:
        """The hyperbolic tangent."""
        power = self.exp(-abs(x)) ** 2
        return ((1 - power) / (1 + power)).copy_sign(x)

    def sigmoid(self, x: Decimal) -> Decimal:
        """1 / (1 + exp(-x))."""
        power = self.exp(-abs(x))
        return (power if x < 0 else 1) / (1 + power)


def powers(slope: int, frac_bits: int) -> Iterator[Decimal]:
    """Yield exp(slope * d * 2^-frac_bits) for d = 0, 1, ...; 0 once it is too small to matter."""
    base = (Decimal(slope) * Decimal(2) ** -frac_bits).exp()
    power = Decimal(1)
    while True:
        yield power
        power *= base
        if power < _SMALLEST:
            power = Decimal(0)
