"""How values lie in memory where lanes skip zeros: without these, each with what says where it belongs.

    coordinates   a value that is not zero, and `index_bits` with it that say where it lies
    run_length    likewise, the index being the number of zeros before it; after 2^index_bits zeros comes an entry more
    bitmap        a bit per value, and those that are not zero

Counts are means over values of which each is zero by chance, independently of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, gcd

from fahw.hardware.array import PackedForm
from fahw.hardware.arrays.mapping import Burst

_MANY = 64
"""Entries of a burst from which the rest in its last word is as good as drawn evenly."""


@dataclass(frozen=True)
class Packing:
    """A compressed form of a tensor of which the share `zeros` is zero."""

    form: PackedForm
    index_bits: int
    zeros: float

    def stored_bits(self, values: int, bits: int) -> float:
        """Bits of `values` of `bits` in one run, on average."""
        if self.form == "bitmap":
            return values + values * (1 - self.zeros) * bits
        return self._entries(values) * (bits + self.index_bits)

    def _entries(self, values: int) -> float:
        """Values that are stored of a run, those of zero among them that end a run of zeros too long for its index."""
        others = values * (1 - self.zeros)
        if self.form == "coordinates" or not self.zeros:
            return others
        longest = 1 << self.index_bits
        skipped = self.zeros**longest  # the chance of so many zeros in a row
        if skipped == 1:
            return float(values // longest)
        # At a place there is an entry by a value that is not zero, or by `longest` zeros behind an entry or the start;
        # its chance follows from that `longest` places before, and is summed up over all places.
        whole, rest = divmod(values, longest)
        powers = skipped * (1 - skipped**whole) / (1 - skipped)  # skipped + skipped^2 + ... + skipped^whole
        places = (longest - 1) * (whole - powers) + rest * (1 - skipped ** (whole + 1)) + whole - powers
        return (1 - self.zeros) * places / (1 - skipped) + powers

    def words(self, burst: Burst, bits: int, width: int) -> float:
        """Words of `width` that bursts take, each beginning with a word of its own, on average."""
        times, values = burst
        start, entry = (values, bits) if self.form == "bitmap" else (0, bits + self.index_bits)
        entries = values * (1 - self.zeros) if self.form == "bitmap" else self._entries(values)
        if entries in (0, values):
            return times * float(ceil((start + entries * entry) / width))
        if entries > _MANY:
            step = gcd(entry, width)  # what the last word holds is a multiple of it, beside the rest of a bitmap
            return times * (start + entries * entry + -start % step + (width - step) / 2) / width
        chance = entries / values
        probability, words = (1 - chance) ** values, 0.0
        for number in range(values + 1):  # binomial
            words += probability * ceil((start + number * entry) / width)
            probability *= (values - number) / (number + 1) * chance / (1 - chance)
        return times * words


def packed_bursts(packing: Packing, bursts: Sequence[Burst], bits: int, width: int) -> list[Burst]:
    """The bursts of a packed operand, in words of `width` instead of values."""
    count = sum(times for times, values in bursts if values)
    words = floor(sum(packing.words(burst, bits, width) for burst in bursts) + 0.5)
    if not words:
        return []
    count = min(count, words)
    each, more = divmod(words, count)
    return [(count - more, each), (more, each + 1)] if more else [(count, each)]
