"""What all nests of a product cost under a dataflow, over all tile sizes at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fahw.mapping.cost import array_energy
from fahw.mapping.nest import RESULTS, Nest
from fahw.mapping.one_level.tables import Uses, table_of
from fahw.mapping.problem import Dataflow, OperandPlace, TiledProduct
from fahw.mapping.sizes import Places, Values

_MOST_CELLS = 1 << 17
"""Nests times tile sizes that are priced at once: more do not stay near the processor."""


class NestPrices:
    """The prices of a product's nests under a dataflow, or of a given tile and nest."""

    def __init__(
        self, product: TiledProduct, flow: Dataflow, given: tuple[tuple[int, int, int], Nest] | None = None
    ) -> None:  # fmt: skip
        """Raises ConfigError where what is given cannot be a tile."""
        self.problem, self.flow, self.table = product, flow, table_of(product, flow, given)
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
        problem = self.problem
        memories = problem.left.memory, problem.right.memory, problem.result.memory
        room: dict[str, Values] = {}
        for memory, bits in zip(memories, self.rooms(nests), strict=True):
            room[memory] = room[memory] + bits if memory in room else bits
        return room

    def rooms(self, nests: slice) -> tuple[Values, Values, Values]:
        """Bits of the tiles of both operands, and of sums."""
        problem, table = self.problem, self.table
        return (
            table.left.room[table.left.of_nest[nests]] * problem.left.bits,
            table.right.room[table.right.of_nest[nests]] * problem.right.bits,
            self.sums_room(nests),
        )

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
