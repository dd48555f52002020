"""What no nest of a product costs less than under a dataflow, by tile size: so that few sizes are priced.

In each order of the loops one part comes once: the innermost loop does not concern it. Each of the other two comes again
with every turn of the loop that does not concern it, if a loop inside this one turns, unless all tiles that these loops
run over are held, for which there must be room.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np

from fahw.mapping.cost import array_energy
from fahw.mapping.nest import ORDERS, PARTS, RESULTS, Nest
from fahw.mapping.one_level.tables import Flags, Table
from fahw.mapping.problem import Dataflow, TiledProduct
from fahw.mapping.sizes import Places, Values

_NONE = (False, False)
_INSIDES: tuple[Flags, ...] = (_NONE, (False, True), (True, False), (True, True))
_ORDERS = [
    tuple(_INSIDES.index(reuse.inside) for reuse in Nest(order).reuses) for order in ORDERS
]
"""For each order the loops inside the one that does not concern the left operand, the right one and the results."""
_SLACK = 1 - 1e-9
"""Share of a room that is taken however sums are rounded."""


def lowest_costs(product: TiledProduct, flow: Dataflow, table: Table, roomy: bool) -> Values:
    """Over the grid of tile sizes what no nest costs less than, in any room or in what there is; infinite where none
    has room."""
    bounds = _Bounds(product, flow, table)
    if roomy:
        return np.broadcast_to(bounds.cost(*bounds.compulsory, np.zeros(1), _NONE), table.grid.shape)
    rooms = _Rooms(product, table)
    lowest = reduce(np.minimum, bounds.of_orders(rooms))
    return np.where(rooms.fits, lowest, np.inf)


class _Rooms:
    """The room that tiles take at least, part by part, and what there is."""

    def __init__(self, product: TiledProduct, table: Table) -> None:
        self.product, self.table, self.limits = product, table, dict(product.room)
        self.memories = product.left.memory, product.right.memory, product.result.memory
        grid, distinct = table.grid, [table.grid.distinct(part) * place.bits for part, place in enumerate(product.operands)]
        self.distinct = (*distinct, grid.distinct(RESULTS) * product.result.sum_bits)
        self.least = [np.minimum(self.bits(part, _NONE), self.distinct[part]) for part in range(len(PARTS))]

    def bits(self, part: int, held: Flags) -> Values:
        """What a part takes where all its tiles along these dimensions are held."""
        grid = self.table.grid
        values = grid.tile_values(part, held)
        if part == RESULTS:
            bits = values * self.product.result.sum_bits
            return bits if self.product.unfolded == "result" else np.where(self.table.waits(held), bits, 0.0)
        operand = self.product.operands[part]
        if operand.resident >= 1:
            return np.zeros((1,) * 3)
        return values * np.where(grid.is_whole(part, held), 1, operand.buffers) * operand.bits

    def has(self, part: int, bits: Values | float) -> Places | bool:
        """Where there is room for so many bits of a part beside the least of the others in its memory."""
        memory = self.memories[part]
        if memory not in self.limits:
            return True
        for other, place in enumerate(self.memories):
            if other != part and place == memory:
                bits = bits + self.least[other]
        return np.asarray(bits * _SLACK <= self.limits[memory])

    @property
    def fits(self) -> Places | bool:
        """Where there is room for the least of all parts."""
        return reduce(np.logical_and, (self.has(part, least) for part, least in enumerate(self.least)))


class _Bounds:
    """The bounds of a product under a dataflow."""

    def __init__(self, product: TiledProduct, flow: Dataflow, table: Table) -> None:
        self.product, self.flow, self.table, self.grid = product, flow, table, table.grid
        self.leaving = self.grid.distinct(RESULTS) * (1 - product.result.resident)
        counts = table.least
        self._array_pj: dict[Flags, Values] = {}
        self._least_pj = [array_energy(product, flow, self.grid.results, self.leaving, of) for of in counts]
        self.cycles = reduce(np.minimum, (of.cycles for of in counts)) * flow.costs.paced

    @property
    def compulsory(self) -> tuple[Values, Values]:
        """Values of both operands, each coming once."""
        left, right = (np.full(1, self.grid.distinct(part)) for part in range(2))
        return left, right

    def of_orders(self, rooms: _Rooms) -> Iterator[Values]:
        """Yield what nests of each order of the loops do not cost less than."""
        left, right = ([self._operand(part, inside, rooms) for inside in _INSIDES] for part in range(2))
        sums = [self._sums(inside, rooms) for inside in _INSIDES]
        for of_left, of_right, of_sums in _ORDERS:
            spilled, possible = sums[of_sums]
            cost = self.cost(left[of_left], right[of_right], spilled, _INSIDES[of_sums])
            yield cost if possible is None else np.where(possible, cost, np.inf)

    def _operand(self, part: int, inside: Flags, rooms: _Rooms) -> Values:
        """Values of all tiles of an operand as often as they come if these loops lie inside the one that does not
        concern it; held ones come once."""
        if not any(inside):
            return self.grid.fetched_once(part, inside)
        held = rooms.has(part, rooms.bits(part, inside))
        return np.where(held, self.grid.fetched_once(part, inside), self.table.visited(part, inside))

    def _sums(self, inside: Flags, rooms: _Rooms) -> tuple[Values, Places | None]:
        """Sums that go to DRAM and come back then, and where this can be: those of windows must be complete, or
        held."""
        is_of_windows, grid = self.product.unfolded == "result", self.grid
        own = grid.fetched_once(RESULTS, _NONE) - grid.distinct(RESULTS) if is_of_windows else np.zeros(1)
        if not any(inside):
            return own, None
        turns, held = self.table.turns(RESULTS, inside), rooms.has(RESULTS, rooms.bits(RESULTS, inside))
        if is_of_windows:
            shared = grid.fetched_once(RESULTS, inside) - grid.distinct(RESULTS)
            return np.where(held, shared, own), held | (turns <= 1)
        return np.where(held, 0.0, grid.results * (turns - 1)), None

    def cost(self, left: Values, right: Values, sums: Values, inside: Flags) -> Values:
        """The objective, where so many values of both operands, and sums, pass DRAM, and these loops of results lie
        inside the one over K."""
        product = self.product
        fetched = left * (1 - product.left.resident), right * (1 - product.right.resident)
        if product.objective == "energy" and not product.prices.static:
            return self._energy(fetched, sums, inside)
        latency = self._latency(fetched, sums)
        if product.objective == "latency":
            return latency
        energy = self._energy(fetched, sums, inside) + latency * product.prices.static
        return energy if product.objective == "energy" else energy * latency

    def _energy(self, fetched: tuple[Values, Values], sums: Values, inside: Flags) -> Values:
        """pJ without what is powered all the time."""
        prices, factors = self.product.prices, self.flow.costs.fetches
        left, right = (
            values * (price * factor) for values, price, factor in zip(fetched, prices.fetch, factors, strict=True)
        )
        return np.asarray(self._array_energy(inside) + (left + right + sums * prices.spilled_sum))

    def _array_energy(self, inside: Flags) -> Values:
        """pJ of the array: more sums are left than at least."""
        if inside not in self._array_pj:
            least, left = self.table.breaks(_NONE), self.table.breaks(inside)
            pj = self.grid.results * self.product.prices.partial_sum * self.flow.costs.sums
            energies = (of + (after - before) * pj for of, before, after in zip(self._least_pj, least, left, strict=True))
            self._array_pj[inside] = reduce(np.minimum, energies)
        return self._array_pj[inside]

    def _latency(self, fetched: tuple[Values, Values], sums: Values) -> Values:
        product, rate = self.product, self.product.dram_bits_per_cycle
        if rate == np.inf:
            return self.cycles
        bits = [values * operand.bits for values, operand in zip(fetched, product.operands, strict=True)]
        awaited = [
            self.grid.tile_values(part) * (operand.bits * (1 - operand.resident)) if operand.overlaps else bits[part]
            for part, operand in enumerate(product.operands)
        ]
        result = product.result
        moved = bits[0] + bits[1] + (sums * (2 * result.sum_bits) + self.leaving * result.bits)
        return np.maximum(self.cycles + (awaited[0] + awaited[1]) / rate, moved / rate)
