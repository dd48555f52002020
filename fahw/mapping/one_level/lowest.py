"""What no nest of a product costs less than under a dataflow, by tile size: so that few sizes are priced.

In each order of the loops one part comes once: the innermost loop does not concern it. The other two come again
with every turn of the loop that does not concern it, if a loop inside this one turns, unless all tiles that these loops
run over are held, for which there must be room. Room is looked at part by part, beside the least of the others.
"""

from __future__ import annotations

from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np

from fahw.mapping.cost import array_energy
from fahw.mapping.nest import ORDERS, PARTS, RESULTS, Nest
from fahw.mapping.one_level.tables import Flags, Table
from fahw.mapping.problem import Dataflow, TiledProduct
from fahw.mapping.sizes import Places, Values

_NONE = (False, False)
_INSIDES: tuple[Flags, ...] = (_NONE, (False, True), (True, False), (True, True))
_ORDERS = [tuple(_INSIDES.index(reuse.inside) for reuse in Nest(order).reuses) for order in ORDERS]
"""For each order which loops lie inside the one that does not concern the left operand, the right one and the
results."""
_SURE = 1 - 1e-9
"""Share of a cost or a room that is a bound of it however sums are rounded."""


class _Rooms:
    """The room that tiles take at least, part by part, and what there is."""

    def __init__(self, product: TiledProduct, table: Table) -> None:
        self.product, self.table, limits = product, table, dict(product.room)
        self._memories = memories = product.left.memory, product.right.memory, product.result.memory
        least = [np.minimum(self.bits(part, _NONE), self.bits(part, (True, True))) for part in range(len(PARTS))]
        left = []
        for part, memory in enumerate(memories):
            others = [least[other] for other, at in enumerate(memories) if other != part and at == memory]
            limit = limits.get(memory, np.inf) / _SURE
            left.append(limit - reduce(np.add, others) if others and limit < np.inf else limit)
        self._left, self._least = left, least
        self.fits = reduce(np.logical_and, (bits <= limit for bits, limit in zip(least, left, strict=True)))

    def least_in(self, memory: str) -> Values:
        """What all parts take at least of a memory where some lie."""
        own = (least for least, name in zip(self._least, self._memories, strict=True) if name == memory)
        return np.asarray(reduce(np.add, own))

    def bits(self, part: int, held: Flags) -> Values:
        """What a part takes where all its tiles along these dimensions are held."""
        values, whole = self.table.held(part, held)
        if part == RESULTS:
            return values * self.product.result.sum_bits
        operand = self.product.operands[part]
        if operand.resident >= 1:
            return np.zeros((1,) * 3)
        return values * np.where(whole, operand.bits, operand.buffers * operand.bits)

    def has(self, part: int, held: Flags) -> Places:
        """Where there is room for that beside the least of the others in its memory."""
        return np.asarray(self.bits(part, held) <= self._left[part])


class _Way(NamedTuple):
    """What a part costs at least in an order: pJ, with sums those of the array; bits that pass DRAM, and those that the
    array waits for; of window sums, where they can be."""

    pj: Values
    bits: Values | float = 0.0
    awaited: Values | float = 0.0
    possible: Places | None = None


