"""The mapper: the best of all mappings of one product, and the cost of a given one."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Table
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np

from fahw.errors import ConfigError, Problem
from fahw.mapping.cost import NestCosts
from fahw.mapping.grid import DIMENSIONS, all_tiles
from fahw.mapping.levels.inner_costs import given_costs
from fahw.mapping.levels.outer_costs import OUTER_NESTS, OuterCosts
from fahw.mapping.levels.search import Found, best_on_two_levels
from fahw.mapping.nest import LEFT_OPERAND, PARTS, RIGHT_OPERAND, Nest, nests
from fahw.mapping.one_level.nest_prices import NestPrices
from fahw.mapping.one_level.search import Chosen, Search
from fahw.mapping.one_level.tables import table_of
from fahw.mapping.problem import Dataflow, OuterLevel, TiledProduct
from fahw.mapping.sizes import Values


@dataclass(frozen=True)
class Tiling:
    """A mapping: the tile (m, n, k), the loops over tiles, and the array's dataflow; where there are outer tiles, these
    and the loops over them."""

    dataflow: str
    tile: tuple[int, int, int]
    nest: Nest
    outer: OuterTiling | None = None

    def __str__(self) -> str:
        words = f"{self.dataflow} {_words(self.tile, self.nest)}"
        return f"{words} in {_words(self.outer.tile, self.outer.nest)}" if self.outer else words


@dataclass(frozen=True)
class OuterTiling:
    """The tile (m, n, k) in the outer memories, and the loops over these."""

    tile: tuple[int, int, int]
    nest: Nest


def _words(tile: tuple[int, int, int], nest: Nest) -> str:
    held = [name for name, holds in zip(PARTS, nest.holds, strict=True) if holds]
    words = ["x".join(map(str, tile)), "order", "".join(nest.order)]
    words += [f"hold {'+'.join(held)}"] if held else []
    return " ".join([*words, *(["blocks"] if nest.blocks else [])])


@dataclass(frozen=True)
class MappedProduct:
    """A product under a mapping: counts of all its repeats in values, cycles, pJ; the room that tiles take in bits.

    `reads`: of the left and right operand by the array; `fetched`: from DRAM, or an outer memory. `partial_sums`: left
    incomplete, each written to its memory and read back; `spilled_sums`: those that go on to DRAM, or an outer memory,
    and come back. `accumulated`: sums at the array's edge, each written and read. `begun`: values of the operand that
    stays which folds begin to run with. `results`: finished values that leave for DRAM, or an outer memory.
    `array_cycles`: of the array alone; `latency`: with the loads that it waits for, or of DRAM where that takes longer.
    `outer`: what passes between DRAM and outer memories, where there are outer tiles.
    """

    tiling: Tiling
    reads: tuple[int, int]
    fetched: tuple[float, float]
    partial_sums: int
    spilled_sums: int
    accumulated: int
    results: float
    dram_bits: float
    array_cycles: int
    latency: float
    energy_pj: float
    room: tuple[tuple[str, int], ...]
    sums_room: int = 0
    """Of the room, what sums take."""
    begun: int = 0
    outer: OuterCounts | None = None


@dataclass(frozen=True)
class OuterCounts:
    """What passes between DRAM and outer memories: values of both operands that come, sums that go on to DRAM and come
    back, finished values that leave; the room that outer tiles take in bits, and of it what sums take."""

    fetched: tuple[float, float]
    spilled_sums: int
    results: float
    room: tuple[tuple[str, int], ...]
    sums_room: int = 0


def best_mapping(product: TiledProduct) -> MappedProduct:
    """The mapping with the least objective. Of equals: the least of the other measure (latency, or energy), then the
    dataflow listed first, no blocks, the first order of (m, n, k), nothing held before results, right
    and left held, and the largest m, n and k. Outer memories with nothing in them go unused unless that is worse.

    Raises ConfigError where no tile fits its memory.
    """
    found = _best_or_problems(product)
    if not isinstance(found, MappedProduct):
        raise ConfigError(found)
    return found


@lru_cache(maxsize=4096)
def _best_or_problems(product: TiledProduct) -> MappedProduct | tuple[Problem, ...]:
    """The best mapping, or why there is none."""
    try:
        return _best(product) if product.outer is None else _best_of_two_levels(product, product.outer)
    except ConfigError as error:
        return tuple(error.problems)


def _best_of_two_levels(product: TiledProduct, level: OuterLevel) -> MappedProduct:
    unused, problems = None, list[Problem]()
    if product.outer_may_go_unused:
        try:
            unused = best_mapping(product.on_one_level)
        except ConfigError as error:
            problems = list(error.problems)
    found = best_on_two_levels(product, level, _objective(product, unused) if unused else np.inf)
    if found:
        return mapped_as(product, _tiling(found))
    if unused is None:
        raise ConfigError(problems or [Problem(name, _NO_OUTER_TILE.format(bits)) for name, bits in level.room])
    return unused


_NO_OUTER_TILE = "no tile fits it, or tiles in it the local memories; it has room for {:,.0f} bits"


def _objective(product: TiledProduct, mapped: MappedProduct) -> float:
    """What of a mapping is to be small, of one of the repeats."""
    energy, latency = mapped.energy_pj / product.repeats, mapped.latency / product.repeats
    return {"energy": energy, "latency": latency, "edp": energy * latency}[product.objective]


def _best(product: TiledProduct) -> MappedProduct:
    """The best mapping of one level; one that was found in more room, and fits, is the best in less."""
    known, limits = _known(product.where(product.left, product.right, ())), dict(product.room)
    for item in known:
        if item.is_best_in(limits):
            return item.mapped
    search = Search(product)
    if not known and (roomy := search.best()):
        known.append(_Known({}, roomy.room, _mapped_at(roomy)))
        if known[0].is_best_in(limits):
            return known[0].mapped
    fitting = search.best_that_fits()
    if fitting is None:
        raise ConfigError(_no_room(product))
    mapped = _mapped_at(fitting)
    known[1:] = [*known[1:], _Known(limits, fitting.room, mapped)][-_MOST_KNOWN:]
    return mapped


class _Known(NamedTuple):
    """The best mapping in so much room (no limit of a memory that is not named), and what it takes of it."""

    room: Table[str, float]
    taken: Table[str, float]
    mapped: MappedProduct

    def is_best_in(self, limits: Table[str, float]) -> bool:
        """Whether it is the best in this room, too: that is no larger, and it fits."""
        fits = all(self.taken.get(memory, 0.0) <= limit for memory, limit in limits.items())
        return fits and all(limits.get(memory, np.inf) <= limit for memory, limit in self.room.items())


_MOST_KNOWN = 16
"""Mappings of a product in limited room that are remembered."""


@lru_cache(maxsize=4096)
def _known(product: TiledProduct) -> list[_Known]:
    """The best mappings that were found of a product; none at first. The first is the one in any room."""
    return []


def _mapped_at(found: Chosen) -> MappedProduct:
    """The record of a mapping that was found."""
    prices, product, tiles, of = found.prices, found.prices.problem, found.prices.tiles, found.pair
    grid, repeats, counts = tiles.grid, product.repeats, tiles.array
    m, n, k = (round(float(sizes.size[found.place])) for sizes in grid.sizes.values())
    fetched = zip(prices.fetched, (tiles.left, tiles.right), strict=True)
    left, right = (float(of.ways(values, uses.of_nest)) * repeats for values, uses in fetched)
    energy, latency = prices.measures(of)

    def number(values: Values) -> int:
        return round(float(of.ways(values, tiles.of_nest))) * repeats

    return MappedProduct(
        tiling=Tiling(grid.flow.name, (m, n, k), tiles.nests[found.nest]),
        reads=(number(counts.reads[0]), number(counts.reads[1])),
        fetched=(left, right),
        partial_sums=number(counts.breaks * grid.results),
        spilled_sums=round(float(of.ways(prices.spilled, tiles.sums.of_nest))) * repeats,
        accumulated=number(counts.accumulated),
        results=prices.leaving * repeats,
        dram_bits=float(prices.dram_bits(of)) * repeats,
        array_cycles=number(counts.cycles),
        latency=float(latency) * repeats,
        energy_pj=float(energy) * repeats,
        room=tuple((memory, ceil(bits)) for memory, bits in found.room.items()),
        sums_room=ceil(float(prices.sums_room(of))),
        begun=number(counts.begun),
    )


@lru_cache(maxsize=4096)
def mapped_as(product: TiledProduct, tiling: Tiling) -> MappedProduct:
    """The product under a given mapping. Raises ConfigError where the array lacks its dataflow or accumulators, or the
    tile is not one of the product or does not fit."""
    flows = {flow.name: flow for flow in product.array.dataflows}
    if tiling.dataflow not in flows:
        raise ConfigError(Problem("dataflow", f"must be one of {', '.join(flows)} (got {tiling.dataflow!r})"))
    flow = flows[tiling.dataflow]
    if tiling.nest not in nests(product, flow) or (tiling.outer and tiling.outer.nest not in OUTER_NESTS):
        raise ConfigError(Problem("order", "must name m, n and k once each; blocks need accumulators"))
    if tiling.outer:
        return _given_two_levels(product, flow, tiling, tiling.outer)
    if product.outer is not None:
        if not product.outer_may_go_unused:
            raise ConfigError(Problem("outer", "must be given: a memory behind the local ones holds something"))
        return mapped_as(product.on_one_level, tiling)
    prices = NestPrices(product, flow, table_of(product, flow, (tiling.tile, tiling.nest)).only)
    mapped = _mapped_at(Chosen(prices, 0, 0))
    if not prices.fits.all():
        raise ConfigError(Problem("tile", _misfit(product.room, mapped.room)))
    return mapped


def _given_two_levels(product: TiledProduct, flow: Dataflow, tiling: Tiling, outer: OuterTiling) -> MappedProduct:
    if product.outer is None:
        raise ConfigError(Problem("outer", "must be left out: there is no memory behind the local ones"))
    sizes = dict(zip(DIMENSIONS, zip(outer.tile, tiling.tile, strict=True), strict=True))
    outer_costs, costs = given_costs(product, product.outer, flow, sizes, outer.nest)
    waits = bool(costs.waits(tiling.nest).any())
    mapped = _mapped(costs, tiling.nest, 0)
    counts = _outer_counts(outer_costs, outer.nest, waits)
    if not costs.fits(tiling.nest).all():
        message = _misfit((*product.room, *product.outer.room), (*mapped.room, *counts.room))
        raise ConfigError(Problem("tile", message))
    return replace(mapped, tiling=tiling, outer=counts)


def _outer_counts(costs: OuterCosts, nest: Nest, waits: bool) -> OuterCounts:
    repeats, operands = costs.problem.repeats, (costs.operand(LEFT_OPERAND, nest), costs.operand(RIGHT_OPERAND, nest))
    return OuterCounts(
        fetched=(operands[0].fetched.item() * repeats, operands[1].fetched.item() * repeats),
        spilled_sums=round(costs.sums(nest).spilled.item()) * repeats,
        results=costs.leaving * repeats,
        room=tuple((memory, ceil(bits.item())) for memory, bits in costs.room(nest, waits).items()),
        sums_room=ceil(costs.sums(nest).room.item()) if waits else 0,
    )


def _tiling(found: Found) -> Tiling:
    """The mapping that was found on two levels."""
    grid = found.costs.grid
    assert grid.around is not None
    inner, outer = (
        tuple(round(float(sizes[name].size[found.place])) for name in DIMENSIONS)
        for sizes in (grid.sizes, grid.around.sizes)
    )
    around = OuterTiling((outer[0], outer[1], outer[2]), found.outer_nest)
    return Tiling(grid.flow.name, (inner[0], inner[1], inner[2]), found.nest, around)


def all_costs(product: TiledProduct) -> Iterator[tuple[NestCosts, Nest, Values]]:
    """Yield the objective of every mapping tried, over the grid of tile sizes; infinite where it does not fit."""
    for flow in product.array.dataflows:
        costs = NestCosts(all_tiles(product, flow))
        for nest in nests(product, flow):
            yield costs, nest, costs.objective(nest)


def _mapped(costs: NestCosts, nest: Nest, index: int) -> MappedProduct:
    """The record of one entry of the grid."""
    grid, repeats, counts = costs.grid, costs.problem.repeats, costs.counts(nest)

    def at(values: Values) -> float:
        return float(np.broadcast_to(values, grid.shape).flat[index])

    tile = [round(at(sizes.size)) for sizes in grid.sizes.values()]
    return MappedProduct(
        tiling=Tiling(grid.flow.name, (tile[0], tile[1], tile[2]), nest),
        reads=(round(at(counts.array.reads[0])) * repeats, round(at(counts.array.reads[1])) * repeats),
        fetched=(at(counts.left.fetched) * repeats, at(counts.right.fetched) * repeats),
        partial_sums=round(at(counts.array.breaks * grid.results)) * repeats,
        spilled_sums=round(at(counts.sums.spilled)) * repeats,
        accumulated=round(at(counts.array.accumulated)) * repeats,
        results=costs.leaving * repeats,
        dram_bits=at(costs.dram_bits(nest)) * repeats,
        array_cycles=round(at(counts.array.cycles)) * repeats,
        latency=at(costs.latency(nest)) * repeats,
        energy_pj=at(costs.energy(nest)) * repeats,
        room=tuple((memory, ceil(at(bits))) for memory, bits in costs.room(nest).items()),
        sums_room=ceil(at(counts.sums.room)),
        begun=round(at(counts.array.begun)) * repeats,
    )


def _misfit(room: tuple[tuple[str, float], ...], taken: tuple[tuple[str, int], ...]) -> str:
    """Which memory a mapping does not fit, and by how much."""
    limits = dict(room)
    over = [
        f"{memory} has {limits[memory]:,.0f} bits for tiles, of which it takes {bits:,}"
        for memory, bits in taken
        if bits > limits.get(memory, np.inf)
    ]
    return "; ".join(over) or "window sums need all of K in a tile, or the results held"


def _no_room(product: TiledProduct) -> list[Problem]:
    """For each memory that is too small on its own: the least that any mapping takes of it, and of what."""
    places, search = (product.left.memory, product.right.memory, product.result.memory), Search(product)
    problems = []
    for memory, limit in product.room:
        tiles = [name for name, place in zip(PARTS, places, strict=True) if place == memory]
        if tiles and (least := search.least_room(memory, limit)) > limit:
            needed = f"the smallest tiles of {' and '.join(tiles)} take {least:,.0f} bits"
            problems.append(Problem(memory, f"{needed}, and it has room for {limit:,.0f}"))
    return problems or [Problem("memories", "no tile fits all of them at once")]
