"""The programme of mappings and lifetimes at once: one mapping of every product and shares of all tensors, of which
each takes its room, at the least energy.

A mapping is chosen as a whole. Without that it is a linear programme, in which mappings are mixed, each at every corner
of what is there: no more of a product finds an operand there than is kept of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fahw.mapping.shares.programme import Numbers, Values
from fahw.mapping.shares.simplex import Vertex, solved
from fahw.work.plan.joint.columns import Choice, Columns, ProductColumns, rows_of
from fahw.work.plan.joint.menu import Menu
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured

_PENALTY = 1e3
"""What a choice costs that stands in where no other fits, in the largest cost there is."""
_ABSENT = 1e-7
"""The largest share that counts as none."""


class Mixed(NamedTuple):
    """The best of the linear programme: its pJ, the share of each way to keep a tensor, and by product the choices with
    their shares, the largest first. `is_possible`: nothing stands in for what does not fit."""

    energy: float
    ways: Values
    choices: Sequence[Sequence[tuple[float, Choice]]]
    is_possible: bool


class JointProgramme:
    """The programme of a step. Its rows are of memories, then of operands; its columns ways to keep tensors, then none
    of each tensor, then the choices of products."""

    def __init__(self, keeping: Keeping, menus: Sequence[Menu], rest: Measured) -> None:
        """`rest`: what products without a menu cost if nothing is kept."""
        self._rows = list(rows_of(keeping, menus))
        self._operands = [(number, side) for number, menu in enumerate(menus) for side in (0, 1) if menu.parts[side]]
        self.products = [ProductColumns(n, menu, self._rows, self._operands) for n, menu in enumerate(menus)]
        self._constant = rest.energy_pj + keeping.others_pj(keeping.only_given, rest)
        searched = [number for number, way in enumerate(keeping.ways) if way.tensor not in keeping.given]
        self._tensors = list(dict.fromkeys(keeping.ways[number].tensor for number in searched))
        ways = [(keeping.ways[number].tensor, keeping.ways[number].reads) for number in searched]
        self._ways, ways = len(ways), [*ways, *((tensor, 0) for tensor in self._tensors)]
        saved = {tensor: keeping.worth.saved(tensor, rest, False) for tensor in self._tensors}
        self._gain = np.array([saved[tensor].until(reads) if reads else 0.0 for tensor, reads in ways])
        self._tensor = np.array([self._tensors.index(tensor) for tensor, _ in ways])
        self._taken = np.concatenate([self._room(keeping, searched), self._needs(menus, ways)])

    @property
    def can_begin(self) -> bool:
        """Whether the first choices of all products fit together."""
        least = np.sum([product.least for product in self.products], axis=0)
        return bool((least <= 1).all())

    def _room(self, keeping: Keeping, searched: Sequence[int]) -> Values:
        """Shares of memories that ways take."""
        room = np.zeros((len(self._rows), len(searched) + len(self._tensors)))
        for column, number in enumerate(searched):
            way, bits = keeping.ways[number], keeping.room_of(number)
            core, memory = keeping.tensors[way.tensor].core, keeping.homes[way.tensor][way.level]
            for place, row in enumerate(self._rows):
                if (row.core, row.memory.name) == (core, memory.name):
                    room[place, column] = bits.get(row.moment, 0.0) / row.capacity
        return room

    def _needs(self, menus: Sequence[Menu], ways: Sequence[tuple[int, int]]) -> Values:
        """What ways leave of each operand that is not there."""
        needs = np.zeros((len(self._operands), len(ways)))
        for place, (number, side) in enumerate(self._operands):
            for tensor, read, share in menus[number].parts[side]:
                needs[place] += [share * (own == tensor and reads <= read) for own, reads in ways]
        return needs

    def mixed(self, chosen: Mapping[int, Choice], excluded: Mapping[int, frozenset[int]]) -> Mixed:
        """The best where these choices are made, and mappings excluded, by product."""
        columns = [
            product.columns(chosen.get(number), excluded.get(number, frozenset()))
            for number, product in enumerate(self.products)
        ]
        firsts = np.cumsum([0, *(len(each.choices) for each in columns)])
        energy = np.concatenate([each.energy for each in columns])
        shares = self._shares(columns, firsts[:-1], energy)
        ways, of_choices = shares[: len(self._gain)], shares[len(self._gain) :]
        shared = [of_choices[start:end] for start, end in pairwise(firsts)]
        return Mixed(
            float(self._constant - self._gain @ ways + energy @ of_choices), ways[: self._ways],
            [_largest(each.choices, own) for each, own in zip(columns, shared, strict=True)],
            not any(each.stands_in and own[0] > _ABSENT for each, own in zip(columns, shared, strict=True)),
        )  # fmt: skip

    def _shares(self, columns: Sequence[Columns], firsts: Numbers, energy: Values) -> Values:
        """The shares of all columns in the best vertex."""
        ways, sizes = len(self._gain), [len(each.choices) for each in columns]
        gain = np.concatenate([self._gain, -energy])
        gain /= np.abs(gain).max()
        gain[ways + firsts] -= [_PENALTY * each.stands_in for each in columns]
        groups = np.repeat(np.arange(len(columns)), sizes) + len(self._tensors)
        group, taken = (
            np.append(self._tensor, groups),
            np.concatenate([self._taken, *(each.rows for each in columns)], axis=1),
        )
        start = np.append(np.arange(self._ways, ways), ways + firsts)
        return solved(Vertex(gain, group, taken[_scarce(taken, group)], start)).found()


def _largest(choices: Sequence[Choice], shares: Values) -> list[tuple[float, Choice]]:
    """The choices that have a share, the largest first."""
    found: dict[Choice, float] = {}
    for place in np.flatnonzero(shares > _ABSENT).tolist():
        found[choices[place]] = found.get(choices[place], 0.0) + float(shares[place])
    return sorted(((share, choice) for choice, share in found.items()), key=lambda pair: -pair[0])


def _scarce(taken: Values, group: Numbers) -> Numbers:
    """The rows that may be full, without those that one beside them implies."""
    starts = np.unique(group, return_index=True)[1]
    kept = np.flatnonzero(np.maximum.reduceat(taken, starts, axis=1).sum(axis=1) > 1)
    return _without_implied(_without_implied(kept, taken)[::-1], taken)


def _without_implied(rows: Numbers, taken: Values) -> Numbers:
    """The rows without those whose next one takes at least as much of everything."""
    while len(rows) > 1:
        implied = np.append((taken[rows[:-1]] <= taken[rows[1:]]).all(axis=1), False)
        if not implied.any():
            break
        rows = rows[~implied]
    return rows