class Bounds:
    """What nests of a product cost at least under a dataflow, over the grid of tile sizes."""

    def __init__(self, product: TiledProduct, flow: Dataflow, table: Table) -> None:
        self.product, self.flow, self.table, self.grid = product, flow, table, table.grid
        self._leaving = self.grid.distinct(RESULTS) * (1 - product.result.resident)
        self._array_pj = [
            array_energy(product, flow, self.grid.results, self._leaving, counts) for counts in table.least
        ]

    def in_any_room(self) -> Values:
        """What no nest costs less than: both operands come once."""
        left, right = (self._operand(part, np.full(1, self.grid.distinct(part))) for part in range(2))
        return self._cost(left, right, self._results(_NONE, np.zeros(1))) * _SURE

    def in_room(self) -> Values:
        """What no nest costs less than where there is room; infinite where there is none."""
        rooms = self._rooms
        left, right = (
            [self._operand(part, self._fetched(part, inside, rooms)) for inside in _INSIDES] for part in range(2)
        )
        sums = [self._sums(inside, rooms) for inside in _INSIDES]
        costs = (self._cost(left[of_left], right[of_right], sums[of_sums]) for of_left, of_right, of_sums in _ORDERS)
        return np.where(rooms.fits, reduce(np.minimum, costs) * _SURE, np.inf)

    def least_room(self, memory: str) -> Values:
        """Bits of a memory that no nest takes less of."""
        return self._rooms.least_in(memory)

    @cached_property
    def _rooms(self) -> _Rooms:
        return _Rooms(self.product, self.table)

    def _fetched(self, part: int, inside: Flags, rooms: _Rooms) -> Values:
        """Values of all tiles of an operand as often as they come if these loops lie inside the one that does not
        concern it; held ones come once."""
        if inside == _NONE:
            return self.grid.fetched_once(part, inside)
        held = rooms.has(part, inside)
        return np.where(held, self.grid.fetched_once(part, inside), self.table.visited(part, inside)[0])

    def _sums(self, inside: Flags, rooms: _Rooms) -> _Way:
        """Sums, if these loops lie inside the one over K. Those of windows must be complete, or held."""
        is_of_windows, grid = self.product.unfolded == "result", self.grid
        own = grid.fetched_once(RESULTS, _NONE) - grid.distinct(RESULTS) if is_of_windows else np.zeros(1)
        if inside == _NONE:
            return self._results(inside, own)
        turns, held = self.table.visited(RESULTS, inside)[1], rooms.has(RESULTS, inside)
        if is_of_windows:
            shared = np.where(held, grid.fetched_once(RESULTS, inside) - grid.distinct(RESULTS), own)
            return self._results(inside, shared, held | (turns <= 1))
        return self._results(inside, np.where(held, 0.0, grid.results * (turns - 1)))

    def _operand(self, part: int, values: Values) -> _Way:
        """An operand of which so many values come, those that are there already among them."""
        operand, price = self.product.operands[part], self.product.prices.fetch[part] * self.flow.costs.fetches[part]
        missing = 1 - operand.resident
        if not self._counts_bits:
            return _Way(values * (price * missing))
        bits = values * (operand.bits * missing)
        awaited = self.grid.tile_values(part) * (operand.bits * missing) if operand.overlaps else bits
        return _Way(values * (price * missing), bits, awaited)

    def _results(self, inside: Flags, spilled: Values, possible: Places | None = None) -> _Way:
        """The array and sums, of which so many go to DRAM and come back."""
        product, result = self.product, self.product.result
        price = self.grid.results * product.prices.partial_sum * self.flow.costs.sums
        array = (of + more * price for of, more in zip(self._array_pj, self.table.more_breaks(inside), strict=True))
        pj = reduce(np.minimum, array) + spilled * product.prices.spilled_sum
        return _Way(pj, spilled * (2 * result.sum_bits) + self._leaving * result.bits, possible=possible)

    @cached_property
    def _counts_bits(self) -> bool:
        """Whether what passes DRAM takes time that matters."""
        matters = self.product.objective != "energy" or self.product.prices.static
        return bool(matters) and self.product.dram_bits_per_cycle < np.inf

    def _cost(self, left: _Way, right: _Way, sums: _Way) -> Values:
        """The objective of the three together."""
        objective, static = self.product.objective, self.product.prices.static
        if objective == "latency":
            cost = self._latency(left, right, sums)
        else:
            cost = left.pj + right.pj + sums.pj
            latency = self._latency(left, right, sums) if static or objective == "edp" else 0.0
            cost = cost + latency * static if static else cost
            cost = cost * latency if objective == "edp" else cost
        return cost if sums.possible is None else np.where(sums.possible, cost, np.inf)

    def _latency(self, left: _Way, right: _Way, sums: _Way) -> Values:
        if not self._counts_bits:
            return self._cycles
        rate = self.product.dram_bits_per_cycle
        waiting = self._cycles + (left.awaited + right.awaited) / rate
        return np.maximum(waiting, (left.bits + right.bits + sums.bits) / rate)

    @cached_property
    def _cycles(self) -> Values:
        """Cycles of the array at least."""
        return np.asarray(reduce(np.minimum, (of.cycles for of in self.table.least)) * self.flow.costs.paced)
