"""What a direct path sends back from the output, as values: how its words are made, and their bits.

A signal makes its words of what a `Signals` offers, one for each arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2
from typing import Any, Literal, Protocol

SignalName = Literal["error", "ternary", "targets"]

TERNARY_BITS = 2
"""Bits of a word of a ternary error."""
TERNARY_THRESHOLD = 1 / 8
"""Ternary errors are 0 where the output error, which lies in [-1, 1] for a sample, is no larger than this."""
TERNARY_UNIT = 1 / 4
"""The magnitude that the words -1 and 1 of a ternary error stand for."""
LABEL_BITS = 8
"""Width of a label."""


class Signals(Protocol):
    """The words that can go back from the output in a step, in one arithmetic."""

    def error(self) -> Any:
        """The output error itself."""

    def ternary(self) -> Any:
        """-1, 0 and 1 in its place, in units of `TERNARY_UNIT`: 0 up to `TERNARY_THRESHOLD`."""

    def targets(self) -> Any:
        """The labels, each of which names a row of the feedback matrix; or the same one-hot."""


@dataclass(frozen=True)
class Signal:
    """A signal: `made` chooses its words. `bits`: of each word, given those of an error. `fraction_bits`: of each word,
    given those of the output error. `compares`: comparisons of an error that make its word.

    `names_rows`: it is known with the sample and names rows of the feedback matrices, so that no layer waits for the
    output or multiplies.
    """

    made: Callable[[Signals], Any]
    bits: Callable[[int], int]
    fraction_bits: Callable[[int], int]
    compares: int = 0
    names_rows: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether it is made of the output error and lies beside it."""
        return self.compares > 0

    @property
    def is_error(self) -> bool:
        """Whether it is the output error itself."""
        return not (self.is_copy or self.names_rows)

    def stored_bits(self, classes: int, error_bits: int) -> int:
        """Bits per sample that lie in memory beside the output error."""
        if self.names_rows:
            return LABEL_BITS
        return classes * self.bits(error_bits) if self.is_copy else 0


SIGNALS: dict[SignalName, Signal] = {
    "error": Signal(lambda signals: signals.error(), lambda bits: bits, lambda fraction_bits: fraction_bits),
    "ternary": Signal(
        lambda signals: signals.ternary(), lambda _: TERNARY_BITS, lambda _: round(-log2(TERNARY_UNIT)), compares=2
    ),
    "targets": Signal(lambda signals: signals.targets(), lambda bits: bits, lambda _: 0, names_rows=True),
}
"""The signals by name."""
