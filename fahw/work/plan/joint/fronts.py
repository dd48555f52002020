"""Fronts: the mappings of which each takes less of some room than every cheaper one."""

from __future__ import annotations

import numpy as np

from fahw.mapping.shares.programme import Numbers, Values

_MOST_CELLS = 1 << 20
"""Cells of the grid of all rooms up to which it is made."""


class Fronts:
    """Mappings by the rooms that they take, in a grid whose cells are all combinations of such rooms; every list of
    costs has its own front. Where that would be too large, mappings are compared one by one."""

    def __init__(self, rooms: Values, left: Numbers) -> None:
        """`rooms`: of all mappings, by memory; `left`: the numbers of those that may be."""
        taken = rooms[:, left]
        taken = taken[(taken != taken[:, :1]).any(axis=1)]
        places = [np.unique(row, return_inverse=True) for row in taken]
        self._shape = tuple(len(values) for values, _ in places)
        self._rooms, self._left = taken, left
        if self._is_grid:
            cells = np.ravel_multi_index([place for _, place in places], self._shape) if places else 0 * left
            order = np.argsort(cells, kind="stable")
            self._numbers, self._cells, self._starts = left[order], *np.unique(cells[order], return_index=True)

    @property
    def _is_grid(self) -> bool:
        return int(np.prod(self._shape, dtype=np.int64)) <= _MOST_CELLS

    def of(self, cost: Values) -> Numbers:
        """The front, in no order. Of equal mappings the first is in it. `cost`: of all mappings, infinite where one
        cannot be."""
        return self._in_grid(cost[self._numbers]) if self._is_grid else self._one_by_one(cost[self._left])

    def _in_grid(self, cost: Values) -> Numbers:
        """Each cell has its cheapest mapping; it counts where it is cheaper than all cells that take no more."""
        if not len(cost):
            return self._numbers
        cheapest = np.minimum.reduceat(cost, self._starts)
        grid = np.full(self._shape or (1,), np.inf)
        grid.ravel()[self._cells] = cheapest
        others = _least_before(grid).ravel()[self._cells]
        sizes = np.diff(self._starts, append=len(cost))
        is_best = np.flatnonzero(np.repeat(np.where(cheapest < others, cheapest, np.nan), sizes) == cost)
        cells = np.searchsorted(self._starts, is_best, side="right")
        return self._numbers[is_best[np.unique(cells, return_index=True)[1]]]

    def _one_by_one(self, cost: Values) -> Numbers:
        order = np.lexsort((*self._rooms, cost))[: np.count_nonzero(np.isfinite(cost))]
        left, taken, found = self._left[order], self._rooms[:, order], list[int]()
        while len(left):
            found.append(int(left[0]))
            less = (taken < taken[:, :1]).any(axis=0)
            left, taken = left[less], taken[:, less]
        return np.array(found, np.int64)


def _least_before(grid: Values) -> Values:
    """The least of all other cells that are nowhere behind a cell."""
    least = grid
    for axis in range(grid.ndim):
        least = np.minimum.accumulate(least, axis=axis)
    before = np.full(grid.shape, np.inf)
    for axis in range(grid.ndim):
        own, shifted = (np.moveaxis(of, axis, 0) for of in (before, least))
        np.minimum(own[1:], shifted[:-1], out=own[1:])
    return before
