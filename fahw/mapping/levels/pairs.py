"""Tiles in tiles along one dimension: the sizes of outer tiles, and for each those of tiles that fill it evenly.

An outer tile is a whole number of tiles, or all of the dimension, so that the tiles are those of a product with one
level. A last outer tile that is a single tile, where the others are several, is not tried: then all of them are used
again in the same way.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fahw.errors import ConfigError, Problem
from fahw.mapping.problem import Dataflow, Dimension, TiledProduct
from fahw.mapping.sizes import Cut, Places, Sizes, cut_of, more_sizes

_ALL_UP_TO = 8
"""Granules of a dimension up to which every size of an outer tile is tried."""
_PARTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Outer tiles of a dimension that are tried beyond."""
_MOST_TILES = 16
"""Tiles along a dimension that an outer tile is divided into at most, unless it is all of the dimension."""


class Pairs(NamedTuple):
    """The sizes of outer tiles along a dimension, and those of tiles; then pair by pair of an outer tile and a tile the
    places of both in these, both of them, whether the outer one holds several, and whether it is among the few that are
    tried first."""

    outer_sizes: Sizes
    inner_sizes: Sizes
    place: npt.NDArray[np.intp]
    inner_place: npt.NDArray[np.intp]
    outer: Sizes
    inner: Sizes
    several: Places
    probes: Places

    def at(self, places: npt.NDArray[np.intp]) -> Pairs:
        """The pairs at some places alone."""
        outer, inner = self.outer.at(places), self.inner.at(places)
        several, probes = self.several[places], self.probes[places]
        place, inner_place = self.place[places], self.inner_place[places]
        return Pairs(self.outer_sizes, self.inner_sizes, place, inner_place, outer, inner, several, probes)

    def along(self, axis: int) -> Pairs:
        """The pairs along one axis of the grid of (m, n, k)."""
        shape = [1, 1, 1]
        shape[axis] = -1
        outer, inner, several = self.outer.along(axis), self.inner.along(axis), self.several.reshape(shape)
        return self._replace(outer=outer, inner=inner, several=several)


def pairs_of(
    product: TiledProduct, flow: Dataflow, dimension: Dimension, pinned: tuple[int, int] | None = None
) -> Pairs:
    """The pairs of the dimension that are tried under the dataflow, or one given (outer, inner) pair.

    Raises ConfigError where tiles cannot have these sizes, or do not fill the outer tile.
    """
    cut = cut_of(product, flow, dimension)
    return _pairs(cut, product.every_size, more_sizes(product, flow, dimension), pinned)


def inner_sizes(pairs: dict[Dimension, Pairs]) -> dict[Dimension, Sizes]:
    """The sizes of tiles, pair by pair, by dimension."""
    return {name: of.inner for name, of in pairs.items()}


@lru_cache(maxsize=4096)
def _pairs(cut: Cut, every: bool, more: tuple[int, ...], pinned: tuple[int, int] | None) -> Pairs:
    if pinned is None:
        sizes = cut.tried(every, more)
        if cut.of_positions:
            sizes = [*_outer_sizes(cut, every), *sizes[-1:]]
        pairs = [
            (outer, inner) for outer in _outer_sizes(cut, every) for inner in _inner_sizes(cut, outer, sizes, every)
        ]
    else:
        pairs = [_checked(cut, *pinned)]
    outer_sizes = sorted({outer for outer, _ in pairs}, reverse=True)
    sizes = sorted({inner for _, inner in pairs}, reverse=True)
    outer_table, inner_table = cut.table(outer_sizes), cut.table(sizes)
    place = np.array([outer_sizes.index(outer) for outer, _ in pairs])
    inner_place = np.array([sizes.index(inner) for _, inner in pairs])
    several = np.array([_tiles(cut, outer, inner) > 1 for outer, inner in pairs])
    return Pairs(
        outer_table, inner_table, place, inner_place, outer_table.at(place), inner_table.at(inner_place), several,
        _probes(place),
    )  # fmt: skip


def _probes(place: npt.NDArray[np.intp]) -> Places:
    """Of each outer tile the largest tile, and one in the middle."""
    counts = np.bincount(place)
    within = np.arange(place.size) - (np.cumsum(counts) - counts)[place]
    return np.asarray((within == 0) | (within == counts[place] // 2))


def outer_numbers(units: int, every: bool = False) -> list[int]:
    """The numbers of granules that outer tiles are tried with, falling: all of few; else parts, rounded up to three
    binary digits, so that many sizes of tiles fill them."""
    if every or units <= _ALL_UP_TO:
        return list(range(units, 0, -1))
    return sorted({units, *(min(units, _rounded(ceil(units / part))) for part in _PARTS)}, reverse=True)


def _rounded(number: int) -> int:
    step = 1 << max(0, number.bit_length() - 3)
    return -(-number // step) * step


def _outer_sizes(cut: Cut, every: bool) -> list[int]:
    if cut.windows is not None and cut.of_positions:
        row, sample = cut.windows.columns.windows, cut.windows.per_sample
        samples = [sample * number for number in outer_numbers(cut.windows.samples, every) if number > 1]
        return [*samples, *(row * number for number in outer_numbers(cut.windows.rows.windows, every))]
    units = ceil(cut.length / cut.unit)
    return [min(cut.length, number * cut.unit) for number in outer_numbers(units, every)]


def _inner_sizes(cut: Cut, outer: int, tried: list[int], every: bool) -> list[int]:
    """Of the sizes that are tried, and of the divisors of the outer one, those that fill it evenly, and with not too
    many tiles."""
    unit, least = cut.unit, 0 if every or cut.of_positions or outer == cut.length else outer // _MOST_TILES
    if cut.windows is not None and cut.of_positions:
        unit = cut.windows.columns.windows if outer <= cut.windows.per_sample else cut.windows.per_sample
    divisors = [unit * number for number in range(1, outer // unit + 1) if outer % (unit * number) == 0]
    return sorted((size for size in {*tried, *divisors} if size >= least and _fills(cut, outer, size)), reverse=True)


def _fills(cut: Cut, outer: int, inner: int) -> bool:
    """Whether outer tiles are whole numbers of tiles, and all of them several or all one."""
    if inner > outer or not (outer >= _step(cut, inner) or outer % inner == 0):
        return False
    last = _last(cut, outer)
    return (_tiles(cut, outer, inner) > 1) == (_tiles(cut, last, inner) > 1)


def _last(cut: Cut, outer: int) -> int:
    """The length of the last, shortest outer tile."""
    step = _step(cut, outer)
    return (step % outer) or outer


def _tiles(cut: Cut, length: int, inner: int) -> int:
    """The tiles in an outer tile of some length."""
    step = _step(cut, inner)
    return length // step * ceil(step / inner) if length >= step else ceil(length / inner)


def _step(cut: Cut, size: int) -> int:
    """What tiles of a size end with, however much of it is left: a row, a sample, or all of the dimension."""
    if cut.windows is None or not cut.of_positions:
        return cut.length
    row, sample = cut.windows.columns.windows, cut.windows.per_sample
    return row if size < row else sample if size <= sample else cut.length


def _checked(cut: Cut, outer: int, inner: int) -> tuple[int, int]:
    cut.check(outer)
    cut.check(inner)
    if not _fills(cut, outer, inner):
        message = f"tiles of {inner} must fill every outer tile of {outer} evenly, each with several or each with one"
        raise ConfigError(Problem("tile", message))
    return outer, inner
