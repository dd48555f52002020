"""Tile sizes of one dimension: which are tried, how many tiles each gives, and what a tile holds where it is unfolded.

Sizes are whole granules: the side of the array that the dimension lies on, taps of whole channels along a window, rows
of outputs or whole samples (or a strip of a row) along positions. The largest comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def sizes_of(product: TiledProduct, flow: Dataflow, dimension: Dimension, pinned: int | None = None) -> Sizes:
    """The sizes of the dimension that are tried under the dataflow, or the `pinned` one alone.

    Raises ConfigError where the pinned size is not one that tiles can have.
    """
    length, windows, granule = product.length(dimension), product.windows, _granule(product, flow, dimension)
    more = (product.array.accumulators,) if flow.stays is not None and dimension == flow.streamed else ()
    kinds = (
        dict(zip(UNFOLDED_DIMENSIONS[product.unfolded], (_OF_POSITIONS, _OF_WINDOW), strict=True))
        if product.unfolded
        else {}
    )
    kind = kinds.get(dimension, _PLAIN)
    return _sizes(kind, length, granule, windows if kinds.get(dimension) else None, product.every_size, more, pinned)


_PLAIN, _OF_POSITIONS, _OF_WINDOW = range(3)


def _granule(product: TiledProduct, flow: Dataflow, dimension: Dimension) -> int:
    """The side of the array that the dimension lies on; of a dimension that streams, 16 of K and one of others."""
    sides = {flow.rows: product.array.rows, flow.cols: product.array.cols}
    return sides.get(dimension, _STREAMED_GRANULE if dimension == "k" else 1)


@lru_cache(maxsize=4096)
def _sizes(
    kind: int, length: int, granule: int, windows: Windows | None, every: bool, more: tuple[int, ...],
    pinned: int | None,
) -> Sizes:  # fmt: skip
    """The sizes, kept: layers of one shape are many."""
    if windows is None:
        units = ceil(length / granule)
        tried = [min(length, unit * granule) for unit in granules(units, every, more)]
        rows = [_plain(length, size) for size in _chosen(tried, pinned, 1, length)]
        return _table(rows, length, length)
    if kind == _OF_WINDOW:
        tried = [channels * windows.taps for channels in granules(windows.channels, every)]
        rows = [_window(windows, size) for size in _chosen(tried, pinned, windows.taps, length)]
        return _table(rows, windows.channels, length)
    tried = _position_sizes(windows, granule, every)
    if pinned is not None:
        _check_positions(windows, pinned)
        tried = [pinned]
    channel = windows._replace(channels=1)
    rows = [_positions(channel, size) for size in tried]
    return _table(rows, channel.values, length)


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


def _chosen(tried: list[int], pinned: int | None, granule: int, length: int) -> list[int]:
    """What is tried, or the pinned size, if tiles can have it."""
    if pinned is None:
        return tried
    if not 0 < pinned <= length or pinned % granule:
        multiple = f", a multiple of {granule}" if granule > 1 else ""
        raise ConfigError(Problem("tile", f"must be from 1 to {length}{multiple} (got {pinned})"))
    return [pinned]


def _check_positions(windows: Windows, pinned: int) -> None:
    row, sample = windows.columns.windows, windows.per_sample
    step = 1 if pinned < row else row if pinned < sample else sample
    if not 0 < pinned <= windows.positions or pinned % step:
        message = f"must be less than a row of {row} outputs, whole rows, or whole samples of {sample}"
        raise ConfigError(Problem("tile", f"{message}, at most {windows.positions} (got {pinned})"))
