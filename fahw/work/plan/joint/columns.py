"""Columns of the joint programme: the choices of one product, with what each takes of memories and needs of operands."""

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
    """A mapping of a product, by number, and which operands are wholly there, so that their tiles take no room."""

    mapping: int
    there: Corner


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
        self._first = int(menu.best[0][self._rows[:, 0, menu.best[0]].max(axis=0).argmin()])
        self._known: dict[tuple[Choice | None, frozenset[Choice]], Columns] = {}

    @property
    def least(self) -> Values:
        """What the first choice takes of each row."""
        return self._rows[:, 0, self._first]

    def as_large(self, choice: Choice) -> frozenset[Choice]:
        """The choices with the same operands there that take at least as much room."""
        corner = CORNERS.index(choice.there)
        best = self.menu.best[corner]
        rows = self._rows[:, corner]
        large = (rows[:, best] >= rows[:, [choice.mapping]]).all(axis=0)
        return frozenset(Choice(int(n), choice.there) for n in best[large])

    def columns(self, chosen: Choice | None, excluded: frozenset[Choice]) -> Columns:
        """The columns of a choice, or of all that are not excluded."""
        key = chosen, frozenset() if chosen else excluded
        if key not in self._known:
            self._known[key] = self._of(chosen) if chosen else self._without(excluded)
        return self._known[key]

    def _without(self, excluded: frozenset[Choice]) -> Columns:
        found = [(corner, Choice(int(n), CORNERS[corner])) for corner, best in enumerate(self.menu.best) for n in best]
        return self._with_first([(corner, choice) for corner, choice in found if choice not in excluded])

    def _of(self, chosen: Choice) -> Columns:
        """Those of one choice: an operand that is to be there wholly is; of others as much as there is, whose tiles
        take their room all the same."""
        found = [
            (corner, chosen) for corner, there in enumerate(CORNERS)
            if np.isfinite(self._energy[corner, chosen.mapping])
            and all(is_there or not must for is_there, must in zip(there, chosen.there, strict=True))
        ]  # fmt: skip
        return self._with_first(found)

    def _with_first(self, found: list[tuple[int, Choice]]) -> Columns:
        first = 0, Choice(self._first, CORNERS[0])
        stands_in = first not in found
        found = [first, *(pair for pair in found if pair != first)]
        corners = np.array([corner for corner, _ in found])
        mappings = np.array([choice.mapping for _, choice in found])
        rooms = np.array([CORNERS.index(choice.there) for _, choice in found])
        rows = self._rows[:, rooms, mappings] + self._needs[:, corners, 0]
        return Columns([choice for _, choice in found], self._energy[corners, mappings], rows, stands_in)
