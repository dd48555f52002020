"""The packing programme of lifetimes in arrays: gains, room that choices take by moment, and capacities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def spread(count: int) -> Values:
    """Numbers from 0 to 1, all different and far from regular: they part what would tie."""
    return np.arange(1.0, count + 1) * (5**0.5 - 1) / 2 % 1.0


@dataclass(frozen=True)
class Programme:
    """Choices, each with the gain and the number of its tensor, and their entries one after the other: the row (a
    memory at a moment) and the bits that the choice takes of it; the capacity of each row."""

    gain: Values
    tensor: Numbers
    choice: Numbers
    row: Numbers
    room: Values
    capacity: Values

    @cached_property
    def grain(self) -> float:
        """What shares are multiples of, so that they times whole bits add up without rounding: 2^-20 for capacities of
        2^33 bits, 2^-30 up to 2^23."""
        most = self.capacity[np.isfinite(self.capacity)].max(initial=1.0)
        return float(2.0 ** -min(max(53 - np.ceil(np.log2(most + 1)), 20), 30))

    def taken(self, shares: Values) -> Values:
        """Bits that these shares take of each row."""
        return np.bincount(self.row, self.room * shares[self.choice], len(self.capacity)).astype(np.float64)

    def per_choice(self, entries: Values | Flags) -> Values:
        """The sum over each choice's entries."""
        return np.bincount(self.choice, entries, len(self.gain)).astype(np.float64)

    def wholes(self) -> Values:
        """Every tensor wholly at its largest gain; of equal ones the least room, then the first."""
        return self.best(self.gain)

    def best(self, worth: Values) -> Values:
        """Every tensor wholly at its largest worth, if that is not below nothing; of equal ones with the least room."""
        order = np.lexsort((self.per_choice(self.room), -worth, self.tensor))
        best = order[np.unique(self.tensor[order], return_index=True)[1]]
        shares = np.zeros(len(worth))
        shares[best] = worth[best] >= 0
        return shares

    def fits(self, shares: Values) -> bool:
        """Whether every row has room for them."""
        return bool((self.taken(shares) <= self.capacity).all())

    def among(self, kept: Flags) -> Programme:
        """The programme of these choices alone."""
        entries, number = kept[self.choice], np.cumsum(kept) - 1
        return Programme(
            self.gain[kept], self.tensor[kept], number[self.choice[entries]], self.row[entries], self.room[entries],
            self.capacity,
        )  # fmt: skip

    def within(self, rows: Flags) -> Programme:
        """The programme with these rows alone."""
        entries, number = rows[self.row], np.cumsum(rows) - 1
        return Programme(
            self.gain, self.tensor, self.choice[entries], number[self.row[entries]], self.room[entries],
            self.capacity[rows],
        )  # fmt: skip

    def entries_of(self) -> Iterator[slice]:
        """The entries of each choice."""
        ends = np.searchsorted(self.choice, np.arange(len(self.gain) + 1)).tolist()
        return map(slice, ends, ends[1:])

    def dense(self) -> Values:
        """Room by row and choice, as shares of the row's capacity."""
        matrix = np.zeros((len(self.capacity), len(self.gain)))
        matrix[self.row, self.choice] = self.room
        return matrix / self.capacity[:, None]
