"""The best of all nests and tile sizes of a product, in any room or where there is some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from fahw.mapping.cost import EQUAL
from fahw.mapping.one_level.lowest import Bounds
from fahw.mapping.one_level.nest_prices import EVERY, NestPrices, Pair, Pairs
from fahw.mapping.one_level.tables import Tiles, table_of
from fahw.mapping.one_level.ways import Numbers
from fahw.mapping.problem import Dataflow, TiledProduct
from fahw.mapping.sizes import Values

_PARTS, _FIRST = 32, 3
"""Parts of the tile sizes: first are priced all with bounds up to the lowest ones of this part, by its bound."""
_MOST_CELLS = 1 << 16
"""Nests times tile sizes that are priced at once: more do not stay near the processor."""


class Chosen(NamedTuple):
    """A mapping: the prices of its dataflow, its nest by number, and its tile size among those priced."""

    prices: NestPrices
    nest: int
    place: int

    @property
    def pair(self) -> Pair:
        """Picks its own of values."""
        return Pair(self.nest, self.place)

    @property
    def room(self) -> dict[str, float]:
        """Bits that its tiles take, by memory, not rounded."""
        return {memory: float(bits) for memory, bits in self.prices.room(self.pair).items()}


class _Rivals(NamedTuple):
    """Mappings that may be the best: by the number of their dataflow, nest and place in the grid, with their objective
    and the other measure; their prices, and the places among these."""

    flow: int
    nest: Numbers
    tile: Numbers
    cost: Values
    other: Values
    prices: NestPrices
    place: Numbers


class _Priced:
    """A product under one dataflow, its tile sizes to be priced."""

    def __init__(self, product: TiledProduct, flow: Dataflow, number: int) -> None:
        self.product, self.flow, self.number = product, flow, number
        self.table = table_of(product, flow)

    @cached_property
    def all_prices(self) -> NestPrices | None:
        """The prices of all tile sizes, where these are few."""
        tiles = self.table.all_tiles
        return self.prices(tiles) if tiles else None

    def prices(self, tiles: Tiles) -> NestPrices:
        """The prices of some."""
        return NestPrices(self.product, self.flow, tiles)

    def low(self, roomy: bool) -> Values:
        """What no nest costs less than, over the grid of tile sizes, flattened."""
        return self._over_grid(self._bounds.in_any_room() if roomy else self._bounds.in_room())

    def _over_grid(self, low: Values) -> Values:
        shape = self.table.grid.shape
        return np.ravel(low if low.shape == shape else np.broadcast_to(low, shape))

    @cached_property
    def _bounds(self) -> Bounds:
        return Bounds(self.product, self.flow, self.table)

    def first(self, low: Values, limit: float) -> Iterator[NestPrices]:
        """Yield the prices of a few tile sizes with low bounds, and raise these: they are done."""
        size = low.size // _PARTS
        lowest = np.sort(low[: size * _PARTS].reshape(_PARTS, size).min(axis=1))
        places = np.flatnonzero(low <= min(float(lowest[_FIRST]), limit))[: self._batch]
        low[places] = np.inf
        if places.size:
            yield self.prices(self.table.at(places))

    def others(self, low: Values, found: _Found) -> Iterator[NestPrices]:
        """Yield the prices of those whose bounds are not above the limit, which falls."""
        left = np.flatnonzero(low <= found.limit)
        left = left[np.argsort(low[left])] if left.size else left
        for some in self._batches(left):
            some = np.sort(some[low[some] <= found.limit])
            if some.size:
                yield self.prices(self.table.at(some))

    def least_room(self, memory: str, found: _Found, enough: float) -> None:
        """Lower the limit to the least bits that a mapping takes of a memory, or to what is enough."""
        if self.all_prices:
            turns: Iterable[NestPrices] = [self.all_prices]
        else:
            low = self._over_grid(self._bounds.least_room(memory) * (1 + EQUAL))
            first = np.array([low.argmin()])
            turns = chain([self.prices(self.table.at(first))], self.others(low, found))
        for prices in turns:
            found.limit = min(found.limit, float(prices.room_in(memory, EVERY).min()))
            if found.limit <= enough:
                return

    def _batches(self, places: Numbers) -> Iterator[Numbers]:
        return (places[start : start + self._batch] for start in range(0, places.size, self._batch))

    @property
    def _batch(self) -> int:
        return _MOST_CELLS // len(self.table.ways.nests)


class _Found:
    """The mappings of the least objective so far, and up to which another one can be equal."""

    def __init__(self) -> None:
        self.limit, self.rivals = float(np.finfo(float).max), list[_Rivals]()

    def add(self, number: int, prices: NestPrices, roomy: bool) -> None:
        """Take those in that cost no more."""
        cost, where = prices.cost, prices.possible if roomy else prices.fits
        if where is not None:
            cost = np.where(where, cost, np.inf)
        least = float(cost.min())
        if least > self.limit:
            return
        self.limit = min(self.limit, least * (1 + EQUAL))
        at = np.flatnonzero(cost <= self.limit)
        nest, place = np.divmod(at, cost.shape[1])
        other = prices.other(Pairs(nest, place))
        self.rivals.append(_Rivals(number, nest, prices.tiles.places[place], cost.take(at), other, prices, place))

    def best(self) -> Chosen | None:
        """Of those of the least objective the one of the least other measure, and of equals the first in the order of
        dataflows, nests and tile sizes. Of equals of one nest the very least counts."""
        kept = [(found, np.flatnonzero(found.cost <= self.limit)) for found in self.rivals]
        kept = [(found, at) for found, at in kept if at.size]
        if not kept:
            return None
        place = _first(kept)
        for found, at in kept:
            if place < at.size:
                return Chosen(found.prices, int(found.nest[at[place]]), int(found.place[at[place]]))
            place -= at.size
        return None


def _first(kept: Sequence[tuple[_Rivals, Numbers]]) -> int:
    """The place, among all mappings of these, of the first of the least other measure."""
    nest, tile, other = (
        np.concatenate([getattr(found, name)[at] for found, at in kept]) for name in ("nest", "tile", "other")
    )
    if len(kept) == 1:
        return _first_of_least(nest, nest, other)
    flow = np.concatenate([np.full(at.size, found.flow) for found, at in kept])
    order = np.lexsort((tile, nest, flow))
    return int(order[_first_of_least(flow[order], nest[order], other[order])])


def _first_of_least(flow: Numbers, nest: Numbers, other: Values) -> int:
    """The place of the first mapping of the least other measure, of sorted ones."""
    if other.size == 1:
        return 0
    begins = np.flatnonzero((flow[1:] != flow[:-1]) | (nest[1:] != nest[:-1])) + 1
    begins = np.concatenate([[0], begins])
    best, chosen = np.inf, 0
    for number, least in enumerate(np.minimum.reduceat(other, begins).tolist()):
        if least < best * (1 - EQUAL):
            best, chosen = least, number
    begin = begins[chosen]
    end = begins[chosen + 1] if chosen + 1 < begins.size else other.size
    return int(begin + other[begin:end].argmin())


class Search:
    """The mappings of a product: of the least objective, and of equals the least of the other measure, then the
    first."""

    def __init__(self, product: TiledProduct) -> None:
        self._flows = [_Priced(product, flow, number) for number, flow in enumerate(product.array.dataflows)]

    def best(self) -> Chosen | None:
        """The best, whatever room it takes; None where none can be."""
        return self._chosen(True)

    def best_that_fits(self) -> Chosen | None:
        """The best for which there is room; None where there is none."""
        return self._chosen(False)

    def least_room(self, memory: str, enough: float) -> float:
        """The least bits that any mapping takes of a memory, or those of one that takes no more than enough."""
        found = _Found()
        for flow in self._flows:
            if found.limit > enough:
                flow.least_room(memory, found, enough)
        return found.limit

    def _chosen(self, roomy: bool) -> Chosen | None:
        found, bounded = _Found(), list[tuple[Values, _Priced]]()
        for flow in self._flows:
            if flow.all_prices:
                found.add(flow.number, flow.all_prices, roomy)
            else:
                bounded.append((flow.low(roomy), flow))
        for low, flow in sorted(bounded, key=lambda of: float(of[0].min())):
            for prices in flow.first(low, found.limit):
                found.add(flow.number, prices, roomy)
        for low, flow in bounded:
            for prices in flow.others(low, found):
                found.add(flow.number, prices, roomy)
        return found.best()
