"""Tables over nests and tile sizes of a product: what no price, share or room changes of them.

What does not depend on prices, on shares that are there or on room is computed once for all products of one shape: all
of it where tile sizes are few, else what bounds take, and the rest for the tiles that bounds leave.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property, lru_cache, reduce
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fahw.layers.window_axes import Windows
from fahw.mapping.array_counts import ArrayCounts, ArrayNest, array_counts, breaks_of, counts_of_ways
from fahw.mapping.grid import Grid, all_tiles
from fahw.mapping.nest import CONCERNED, IRRELEVANT, LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, Reuse
from fahw.mapping.one_level.ways import NestWays, Numbers, PartWays, nest_ways
from fahw.mapping.problem import Dataflow, Dimension, MappedArray, OperandPlace, ResultPlace, TiledProduct, Unfolded
from fahw.mapping.sizes import Places, Sizes, Values

T = TypeVar("T")
Flags = tuple[bool, bool]
"""Of both dimensions of a part."""
_NOWHERE = Reuse((False, False), False)
_KEPT = 512
"""Shapes of products whose tables are kept: a deep network has some 200."""
_FEW = 512
"""Tile sizes up to which all are tabled."""


class Uses(NamedTuple):
    """A part of a product in every way to use its tiles again (the first axis), by tile size. `of_nest`: the way of
    each nest.

    `once`: its values if every tile comes once; `again`: where each comes as often as the loop that does not concern it
    turns, `trips` times; `visits`: how often each comes; `room`: values that lie in memory at a time, and where this is
    the `whole` part.
    """

    of_nest: Numbers
    once: Values
    again: Places
    trips: Values
    visits: Values
    room: Values
    whole: Places


class Tiles(NamedTuple):
    """Some tile sizes under all nests. `places`: theirs in the grid of all; `grid`: of these alone, along one axis;
    `array`: the array's counts in all ways that it notices (the first axis), `of_nest` the one of each nest;
    `first_tiles`: values of a tile of both operands, which the array waits for."""

    places: Numbers
    grid: Grid
    nests: tuple[Nest, ...]
    of_nest: Numbers
    array: ArrayCounts
    left: Uses
    right: Uses
    sums: Uses
    first_tiles: tuple[Values, Values]


class Table:
    """What no price, share or room changes of a product's nests under a dataflow."""

    def __init__(self, grid: Grid, ways: NestWays) -> None:
        self.grid, self.ways = grid, ways
        self.number = prod(grid.shape)
        self._kept: dict[Hashable, Any] = {}
        self._sizes = {name: np.array([values.ravel() for values in sizes[:6]]) for name, sizes in grid.sizes.items()}

    @cached_property
    def all_tiles(self) -> Tiles | None:
        """All tile sizes, where these are few."""
        return self.only if self.number <= _FEW else None

    @cached_property
    def only(self) -> Tiles:
        """All tile sizes, of which there are few, or one alone."""
        return self.at(np.arange(self.number))

    @cached_property
    def blocks(self) -> tuple[bool, ...]:
        """Whether nests have blocks: none have, or some."""
        return (False, True) if self.ways.plain < len(self.ways.staying[0]) else (False,)

    @cached_property
    def least(self) -> list[ArrayCounts]:
        """The array's least counts, without blocks and with them: nothing comes between two uses."""
        return [array_counts(self.grid, ArrayNest(block, _NOWHERE, _NOWHERE)) for block in self.blocks]

    def more_breaks(self, inside: Flags) -> list[Values]:
        """Without blocks and with them, how much more often than at least each sum is left incomplete if these loops of
        its own lie inside the one over K."""
        return self._once(("breaks", inside), lambda: self._more_breaks(inside))

    def _more_breaks(self, inside: Flags) -> list[Values]:
        nests = (ArrayNest(block, _NOWHERE, Reuse(inside, False)) for block in self.blocks)
        return [breaks_of(self.grid, nest) - least.breaks for nest, least in zip(nests, self.least, strict=True)]

    def held(self, part: int, held: Flags) -> tuple[Values, Places]:
        """Values that lie in memory at a time where all tiles of a part along these dimensions are held, and where that
        is all of it. Sums that need not wait take no room."""
        return self._once(("held", part, held), lambda: self._held(part, held))

    def _held(self, part: int, held: Flags) -> tuple[Values, Places]:
        grid, values = self.grid, self.grid.tile_values(part, held)
        if part == RESULTS and grid.problem.unfolded != "result":
            more = zip(self.least, self.more_breaks(held), strict=True)
            values = values * reduce(np.logical_and, (least.breaks + breaks > 0 for least, breaks in more))
        return values, grid.is_whole(part, held)

    def visited(self, part: int, inside: Flags) -> tuple[Values, Values]:
        """Values of the part that come if these loops lie inside the irrelevant one and nothing is held, and how often
        each does."""
        return self._once(("visited", part, inside), lambda: self._visited(part, inside))

    def _visited(self, part: int, inside: Flags) -> tuple[Values, Values]:
        turns = self.grid.visits(part, Reuse(inside, False))
        return self.grid.fetched_once(part, (False, False)) * turns, turns

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        value: T = self._kept[key]
        return value

    def at(self, places: Numbers) -> Tiles:
        """The tile sizes at some places of the grid, flattened."""
        axes = np.unravel_index(places, self.grid.shape)
        sizes = {
            name: _sizes_of(self._sizes[name].take(axis, axis=1), of)
            for (name, of), axis in zip(self.grid.sizes.items(), axes, strict=True)
        }
        grid, ways = Grid(self.grid.problem, self.grid.flow, sizes), self.ways
        array = counts_of_ways(grid, ways.staying, ways.sums, ways.plain)
        left, right, sums = (_uses(grid, part, of) for part, of in enumerate(ways.parts))
        first = grid.tile_values(LEFT_OPERAND), grid.tile_values(RIGHT_OPERAND)
        return Tiles(places, grid, ways.nests, ways.of_nest, array, left, right, sums, first)


