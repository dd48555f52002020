"""All nests of a product under a dataflow, and all tile sizes, priced at once; and the best of them.

Nests share parts: an operand's tiles can be used again in seven ways, and the array sees few differences. What does not
depend on prices, on shares that are there or on room is computed once for all products of one shape.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fahw.layers.window_axes import Windows
from fahw.mapping.array_counts import ArrayCounts, array_counts, array_nest
from fahw.mapping.cost import EQUAL, array_energy
from fahw.mapping.grid import Grid, all_tiles
from fahw.mapping.nest import IRRELEVANT, LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, nests
from fahw.mapping.problem import Dataflow, Dimension, MappedArray, OperandPlace, ResultPlace, TiledProduct, Unfolded
from fahw.mapping.sizes import Places, Values

Numbers = npt.NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)
_MOST_CELLS = 1 << 17
"""Nests times tile sizes that are priced at once: more do not stay near the processor."""
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


def table_of(product: TiledProduct, flow: Dataflow) -> Table:
    """The table of a product's nests under a dataflow."""
    array, (left, right) = product.array, product.operands
    shape = _Shape(
        (product.m, product.n, product.k), product.windows, product.unfolded, product.every_size,
        (left.resident >= 1, right.resident >= 1), (left.buffers, right.buffers),
        (array.rows, array.cols, array.accumulators, array.held_folds, array.trimmed, array.double_buffered),
        (flow.name, flow.rows, flow.cols, flow.streamed, flow.stays, flow.skewed),
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
    grid, found = all_tiles(product, flow), nests(product, flow)
    seen, of_nest = _numbered(array_nest(grid, nest) for nest in found)
    counts = [array_counts(grid, nest) for nest in seen]
    array_table = ArrayCounts(
        (_stacked(each.reads[0] for each in counts), _stacked(each.reads[1] for each in counts)),
        _stacked(each.breaks for each in counts), _stacked(each.accumulated for each in counts),
        _stacked(each.cycles for each in counts),
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


class NestPrices:
    """The prices of a product's nests under a dataflow."""

    def __init__(self, product: TiledProduct, flow: Dataflow) -> None:
        self.problem, self.flow, self.table = product, flow, table_of(product, flow)
        table, grid, result = self.table, self.table.grid, product.result
        self.leaving = grid.distinct(RESULTS) * (1 - result.resident)
        self.array_pj = array_energy(product, flow, grid.results, self.leaving, table.array)
        self.fetched = _fetched(table.left, product.left), _fetched(table.right, product.right)
        if product.unfolded == "result":
            self.spilled = table.sums.once - grid.distinct(RESULTS)
        else:
            self.spilled = grid.results * (table.sums.visits - 1)
        fetch = zip(self.fetched, product.prices.fetch, flow.costs.fetches, strict=True)
        self._fetch_pj = [values * (price * factor) for values, price, factor in fetch]
        self._spill_pj = self.spilled * product.prices.spilled_sum
        self._moved = [values * operand.bits for values, operand in zip(self.fetched, product.operands, strict=True)]
        self._moved_sums = self.spilled * (2 * result.sum_bits) + self.leaving * result.bits

    @property
    def cells(self) -> int:
        """The number of tile sizes."""
        return int(np.prod(self.table.grid.shape))

    def chunks(self) -> Iterator[slice]:
        """The nests, so many at a time as are priced at once."""
        number, size = len(self.table.nests), max(1, _MOST_CELLS // self.cells)
        return (slice(start, start + size) for start in range(0, number, size))

    def priced(self, nests: slice) -> tuple[Values, Values]:
        """Energy in pJ and cycles of nests."""
        table, static = self.table, self.problem.prices.static
        energy = self.array_pj[table.of_nest[nests]] + (
            self._fetch_pj[0][table.left.of_nest[nests]] + self._fetch_pj[1][table.right.of_nest[nests]]
        )
        energy = energy + self._spill_pj[table.sums.of_nest[nests]]
        latency = self._latency(nests)
        return energy + latency * static if static else energy, latency

    def _latency(self, nests: slice) -> Values:
        """Cycles: of the array and what it waits for, or of DRAM where that takes longer."""
        table, rate = self.table, self.problem.dram_bits_per_cycle
        cycles = table.array.cycles * self.flow.costs.paced
        if rate == np.inf:
            return cycles[table.of_nest[nests]]
        cycles = cycles[table.of_nest[nests]] + (self._awaited(0, nests) + self._awaited(1, nests)) / rate
        return np.maximum(cycles, self.dram_bits(nests) / rate)

    def _awaited(self, part: int, nests: slice) -> Values:
        """Bits of an operand that the array waits for: of its first tile, or of all that come while it rests."""
        operand = self.problem.operands[part]
        if operand.overlaps:
            return self.table.first_tiles[part] * (operand.bits * (1 - operand.resident))
        return self._moved[part][(self.table.left, self.table.right)[part].of_nest[nests]]

    def dram_bits(self, nests: slice) -> Values:
        """Bits that pass DRAM."""
        table, (left, right) = self.table, self._moved
        moved = left[table.left.of_nest[nests]] + right[table.right.of_nest[nests]]
        return moved + self._moved_sums[table.sums.of_nest[nests]]

    def room(self, nests: slice) -> dict[str, Values]:
        """Bits that tiles take, by memory."""
        problem, table = self.problem, self.table
        sums = self.sums_room(nests)
        room: dict[str, Values] = {}
        parts = (
            (problem.left.memory, table.left.room[table.left.of_nest[nests]] * problem.left.bits),
            (problem.right.memory, table.right.room[table.right.of_nest[nests]] * problem.right.bits),
            (problem.result.memory, sums),
        )
        for memory, bits in parts:
            room[memory] = room[memory] + bits if memory in room else bits
        return room

    def sums_room(self, nests: slice) -> Values:
        """Bits that waiting sums take; those of windows have room whether they wait or not."""
        table = self.table
        room = table.sums.room[table.sums.of_nest[nests]] * self.problem.result.sum_bits
        if self.problem.unfolded == "result":
            return room
        return np.where((table.array.breaks > 0)[table.of_nest[nests]], room, 0.0)

    def possible(self, nests: slice) -> Places:
        """Where nests can be if room is no matter: sums of windows need not be left before K is complete."""
        sums = self.table.sums
        if self.problem.unfolded == "result":
            return np.asarray((~sums.again | (sums.trips <= 1))[sums.of_nest[nests]])
        return np.ones((1,) * 4, bool)

    def fits(self, nests: slice) -> Places:
        """Where they can be, and all tiles have room."""
        room, fits = self.room(nests), self.possible(nests)
        for memory, limit in self.problem.room:
            if memory in room:
                fits = fits & (room[memory] <= limit)
        return fits


def _fetched(uses: Uses, operand: OperandPlace) -> Values:
    """Values of an operand that come from DRAM."""
    return uses.once * (1 - operand.resident) * uses.visits


class Chosen(NamedTuple):
    """A mapping: the prices of its dataflow, its nest and its tile size by number, its energy in pJ and cycles."""

    prices: NestPrices
    nest: int
    tile: int
    energy: float
    latency: float

    def at(self, values: Values, number: int = 0) -> float:
        """Of values over the grid in several ways, that of one way."""
        place = np.unravel_index(self.tile, self.prices.table.grid.shape)
        m, n, k = (0 if size == 1 else axis for size, axis in zip(values.shape[-3:], place, strict=True))
        return float(values[number, m, n, k])

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
        measures = float(self.energy[place]), float(self.latency[place])
        return Chosen(self.prices, int(self.nest[place]), int(self.tile[place]), *measures)


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
