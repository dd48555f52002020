"""Tables over all nests and tile sizes of a product: what no price, share or room changes of them.

Nests share parts: an operand's tiles can be used again in seven ways, and the array sees few differences. What does not
depend on prices, on shares that are there or on room is computed once for all products of one shape.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fahw.layers.window_axes import Windows
from fahw.mapping.array_counts import ArrayCounts, array_counts, array_nest
from fahw.mapping.grid import Grid, all_tiles
from fahw.mapping.nest import IRRELEVANT, LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, nests
from fahw.mapping.problem import Dataflow, Dimension, MappedArray, OperandPlace, ResultPlace, TiledProduct, Unfolded
from fahw.mapping.sizes import Places, Values

Numbers = npt.NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)
_GRID = np.empty((1, 1, 1))
_KEPT = 512
"""Shapes of products whose tables are kept: a deep network has some 200."""


class Uses(NamedTuple):
    """A part of a product in every way to use its tiles again (the first axis). `of_nest`: the way of each nest.

    `once`: its values if every tile comes once; `again`: where each comes as often as the loop that does not concern it
    turns, `trips` times; `room`: values that lie in memory at a time, as often as they have room.
    """

    of_nest: Numbers
    once: Values
    again: Places
    trips: Values
    room: Values

    @property
    def visits(self) -> Values:
        """How often each tile comes."""
        return np.where(self.again, self.trips, 1.0)


class Table(NamedTuple):
    """What no price, share or room changes of a product's nests under a dataflow. `array`: the array's counts in all
    ways that it notices (the first axis), `of_nest` the one of each nest."""

    grid: Grid
    nests: tuple[Nest, ...]
    of_nest: Numbers
    array: ArrayCounts
    left: Uses
    right: Uses
    sums: Uses
    first_tiles: tuple[Values, Values]
    """Values of a tile of both operands, which the array waits for."""


class _Shape(NamedTuple):
    """What tables depend on. `there`: whether an operand is on the chip wholly; `buffers` as in `OperandPlace`; `array`
    without dataflows, `flow` without prices."""

    sizes: tuple[int, int, int]
    windows: Windows | None
    unfolded: Unfolded | None
    every_size: bool
    there: tuple[bool, bool]
    buffers: tuple[int, int]
    array: tuple[int, int, int, int, bool, bool]
    flow: tuple[str, Dimension, Dimension, Dimension, int | None, bool]
    given: tuple[tuple[int, int, int], Nest] | None
    """A tile and a nest that the table is of alone."""


def table_of(product: TiledProduct, flow: Dataflow, given: tuple[tuple[int, int, int], Nest] | None = None) -> Table:
    """The table of a product's nests under a dataflow, or of a given tile and nest. Raises ConfigError where that
    cannot be a tile."""
    array, (left, right) = product.array, product.operands
    shape = _Shape(
        (product.m, product.n, product.k), product.windows, product.unfolded, product.every_size,
        (left.resident >= 1, right.resident >= 1), (left.buffers, right.buffers),
        (array.rows, array.cols, array.accumulators, array.held_folds, array.trimmed, array.double_buffered),
        (flow.name, flow.rows, flow.cols, flow.streamed, flow.stays, flow.skewed), given,
    )  # fmt: skip
    return _table(shape)


@lru_cache(maxsize=_KEPT)
def _table(shape: _Shape) -> Table:
    rows, cols, accumulators, held_folds, trimmed, double_buffered = shape.array
    flow, array = (
        Dataflow(*shape.flow),
        MappedArray(rows, cols, (), accumulators, held_folds, trimmed, double_buffered),
    )
    left, right = (
        OperandPlace(1, "", float(there), buffers)
        for there, buffers in zip(shape.there, shape.buffers, strict=True)
    )  # fmt: skip
    product = TiledProduct(
        *shape.sizes, array, left, right, ResultPlace(1, ""), windows=shape.windows, unfolded=shape.unfolded,
        every_size=shape.every_size,
    )  # fmt: skip
    tile, found = (shape.given[0], (shape.given[1],)) if shape.given else (None, nests(product, flow))
    grid = all_tiles(product, flow, tile)
    seen, of_nest = _numbered(array_nest(grid, nest) for nest in found)
    counts = [array_counts(grid, nest) for nest in seen]
    array_table = ArrayCounts(
        (_stacked(each.reads[0] for each in counts), _stacked(each.reads[1] for each in counts)),
        _stacked(each.breaks for each in counts), _stacked(each.accumulated for each in counts),
        _stacked(each.cycles for each in counts), _stacked(each.begun for each in counts),
    )  # fmt: skip
    parts = [_uses(grid, found, part) for part in (LEFT_OPERAND, RIGHT_OPERAND, RESULTS)]
    first = grid.tile_values(LEFT_OPERAND), grid.tile_values(RIGHT_OPERAND)
    return Table(grid, found, of_nest, array_table, parts[0], parts[1], parts[2], first)


def _numbered(keys: Iterable[Key]) -> tuple[list[Key], Numbers]:
    """The different ones of these keys, and the number of each one's own among them."""
    numbers: dict[Key, int] = {}
    of_each = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(of_each)


def _stacked(values: Iterable[Values | Places | float]) -> npt.NDArray[Any]:
    """Values over the grid along a new first axis."""
    arrays = [np.asarray(each) for each in values]
    stacked = np.empty((len(arrays), *np.broadcast(_GRID, *arrays).shape), arrays[0].dtype)
    for place, each in enumerate(arrays):
        stacked[place] = each
    return stacked


def _uses(grid: Grid, found: Iterable[Nest], part: int) -> Uses:
    ways, of_nest = _numbered(nest.reuses[part] for nest in found)
    rooms = [np.asarray(grid.tile_values(part, way.held), float) for way in ways]
    if part != RESULTS:
        operand = grid.problem.operands[part]
        several = (np.where(grid.is_whole(part, way.held), 1, operand.buffers) for way in ways)
        rooms = [room * (0 if operand.resident >= 1 else times) for room, times in zip(rooms, several, strict=True)]
    return Uses(
        of_nest,
        _stacked(grid.fetched_once(part, way.held) for way in ways),
        _stacked(False if way.holds else grid.again(part, way) for way in ways),
        grid.sizes[IRRELEVANT[part]].trips,
        _stacked(rooms),
    )
