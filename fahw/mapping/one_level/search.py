"""The best of all nests and tile sizes of a product, in any room or where there is some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fahw.mapping.cost import EQUAL
from fahw.mapping.one_level.nest_prices import NestPrices
from fahw.mapping.one_level.tables import Numbers
from fahw.mapping.problem import TiledProduct
from fahw.mapping.sizes import Places, Values


class Chosen(NamedTuple):
    """A mapping: the prices of its dataflow, its nest by number, the place of its tile in the grid; its energy in pJ,
    and cycles."""

    prices: NestPrices
    nest: int
    place: tuple[int, int, int]
    energy: float
    latency: float

    def at(self, values: Values, number: int = 0) -> float:
        """Of values over the grid in several ways, that of one way."""
        (m, n, k), (rows, columns, depth) = self.place, values.shape[-3:]
        return float(values[number, m if rows > 1 else 0, n if columns > 1 else 0, k if depth > 1 else 0])

    @property
    def room(self) -> dict[str, float]:
        """Bits that its tiles take, by memory, not rounded."""
        return {memory: self.at(bits) for memory, bits in self.prices.room(slice(self.nest, self.nest + 1)).items()}


class _Rivals(NamedTuple):
    """Mappings of some nests in the order of ties, with their objective, energy and cycles."""

    prices: NestPrices
    nest: Numbers
    tile: Numbers
    cost: Values
    energy: Values
    latency: Values

    def at(self, place: int) -> Chosen:
        """One of them."""
        _, columns, depth = self.prices.table.grid.shape
        first, k = divmod(int(self.tile[place]), depth)
        measures = float(self.energy[place]), float(self.latency[place])
        return Chosen(self.prices, int(self.nest[place]), (*divmod(first, columns), k), *measures)


_Priced = tuple[NestPrices, slice, Values, Values]
"""Nests of a dataflow, with their energies and cycles."""


class Search:
    """The mappings of a product: of the least objective, and of equals the least of the other measure, then the
    first."""

    def __init__(self, product: TiledProduct) -> None:
        self._objective = product.objective
        prices = [NestPrices(product, flow) for flow in product.array.dataflows]
        self._priced: list[_Priced] = [(each, some, *each.priced(some)) for each in prices for some in each.chunks()]

    def best(self) -> Chosen | None:
        """The best, whatever room it takes; None where none can be."""
        return self._chosen([prices.possible(some) for prices, some, _, _ in self._priced])

    def best_that_fits(self) -> Chosen | None:
        """The best for which there is room; None where there is none."""
        return self._chosen([prices.fits(some) for prices, some, _, _ in self._priced])

    def _chosen(self, may_be: Sequence[Places]) -> Chosen | None:
        """The best where it may be."""
        limit, rivals = np.inf, list[_Rivals]()
        for priced, where in zip(self._priced, may_be, strict=True):
            found = self._rivals(priced, where, limit)
            if found is not None:
                limit = min(limit, float(found.cost.min()) * (1 + EQUAL))
                rivals.append(found)
        best, chosen = np.inf, None
        for found in rivals:
            others = found.latency if self._objective == "energy" else found.energy
            for first in _first_of_nests(found, others, limit):
                if others[first] < best * (1 - EQUAL):
                    best, chosen = float(others[first]), found.at(first)
        return chosen

    def _rivals(self, priced: _Priced, may_be: Places, limit: float) -> _Rivals | None:
        """The mappings that cost the least of some nests, where that is within a limit."""
        prices, some, energy, latency = priced
        shape = (len(prices.table.nests[some]), *prices.table.grid.shape)
        cost = {"energy": energy, "latency": latency}.get(self._objective)
        cost = np.where(may_be, latency * energy if cost is None else cost, np.inf)
        least = float(cost.min())
        if least > limit or least == np.inf:
            return None
        places = np.flatnonzero(np.broadcast_to(cost, shape) <= min(limit, least * (1 + EQUAL)))
        nest, tile = np.divmod(places, prices.cells)
        cost, energy, latency = (np.broadcast_to(each, shape).ravel()[places] for each in (cost, energy, latency))
        return _Rivals(prices, nest + some.start, tile, cost, energy, latency)


def _first_of_nests(found: _Rivals, others: Values, limit: float) -> Iterator[int]:
    """By nest, the first mapping within the limit that has the least of the other measure."""
    equals = np.flatnonzero(found.cost <= limit)
    begins = np.flatnonzero(np.diff(found.nest[equals], prepend=-1))
    for members in np.split(equals, begins[1:]) if len(equals) > 1 else [equals]:
        if len(members):
            yield int(members[others[members].argmin()])
