"""All tile sizes of a product at once: arrays over the grid of (m, n, k), and what tiles hold and share."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from fahw.mapping.nest import CONCERNED, IRRELEVANT, RESULTS, Reuse
from fahw.mapping.problem import UNFOLDED_DIMENSIONS, Dataflow, Dimension, TiledProduct
from fahw.mapping.sizes import Places, Sizes, Values, sizes_of

DIMENSIONS: tuple[Dimension, Dimension, Dimension] = ("m", "n", "k")
_PART_OF = {"left": 0, "right": 1, "result": RESULTS}


Insides = tuple[Places, Places]
"""Flags of several ways, the first axis, along both dimensions of a part; the second axis has one entry."""


class Extent(NamedTuple):
    """What a part has along one of its dimensions: in a tile, and over all tiles; in all tiles that may be held at
    once, and over all of these; without what several tiles share."""

    tile: Values
    fetched: Values | float
    held: Values | float
    held_fetched: Values | float
    distinct: float


class Around(NamedTuple):
    """The tiles of an outer memory that the tiles of a grid lie in. `sizes`: of these; `several`: where one holds more
    than one tile along a dimension; `changes`: for each part, where the loops over outer tiles bring another tile of it
    between two turns of the loop that does not concern it."""

    sizes: dict[Dimension, Sizes]
    several: dict[Dimension, Places]
    changes: tuple[Places | bool, Places | bool, Places | bool]


class Grid:
    """Tile sizes of a product under a dataflow, the largest first, and what of the counts no nest changes. Loops run
    over all tiles, or over those of an outer one `around` them."""

    def __init__(
        self, problem: TiledProduct, flow: Dataflow, sizes: dict[Dimension, Sizes], around: Around | None = None
    ) -> None:
        self.problem, self.flow, self.sizes, self.around = problem, flow, sizes, around
        self._extents: dict[int, tuple[Extent, Extent]] = {}
        self.several = (
            around.several if around else {dimension: sizes.trips > 1 for dimension, sizes in self.sizes.items()}
        )
        self.shape = np.broadcast_shapes(*(sizes.size.shape for sizes in self.sizes.values()))
        self.results = float(problem.m * problem.n)
        self.row_folds = self.sizes[flow.rows].pieces(problem.array.rows)
        self.col_folds = self.sizes[flow.cols].pieces(problem.array.cols)
        self.tile_row_folds = np.ceil(self.sizes[flow.rows].size / problem.array.rows)
        self.tile_col_folds = np.ceil(self.sizes[flow.cols].size / problem.array.cols)

    def may_fit(self) -> Places:
        """Where both operands have room under some nest: a tile of each as often as it is buffered, or all of it; and
        where window sums have."""
        room: dict[str, Values] = {}
        for part, operand in enumerate(self.problem.operands):
            if operand.resident < 1:
                least = np.minimum(self.tile_values(part) * operand.buffers, self.distinct(part)) * operand.bits
                room[operand.memory] = room[operand.memory] + least if operand.memory in room else least
        if self.problem.unfolded == "result":
            place = self.problem.result
            sums = self.tile_values(RESULTS) * place.sum_bits
            room[place.memory] = room[place.memory] + sums if place.memory in room else sums
        fits = np.ones(self.shape, bool)
        for memory, limit in self.problem.room:
            if memory in room:
                fits &= room[memory] <= limit
        return fits

    def again(self, part: int, reuse: Reuse) -> Places | bool:
        """Where the irrelevant loop brings other tiles between two uses of one: a loop that turns lies inside it."""
        turning = [
            self.several[dimension]
            for dimension, inside in zip(CONCERNED[part], reuse.inside, strict=True)
            if inside
        ]  # fmt: skip
        return False if not turning else turning[0] if len(turning) == 1 else turning[0] | turning[1]

    def visits(self, part: int, reuse: Reuse) -> Values:
        """How often each tile of the part comes: as often as the irrelevant loop turns where others come in between,
        and are not held. Of the turns of an outer tile's loop, every one counts that finds another tile there."""
        once = self._outer_visits(part, reuse) if self.around else np.ones(1)
        return once if reuse.holds else np.where(self.again(part, reuse), self.sizes[IRRELEVANT[part]].trips, once)

    def visits_inside(self, part: int, inside: Insides) -> Values:
        """How often each tile of the part comes in several ways, in which these loops lie inside the irrelevant one and
        nothing is held; of one level alone."""
        return np.where(self.again_inside(part, inside), self.sizes[IRRELEVANT[part]].trips, 1.0)

    def again_inside(self, part: int, inside: Insides) -> Places:
        """Where the irrelevant loop then brings other tiles between two uses of one."""
        first, second = CONCERNED[part]
        return np.asarray((inside[0] & self.several[first]) | (inside[1] & self.several[second]))

    def _outer_visits(self, part: int, reuse: Reuse) -> Values:
        assert self.around is not None
        changes = self.around.changes[part]
        for dimension, all_of_it in zip(CONCERNED[part], reuse.held, strict=True):
            changes = changes if all_of_it else np.logical_or(changes, self.several[dimension])
        return np.where(changes, self.around.sizes[IRRELEVANT[part]].trips, 1.0)

    def extents(self, part: int) -> tuple[Extent, Extent]:
        """What the part has along its two dimensions: inputs where it is unfolded, else values."""
        if part not in self._extents:
            first, second = CONCERNED[part]
            self._extents[part] = self._extent(part, first), self._extent(part, second)
        return self._extents[part]

    def _extent(self, part: int, dimension: Dimension) -> Extent:
        sizes, unfolded = self.sizes[dimension], self.problem.unfolded
        outer = self.around.sizes[dimension] if self.around else None
        if unfolded is not None and part == _PART_OF[unfolded] and dimension in UNFOLDED_DIMENSIONS[unfolded]:
            if outer:
                return Extent(sizes.stored, sizes.fetched, outer.stored, outer.fetched, sizes.distinct)
            return Extent(sizes.stored, sizes.fetched, sizes.distinct, sizes.distinct, sizes.distinct)
        return Extent(sizes.size, sizes.length, outer.size if outer else sizes.length, sizes.length, sizes.length)

    def distinct(self, part: int) -> float:
        """Values of the part as it lies in memory."""
        first, second = self.extents(part)
        return first.distinct * second.distinct

    def tile_values(self, part: int, held: tuple[bool, bool] = (False, False)) -> Values:
        """Values of the part that lie in its memory at a time: of a tile, or of all tiles along a dimension."""
        first, second = (
            extent.held if all_of_it else extent.tile
            for extent, all_of_it in zip(self.extents(part), held, strict=True)
        )
        return np.asarray(first * second)

    def fetched_once(self, part: int, held: tuple[bool, bool]) -> Values:
        """Values of the part when every tile is fetched once; inputs that held tiles share come once."""
        first, second = (
            extent.held_fetched if all_of_it else extent.fetched
            for extent, all_of_it in zip(self.extents(part), held, strict=True)
        )
        return np.asarray(first * second)

    def is_whole(self, part: int, held: tuple[bool, bool]) -> Places:
        """Where all of the part lies in its memory at once."""
        first, second = (
            self._is_outer_whole(dimension) if all_of_it else self.sizes[dimension].trips == 1
            for dimension, all_of_it in zip(CONCERNED[part], held, strict=True)
        )
        return np.asarray(first & second)

    def _is_outer_whole(self, dimension: Dimension) -> Places:
        return self.around.sizes[dimension].trips == 1 if self.around else np.ones(1, bool)

    @cached_property
    def fills(self) -> Values:
        """Cycles in which the array is filled and drained if every fold runs once."""
        array, folds = self.problem.array, self.row_folds * self.col_folds
        if not self.flow.skewed:
            return np.zeros_like(folds)
        if not array.trimmed:
            return folds * (array.rows + array.cols - 2)
        rows, cols = self.sizes[self.flow.rows].length, self.sizes[self.flow.cols].length
        return np.asarray(self.col_folds * rows + self.row_folds * cols - 2 * folds)

    @cached_property
    def loads(self) -> Values:
        """Cycles in which the operand that stays is loaded if every fold is loaded once."""
        if self.problem.array.trimmed:
            return self.col_folds * self.sizes[self.flow.rows].length
        return self.row_folds * self.col_folds * self.problem.array.rows


def all_tiles(problem: TiledProduct, flow: Dataflow, tile: tuple[int, int, int] | None = None) -> Grid:
    """The grid of all tiles that are tried, or of one alone. Raises ConfigError where this cannot be a tile."""
    pinned = tile or (None, None, None)
    sizes: dict[Dimension, Sizes] = {
        dimension: sizes_of(problem, flow, dimension, size).along(axis)
        for axis, (dimension, size) in enumerate(zip(DIMENSIONS, pinned, strict=True))
    }
    return Grid(problem, flow, sizes)