class _Shape(NamedTuple):
    """What tables depend on. `array` without dataflows, `flow` without prices."""

    sizes: tuple[int, int, int]
    windows: Windows | None
    unfolded: Unfolded | None
    every_size: bool
    array: tuple[int, int, int, int, bool, bool]
    flow: tuple[str, Dimension, Dimension, Dimension, int | None, bool]
    given: tuple[tuple[int, int, int], Nest] | None
    """A tile and a nest that the table is of alone."""


def table_of(product: TiledProduct, flow: Dataflow, given: tuple[tuple[int, int, int], Nest] | None = None) -> Table:
    """The table of a product's nests under a dataflow, or of a given tile and nest. Raises ConfigError where that
    cannot be a tile."""
    array = product.array
    shape = _Shape(
        (product.m, product.n, product.k), product.windows, product.unfolded, product.every_size,
        (array.rows, array.cols, array.accumulators, array.held_folds, array.trimmed, array.double_buffered),
        (flow.name, flow.rows, flow.cols, flow.streamed, flow.stays, flow.skewed), given,
    )  # fmt: skip
    return _table(shape)


@lru_cache(maxsize=_KEPT)
def _table(shape: _Shape) -> Table:
    rows, cols, accumulators, held_folds, trimmed, double_buffered = shape.array
    flow, operand = Dataflow(*shape.flow), OperandPlace(1, "")
    product = TiledProduct(
        *shape.sizes, MappedArray(rows, cols, (), accumulators, held_folds, trimmed, double_buffered), operand, operand,
        ResultPlace(1, ""), windows=shape.windows, unfolded=shape.unfolded, every_size=shape.every_size,
    )  # fmt: skip
    tile, nest = shape.given or (None, None)
    return Table(
        all_tiles(product, flow, tile), nest_ways(flow.stays, flow.stays is not None and accumulators > 0, nest)
    )


def _sizes_of(values: Values, others: Sizes) -> Sizes:
    """Sizes of which these are the values, of the same dimension as others."""
    size, trips, last, shorter, stored, fetched = values
    return Sizes(size, trips, last, shorter, stored, fetched, others.distinct, others.length)


def _uses(grid: Grid, part: int, ways: PartWays) -> Uses:
    """The part in its ways, for tile sizes along one axis."""
    (first, second), (one, other) = grid.extents(part), ways.held
    trips, others = (grid.sizes[dimension].trips for dimension in CONCERNED[part])
    again, turns = grid.again_inside(part, ways.inside) & ~ways.holds, grid.sizes[IRRELEVANT[part]].trips
    return Uses(
        ways.of_nest,
        np.where(one, first.held_fetched, first.fetched) * np.where(other, second.held_fetched, second.fetched),
        again,
        turns,
        np.where(again, turns, 1.0),
        np.where(one, first.held, first.tile) * np.where(other, second.held, second.tile),
        (one | (trips == 1)) & (other | (others == 1)),
    )
