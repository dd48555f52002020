"""The best tiles on two levels: outer tiles with a low bound come first, so that most others are excluded unseen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fahw.mapping.array_counts import ArrayNest, array_counts, array_nest
from fahw.mapping.cost import EQUAL, NestCosts
from fahw.mapping.grid import DIMENSIONS, Grid
from fahw.mapping.levels.inner_costs import InnerCosts
from fahw.mapping.levels.outer_costs import OUTER_NESTS, OuterCosts, around, inner_flow, inner_problem
from fahw.mapping.levels.pairs import inner_sizes, pairs_of
from fahw.mapping.nest import IRRELEVANT, RESULTS, Nest, Reuse, nests
from fahw.mapping.problem import Dataflow, Dimension, OuterLevel, TiledProduct
from fahw.mapping.sizes import Places, Values

Indices = npt.NDArray[np.intp]
Box = tuple[Indices, Indices, Indices]
"""Pairs of tiles along m, n and k; all of one with all of the others."""
_MOST = np.finfo(float).max
_FIRST = 1024
"""Pairs of tiles that are priced first, those with the lowest bounds."""
_NOWHERE = Reuse((False, False), False)


class Found(NamedTuple):
    """A mapping of two levels: the costs of many, the nest, its place among these, and the nest of outer tiles."""

    costs: InnerCosts
    nest: Nest
    place: int
    outer_nest: Nest


class _Priced(NamedTuple):
    """A nest with the least objective of its tiles; `order`: where it stands among equals."""

    least: float
    order: tuple[int, int]
    nest: Nest
    costs: InnerCosts
    pairs: Box


def best_on_two_levels(product: TiledProduct, level: OuterLevel, most: float) -> Found | None:
    """The mapping with the least objective, if it is below `most`. Of equals: the least of the other measure, then the
    dataflow listed first, the first nest of tiles, the first of outer tiles, and the largest m, n and k, the outer one
    before the other of each."""
    flows = [_Search(product, level, flow, number) for number, flow in enumerate(product.array.dataflows)]
    limit, found = most * (1 - EQUAL), list[_Priced]()
    for search in sorted(flows, key=lambda search: search.low):
        for priced in search.priced(limit):
            if priced.least <= limit:
                found.append(priced)
                limit = min(limit, priced.least * (1 + EQUAL))
                search.limit = limit
    equals = [one for priced in found if priced.least <= limit for one in _equals(priced, limit)]
    if not equals:
        return None
    least = min(other for other, _, _ in equals) * (1 + EQUAL)
    return min((one for one in equals if one[0] <= least), key=lambda one: one[1])[2]


_Equal = tuple[float, tuple[int, ...], Found]


def _equals(priced: _Priced, limit: float) -> list[_Equal]:
    """Of a nest, the mappings that are as good as the best: their other measure, their place in the order of ties."""
    costs, nest, shape = priced.costs, priced.nest, priced.costs.grid.shape
    places = np.flatnonzero(costs.objective(nest) <= limit)
    others = np.broadcast_to(costs.other(nest), shape)[places]
    outer = np.broadcast_to(costs.outer(nest).nest, shape)[places]
    least = others <= others.min() * (1 + EQUAL)
    return [
        (
            float(other),
            (*priced.order, int(outer_nest), *(int(of[place]) for of in priced.pairs)),
            Found(costs, nest, int(place), OUTER_NESTS[outer_nest]),
        )
        for place, other, outer_nest in zip(places[least], others[least], outer[least], strict=True)
    ]


class _Search:
    """The search under one dataflow, the `number`-th. `low`: what no mapping is below."""

    def __init__(self, product: TiledProduct, level: OuterLevel, flow: Dataflow, number: int) -> None:
        self.product, self.level, self.number = product, level, number
        self.problem, self.limit = inner_problem(product, level), np.inf
        self.pairs = {name: pairs_of(product, flow, name) for name in DIMENSIONS}
        self.outer, self.flow = OuterCosts(product, level, flow, self.pairs), inner_flow(flow, level)
        self.shape = self.outer.grid.shape
        energy_alone = product.objective == "energy" and (not product.prices.static or np.isinf(self._slowest))
        self.choices = {name: self.outer.best(name, energy_alone) for name in DIMENSIONS}
        self.lows = {name: self._low(name) for name in DIMENSIONS}
        sizes = {name: self.pairs[name].inner_sizes.along(axis) for axis, name in enumerate(DIMENSIONS)}
        grid = Grid(self.problem, self.flow, sizes)
        self.array, self.inner_shape = _array_bound(grid), grid.shape
        energy, cycles = (of.min(keepdims=True) for of in self.array)
        self.tile_lows = np.minimum.reduce([self._bound(self.lows[name], energy, cycles) for name in DIMENSIONS])
        low, latency = (np.minimum.reduce([of[part] for of in self.lows.values()]) for part in range(2))
        self.any_low = low, latency
        self.low = float(self.tile_lows.min())

    @property
    def _slowest(self) -> float:
        return min(self.product.dram_bits_per_cycle, self.level.bits_per_cycle)

    def _low(self, innermost: Dimension) -> tuple[Values, Values]:
        """pJ and cycles that outer tiles take at least besides the array, if this loop is the innermost that turns."""
        moved = [self._least_moved(part, innermost) for part in range(3)]
        waits = moved[RESULTS] > 0 if self.level.result else np.zeros(1, bool)
        waiting, dry = self._least(True, innermost), self._least(False, innermost)
        energy, least = np.where(waits, waiting[0], dry[0]), np.where(waits, waiting[1], dry[1])
        if self.problem.unfolded == "result":
            energy = np.where(self._turns(RESULTS, innermost) > 1, np.inf, energy)
        bits = {True: np.zeros(1), False: np.where(energy < np.inf, least, 0.0)}
        dearer = zip(self.problem.prices.fetch, self.flow.costs.fetches, strict=True)
        prices = (*(price * factor for price, factor in dearer), self.problem.prices.spilled_sum)
        widths = (self.problem.left.bits, self.problem.right.bits, 2 * self.problem.result.sum_bits)
        for values, place, price, width in zip(moved, self.level.places, prices, widths, strict=True):
            energy = energy + values * price
            key = place is not None
            bits[key] = bits[key] + values * width
        return energy, np.maximum(
            bits[False] / self.product.dram_bits_per_cycle, bits[True] / self.level.bits_per_cycle
        )  # fmt: skip

    def _least(self, waiting: bool, innermost: Dimension) -> tuple[Values, Values]:
        """pJ and bits through DRAM of loops over outer tiles, each at least."""
        choices = [of.waiting if waiting else of.dry for of in self.choices[innermost]]
        return np.minimum.reduce([of.energy for of in choices]), np.minimum.reduce([of.dram_bits for of in choices])

    def _least_moved(self, part: int, innermost: Dimension) -> Values:
        """Values of a part that come to local memories at least: once per outer tile, unless it can stay."""
        grid, once = self.outer.grid, self.outer.grid.fetched_once(part, (False, False))
        turns = self._turns(part, innermost)
        if part == RESULTS:
            return once - grid.distinct(part) if self.problem.unfolded == "result" else grid.results * (turns - 1)
        return once * (1 - self.problem.operands[part].resident) * turns

    def _turns(self, part: int, innermost: Dimension) -> Values:
        """How often outer tiles of a part come to local memories at least."""
        turns = self.outer.grid.sizes[IRRELEVANT[part]].trips
        return np.where(self._may_stay(part), 1.0, turns) if innermost == IRRELEVANT[part] else turns

    def _may_stay(self, part: int) -> Places:
        """Where local memories, or for sums the array, have room for all that an outer tile has of the part."""
        problem, array, values = self.problem, self.problem.array, self.outer.grid.tile_values(part)
        if part == RESULTS:
            memory, bits = problem.result.memory, float(problem.result.sum_bits)
            at_the_array = values <= max(array.rows, array.accumulators) * array.cols
        else:
            memory, bits = problem.operands[part].memory, problem.operands[part].bits
            at_the_array = np.full(1, problem.operands[part].resident >= 1)
        return at_the_array | (values * bits <= dict(problem.room).get(memory, np.inf))

    def _bound(
        self, lows: tuple[Values, Values], energy: Values, cycles: Values, outer: tuple[Indices, ...] | None = None
    ) -> Values:
        """The objective at least, where outer tiles take so much at least and the array so much: of all outer tiles, or
        of some."""
        low, latency = lows
        if outer is not None:
            low, latency = low[outer], np.broadcast_to(latency, self.shape)[outer]
        latency = np.maximum(latency, cycles)
        low = low + energy + (latency * self.product.prices.static if self.product.prices.static else 0.0)
        if self.product.objective == "energy":
            return low
        return np.where(low < np.inf, latency * low if self.product.objective == "edp" else latency, np.inf)

    def priced(self, limit: float) -> Iterator[_Priced]:
        """Yield every nest that could be the best, with the best of its tiles. `limit` is what is looked for, and falls
        on the way: a few tiles of every outer one come first, then all of those whose bounds are low enough."""
        self.limit = limit
        if self.low > limit:
            return
        m, n, k = (np.flatnonzero(self.pairs[name].probes) for name in DIMENSIONS)
        yield from self._in_boxes([(m, n, k)])
        yield from self._in_boxes(self._boxes(self.tile_lows <= min(self.limit, _MOST)))

    def _boxes(self, left: Places) -> Iterator[Box]:
        """Yield boxes of pairs with all that lie in the outer tiles that are left: one for each size of these along
        the dimension with most."""
        axis = int(np.argmax(self.shape))
        for size in range(self.shape[axis]):
            here = left & (np.arange(self.shape[axis]) == size).reshape(np.roll([-1, 1, 1], axis))
            m, n, k = (
                np.flatnonzero(here.any(others)[self.pairs[name].place])
                for name, others in zip(DIMENSIONS, ((1, 2), (0, 2), (0, 1)), strict=True)
            )
            if m.size:
                yield m, n, k

    def _in_boxes(self, boxes: Iterable[Box]) -> Iterator[_Priced]:
        """Yield the nests of the pairs of tiles in boxes that may be the best, those with low bounds first."""
        bounded = [bounds for box in boxes for bounds in self._bounded(box)]
        found = []
        for innermost in DIMENSIONS if bounded else ():
            here = [(lows, places) for of, lows, places in bounded if of == innermost]
            lows, places = (np.concatenate(of, axis=-1) for of in zip(*here, strict=True))
            found.append((lows.min(initial=np.inf), innermost, lows, places))
        for _, innermost, lows, places in sorted(found, key=lambda of: of[0]):
            order = np.argsort(lows, kind="stable")
            for chosen in (order[:_FIRST], order[_FIRST:]):
                m, n, k = places[:, chosen[lows[chosen] <= self.limit]]
                if m.size:
                    yield from self._nests(innermost, (m, n, k))

    def _bounded(self, box: Box) -> Iterator[tuple[Dimension, Values, Indices]]:
        """Yield for each innermost loop the bounds of the pairs of tiles in a box that may be the best, and their
        places along m, n and k: of those that are left by a bound which the outer tile and the tile alone have."""
        outer, inner = (
            np.ix_(*(getattr(self.pairs[name], place)[of] for name, of in zip(DIMENSIONS, box, strict=True)))
            for place in ("place", "inner_place")
        )
        energy, cycles = (np.broadcast_to(of, self.inner_shape)[inner] for of in self.array)
        left = np.nonzero(self._bound(self.any_low, energy, cycles, outer) <= min(self.limit, _MOST))
        places = np.stack([of[at] for of, at in zip(box, left, strict=True)])
        pairs = {name: self.pairs[name].at(of) for name, of in zip(DIMENSIONS, places, strict=True)}
        grid = Grid(self.problem, self.flow, inner_sizes(pairs), around(pairs, (False, False, False)))
        energy, cycles = (np.broadcast_to(of, grid.shape) for of in _array_bound(grid))
        of_tiles = tuple(pairs[name].place for name in DIMENSIONS)
        for innermost in DIMENSIONS:
            low = self._bound(self.lows[innermost], energy, cycles, of_tiles)
            here = np.flatnonzero(low <= min(self.limit, _MOST))
            yield innermost, low[here], places[:, here]

    def _nests(self, innermost: Dimension, places: Box) -> Iterator[_Priced]:
        """Yield the nests on pairs of tiles, with this the innermost loop that turns over their outer tiles."""
        pairs = {name: self.pairs[name].at(of) for name, of in zip(DIMENSIONS, places, strict=True)}
        m, n, k = (pairs[name].place for name in DIMENSIONS)
        outer = np.ravel_multi_index((m, n, k), self.shape)
        left, right, results = (innermost != irrelevant for irrelevant in IRRELEVANT)
        grid = Grid(self.problem, self.flow, inner_sizes(pairs), around(pairs, (left, right, results)))
        first = None
        for choices in self.choices[innermost]:
            chosen = choices.at(outer)
            costs = first.with_choices(chosen) if first else InnerCosts(grid, self.level, chosen)
            first = costs
            for low, members in self._groups(innermost, costs, (m, n, k)):
                for number, nest in members if low <= self.limit else ():
                    least = float(costs.objective(nest, self.limit).min())
                    yield _Priced(least, (self.number, number), nest, costs, places)

    def _groups(
        self, innermost: Dimension, costs: InnerCosts, of_tiles: tuple[Indices, Indices, Indices]
    ) -> list[tuple[float, list[tuple[int, Nest]]]]:
        """The nests, each with its number, those together that the array sees alike, with what none of them is below;
        the lowest first."""
        alike = defaultdict[ArrayNest, list[tuple[int, Nest]]](list)
        for number, nest in enumerate(nests(self.problem, self.flow)):
            alike[array_nest(self.flow.stays, nest)].append((number, nest))
        groups = []
        for seen, members in alike.items():
            cycles = costs.array(seen).cycles * self.flow.costs.paced
            low = self._bound(self.lows[innermost], costs.array_pj(seen), cycles, of_tiles)
            groups.append((float(low.min()), members))
        return sorted(groups, key=lambda group: group[0])


def _array_bound(grid: Grid) -> tuple[Values, Values]:
    """pJ and cycles that the array takes at least, whatever turns around tiles; infinite where these have no room."""
    costs, fits = NestCosts(grid), grid.may_fit()
    blocks = (False, True) if grid.flow.stays is not None and grid.problem.array.accumulators else (False,)
    counts = [array_counts(grid, ArrayNest(block, _NOWHERE, _NOWHERE)) for block in blocks]
    energy, cycles = (
        reduce(np.minimum, map(costs.array_energy, counts)),
        reduce(np.minimum, (of.cycles * grid.flow.costs.paced for of in counts)),
    )
    return np.where(fits, energy, np.inf), np.where(fits, cycles, np.inf)
