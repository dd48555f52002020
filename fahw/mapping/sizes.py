"""Tile sizes of one dimension: which are tried, how many tiles each gives, and what a tile holds where it is unfolded.

Sizes are whole granules: the side of the array that the dimension lies on, taps of whole channels along a window, rows
of outputs or whole samples (or a strip of a row) along positions. The largest comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fahw.errors import ConfigError, Problem
from fahw.layers.window_axes import Windows
from fahw.mapping.problem import UNFOLDED_DIMENSIONS, Dataflow, Dimension, TiledProduct

Values = npt.NDArray[np.float64]
"""Whole numbers below 2^53 and energies, over the grid of tile sizes."""
Places = npt.NDArray[np.bool_]
"""Where something holds, over the grid of tile sizes."""
_ALL_UP_TO = 20
"""Granules of a dimension up to which every size is tried."""
_MOST_PARTS = 16
"""Equal parts that more granules are divided into at most."""
_STREAMED_GRANULE = 16
"""Granule of a dimension K that streams, and outputs of a strip of a row where no array side says how many."""


class Sizes(NamedTuple):
    """Tile sizes of a dimension, an entry each. Of `trips` tiles, `shorter` have only `last` of the dimension.

    `stored`: what the largest tile holds of the dimension of an unfolded operand (inputs of a channel, or channels),
    `fetched`: this over all tiles, `distinct`: without the inputs that several tiles touch.
    """

    size: Values
    trips: Values
    last: Values
    shorter: Values
    stored: Values
    fetched: Values
    distinct: float
    length: float

    def at(self, places: npt.NDArray[np.intp] | slice) -> Sizes:
        """Those at some places alone."""
        size, trips, last, shorter, stored, fetched = (values[places] for values in self[:6])
        return Sizes(size, trips, last, shorter, stored, fetched, self.distinct, self.length)

    def pieces(self, most: int) -> Values:
        """How many pieces of at most `most` all tiles are cut into, each on its own."""
        full, last = np.ceil(self.size / most), np.ceil(self.last / most)
        return (self.trips - self.shorter) * full + self.shorter * last

    def along(self, axis: int) -> Sizes:
        """The same along one axis of the grid of (m, n, k)."""
        shape = [1, 1, 1]
        shape[axis] = -1
        size, trips, last, shorter, stored, fetched = (values.reshape(shape) for values in self[:6])
        return Sizes(size, trips, last, shorter, stored, fetched, self.distinct, self.length)


def granules(units: int, every: bool = False, more: Sequence[int] = ()) -> list[int]:
    """The numbers of granules that are tried of `units`, falling: all where they are few, else equal parts (1 to 16),
    below them a geometric series, and the smallest."""
    if every or units <= _ALL_UP_TO:
        return list(range(units, 0, -1))
    step = 2**0.5 if units < 512 else 2.0
    series, size = set[int](), 4.0
    while size < units / _MOST_PARTS:
        series.add(int(size))
        size *= step
    tried = (
        series
        | {1, 2, 3}
        | {ceil(units / parts) for parts in range(1, _MOST_PARTS + 1)}
        | {u for u in more if 0 < u <= units}
    )
    return sorted(tried, reverse=True)


class Cut(NamedTuple):
    """How a dimension of `length` can be cut into tiles: along a plain dimension in whole granules, or along the
    positions, or the window, of `windows`."""

    kind: int
    length: int
    granule: int
    windows: Windows | None

    def tried(self, every: bool, more: tuple[int, ...]) -> list[int]:
        """The sizes that are tried, falling."""
        if self.windows is None:
            units = granules(ceil(self.length / self.granule), every, more)
            return [min(self.length, unit * self.granule) for unit in units]
        if self.kind == _OF_WINDOW:
            return [channels * self.windows.taps for channels in granules(self.windows.channels, every)]
        return _position_sizes(self.windows, self.granule, every)

    @property
    def of_positions(self) -> bool:
        """Whether it runs over output positions, so that tiles end with rows and samples."""
        return self.kind == _OF_POSITIONS

    @property
    def unit(self) -> int:
        """What sizes are multiples of: a granule, or the taps of a channel."""
        return self.windows.taps if self.windows is not None and self.kind == _OF_WINDOW else self.granule

    def check(self, size: int) -> None:
        """Raise ConfigError where tiles cannot have this size."""
        if self.windows is not None and self.of_positions:
            _check_positions(self.windows, size)
            return
        granule = self.windows.taps if self.windows else 1
        if not 0 < size <= self.length or size % granule:
            multiple = f", a multiple of {granule}" if granule > 1 else ""
            raise ConfigError(Problem("tile", f"must be from 1 to {self.length}{multiple} (got {size})"))

    def table(self, sizes: Iterable[int]) -> Sizes:
        """What tiles of each of these sizes are."""
        if self.windows is None:
            return _table([_plain(self.length, size) for size in sizes], self.length, self.length)
        if self.kind == _OF_WINDOW:
            return _table([_window(self.windows, size) for size in sizes], self.windows.channels, self.length)
        channel = self.windows._replace(channels=1)
        return _table([_positions(channel, size) for size in sizes], channel.values, self.length)


def cut_of(product: TiledProduct, flow: Dataflow, dimension: Dimension) -> Cut:
    """How the dimension is cut under a dataflow."""
    kind = _PLAIN
    if product.unfolded and dimension in UNFOLDED_DIMENSIONS[product.unfolded]:
        positions = dimension == UNFOLDED_DIMENSIONS[product.unfolded][0]
        kind = _OF_POSITIONS if positions else _OF_WINDOW
    granule = _granule(product, flow, dimension)
    return Cut(kind, product.length(dimension), granule, product.windows if kind != _PLAIN else None)


def more_sizes(product: TiledProduct, flow: Dataflow, dimension: Dimension) -> tuple[int, ...]:
    """Granules that are tried besides: of the dimension that streams, as many as there are accumulators."""
    return (product.array.accumulators,) if flow.stays is not None and dimension == flow.streamed else ()


def sizes_of(product: TiledProduct, flow: Dataflow, dimension: Dimension, pinned: int | None = None) -> Sizes:
    """The sizes of the dimension that are tried under the dataflow, or the `pinned` one alone.

    Raises ConfigError where the pinned size is not one that tiles can have.
    """
    more = more_sizes(product, flow, dimension)
    return _sizes(cut_of(product, flow, dimension), product.every_size, more, pinned)


_PLAIN, _OF_POSITIONS, _OF_WINDOW = range(3)


def _granule(product: TiledProduct, flow: Dataflow, dimension: Dimension) -> int:
    """The side of the array that the dimension lies on; of a dimension that streams, 16 of K and one of others."""
    sides = {flow.rows: product.array.rows, flow.cols: product.array.cols}
    return sides.get(dimension, _STREAMED_GRANULE if dimension == "k" else 1)


@lru_cache(maxsize=4096)
def _sizes(cut: Cut, every: bool, more: tuple[int, ...], pinned: int | None) -> Sizes:
    """The sizes, kept: layers of one shape are many."""
    if pinned is None:
        return cut.table(cut.tried(every, more))
    cut.check(pinned)
    return cut.table([pinned])


_Row = tuple[int, int, int, int, int, int]


def _table(rows: Sequence[_Row], distinct: int, length: int) -> Sizes:
    size, trips, last, shorter, stored, fetched = np.array(rows, float).T.copy()
    return Sizes(size, trips, last, shorter, stored, fetched, float(distinct), float(length))


def _plain(length: int, size: int) -> _Row:
    trips = ceil(length / size)
    return size, trips, length - (trips - 1) * size, 1, size, length


def _window(windows: Windows, size: int) -> _Row:
    channels = size // windows.taps
    return *_plain(windows.window, size)[:4], channels, windows.channels


def _position_sizes(windows: Windows, granule: int, every: bool) -> list[int]:
    """Whole samples, rows of a sample, and a strip of a row, falling."""
    row, sample = windows.columns.windows, windows.per_sample
    samples = [sample * number for number in granules(windows.samples, every) if number > 1]
    rows = [row * number for number in granules(windows.rows.windows, every)]
    strip = granule if granule > 1 else _STREAMED_GRANULE
    return [*samples, *rows, *([strip] if strip < row else [])]


@lru_cache(maxsize=1 << 14)
def _positions(windows: Windows, size: int) -> _Row:
    """Tiles of whole samples, of rows, or of a strip of a row. `windows`: of one channel."""
    row, sample, samples = windows.columns.windows, windows.per_sample, windows.samples
    if size > sample:
        trips, last = _plain(samples, size // sample)[1:3]
        return size, trips, last * sample, 1, size // sample * windows.held(1, windows.rows.windows), windows.values
    rows, columns = max(1, size // row), min(size, row)
    stored, fetched = windows.held(1, rows, columns), windows.fetched(rows, columns)
    if size >= row:
        parts, last = _plain(windows.rows.windows, rows)[1:3]
        return size, samples * parts, last * row, samples, stored, fetched
    parts, last = _plain(row, size)[1:3]
    strips = samples * windows.rows.windows
    return size, strips * parts, last, strips, stored, fetched


def _check_positions(windows: Windows, pinned: int) -> None:
    row, sample = windows.columns.windows, windows.per_sample
    step = 1 if pinned < row else row if pinned < sample else sample
    if not 0 < pinned <= windows.positions or pinned % step:
        message = f"must be less than a row of {row} outputs, whole rows, or whole samples of {sample}"
        raise ConfigError(Problem("tile", f"{message}, at most {windows.positions} (got {pinned})"))
