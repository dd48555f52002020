"""Columns of the joint programme: the choices of a product, what each takes of memories and needs of operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as combinations
from typing import NamedTuple

import numpy as np

from fahw.hardware.memory import Memory
from fahw.mapping.shares.programme import Values
from fahw.work.plan.joint.menu import CORNERS, Corner, Menu
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured

_LEAST = 1e-6
"""Bits of a memory that is full."""


class Choice(NamedTuple):
    """Which operands of a product are wholly there, so that their tiles take no room, and its mapping, by number; None
    where that is open."""

    there: Corner
    mapping: int | None = None


class Row(NamedTuple):
    """A memory of a core at a moment, with the bits that are free of what is given, and the products that run then, by
    number: one of each array."""

    core: int
    memory: Memory
    moment: int
    capacity: float
    menus: tuple[int, ...]


class Columns(NamedTuple):
    """The choices of a product, the first of which fits if nothing is kept; their pJ; the shares of memories and of
    operands that they take, by row. `stands_in`: the first one is not to be chosen."""

    choices: Sequence[Choice]
    energy: Values
    rows: Values
    stands_in: bool


def rows_of(keeping: Keeping, menus: Sequence[Menu]) -> Iterator[Row]:
    """The rows of memories. Every product that may run at a moment has one, with each that may run on another array."""
    together, array_of = keeping.tiles.together, {task.task: task.array for task in keeping.tasks}
    for core, memory, _, given in keeping.taken(keeping.only_given, Measured()):
        for moment, bits in enumerate(given.tolist()):
            capacity = max(memory.kib * 8192 - bits, _LEAST)
            by_array: dict[str, list[int]] = {}
            for number, menu in enumerate(menus):
                is_there = together[moment, keeping.moments.of_task[menu.task]] and menu.core == core
                if is_there and memory.name in menu.names:
                    by_array.setdefault(array_of[menu.task], []).append(number)
            yield from (Row(core, memory, moment, capacity, several) for several in combinations(*by_array.values()))


class ProductColumns:
    """The columns of a product, where choices are made or excluded."""

    def __init__(self, number: int, menu: Menu, rows: Sequence[Row], operands: Sequence[tuple[int, int]]) -> None:
        """`operands`: of all products, by number of the product and side; their rows follow those of memories."""
        self.menu = menu
        self._energy, (corners, mappings) = menu.energy, menu.energy.shape
        self._rows = np.zeros((len(rows) + len(operands), corners, mappings))
        for place, row in enumerate(rows):
            if number in row.menus:
                self._rows[place] = [menu.room_in(row.memory.name, there) / row.capacity for there in CORNERS]
        self._needs = np.zeros((len(rows) + len(operands), corners, 1))
        for place, (own, side) in enumerate(operands, len(rows)):
            self._needs[place, :, 0] = [own == number and there[side] for there in CORNERS]
        best = menu.best[0, 0]
        self._first = int(best[self._rows[:, 0, best].max(axis=0).argmin()])
        self._known: dict[tuple[Choice | None, frozenset[int]], Columns] = {}

    @property
    def least(self) -> Values:
        """What the first choice takes of each row."""
        return self._rows[:, 0, self._first]

    @property
    def corners(self) -> list[Corner]:
        """What of the operands may be there wholly."""
        return [there for n, there in enumerate(CORNERS) if len(self.menu.best[n, n])]

    def as_large(self, there: Corner, mapping: int) -> frozenset[int]:
        """The mappings that take at least as much room as one, where the same operands are there."""
        rows = self._rows[:, CORNERS.index(there)]
        large = (rows >= rows[:, [mapping]]).all(axis=0)
        return frozenset(np.flatnonzero(large).tolist())

    def columns(self, chosen: Choice | None, excluded: frozenset[int]) -> Columns:
        """The columns of what is chosen so far, without mappings that are excluded."""
        key = chosen, excluded
        if key not in self._known:
            self._known[key] = self._with_first(list(self._found(chosen, excluded)))
        return self._known[key]

    def _found(self, chosen: Choice | None, excluded: frozenset[int]) -> Iterator[tuple[int, Choice]]:
        """The corners and choices. An operand that is to be there wholly is; of another as much is as there is, and its
        tiles take their room all the same."""
        for (corner, place), best in self.menu.best.items():
            there = CORNERS[place]
            if there == (CORNERS[corner] if chosen is None else chosen.there):
                given = chosen.mapping if chosen else None
                mappings = best.tolist() if given is None else [given] * bool(np.isfinite(self._energy[corner, given]))
                yield from ((corner, Choice(there, mapping)) for mapping in mappings if mapping not in excluded)

    def _with_first(self, found: list[tuple[int, Choice]]) -> Columns:
        first = 0, Choice(CORNERS[0], self._first)
        stands_in = first not in found
        found = [first, *(pair for pair in found if pair != first)]
        corners = np.array([corner for corner, _ in found])
        mappings = np.array([choice.mapping for _, choice in found], np.int64)
        rooms = np.array([CORNERS.index(choice.there) for _, choice in found])
        rows = self._rows[:, rooms, mappings] + self._needs[:, corners, 0]
        return Columns([choice for _, choice in found], self._energy[corners, mappings], rows, stands_in)
