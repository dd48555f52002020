"""What nests of loops cost, for all tile sizes at once: energy in pJ, cycles, and the objective of the two."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fahw.mapping.array_counts import ArrayCounts, ArrayNest, array_counts, array_nest
from fahw.mapping.grid import Grid
from fahw.mapping.memory_counts import OperandCounts, SumCounts, operand_counts, sum_counts
from fahw.mapping.nest import LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, Reuse
from fahw.mapping.problem import Dataflow, TiledProduct
from fahw.mapping.sizes import Places, Values

T = TypeVar("T")
EQUAL = 1e-12
"""Share by which costs may differ and count as equal, as sums of the same energies in another order do."""


class NestCounts(NamedTuple):
    """What a nest does: in the array, with both operands, with sums."""

    array: ArrayCounts
    left: OperandCounts
    right: OperandCounts
    sums: SumCounts


class NestCosts:
    """The costs of a product's nests under a dataflow. Few parts of them are different from nest to nest: each is
    computed once."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.problem = grid, grid.problem
        self._kept: dict[Hashable, Any] = {}

    def counts(self, nest: Nest) -> NestCounts:
        """The counts under the nest."""
        return self._once(nest, lambda: self._counts(nest))

    def _counts(self, nest: Nest) -> NestCounts:
        array, (left, right, sums) = array_nest(self.grid.flow.stays, nest), nest.reuses
        return NestCounts(
            self.array(array),
            self._operand(LEFT_OPERAND, left),
            self._operand(RIGHT_OPERAND, right),
            self._sums(sums, array),
        )

    def objective(self, nest: Nest, most: float = np.inf) -> Values:
        """What is to be small; infinite where the nest cannot be, or does not fit, and if nowhere it is as small as
        `most`."""
        objective = self.problem.objective
        cost = self.energy(nest) if objective == "energy" else self.latency(nest)
        if objective == "edp":
            cost = cost * self.energy(nest)
        if most < np.inf and not ((cost <= most) & self._may_fit).any():
            return np.full(1, np.inf)
        return np.where(self.fits(nest), np.broadcast_to(cost, self.grid.shape), np.inf)

    @cached_property
    def _may_fit(self) -> Places:
        return self.grid.may_fit()

    def other(self, nest: Nest) -> Values:
        """What decides among equals: the latency where energy is the objective, else the energy."""
        return self.latency(nest) if self.problem.objective == "energy" else self.energy(nest)

    def room(self, nest: Nest) -> dict[str, Values]:
        """Bits that tiles take, by memory."""
        problem, counts = self.problem, self.counts(nest)
        room: dict[str, Values] = {}
        parts = ((problem.left, counts.left), (problem.right, counts.right), (problem.result, counts.sums))
        for place, part in parts:
            room[place.memory] = room[place.memory] + part.room if place.memory in room else part.room
        return room

    def fits(self, nest: Nest) -> Places:
        """Where the nest can be: all tiles have room."""
        room, fits = self.room(nest), self.counts(nest).sums.possible
        for memory, limit in self.problem.room:
            if memory in room:
                fits = fits & (room[memory] <= limit)
        return fits

    def dram_bits(self, nest: Nest) -> Values:
        """Bits that pass DRAM."""
        problem, (_, left, right, sums) = self.problem, self.counts(nest)
        sum_bits = 2 * problem.result.sum_bits
        fixed = self.leaving * problem.result.bits
        return left.fetched * problem.left.bits + right.fetched * problem.right.bits + (sums.spilled * sum_bits + fixed)

    def latency(self, nest: Nest) -> Values:
        """Cycles: of the array and what it waits for, or of DRAM where that takes longer."""
        rate = self.problem.dram_bits_per_cycle
        cycles = self.counts(nest).array.cycles * self.grid.flow.costs.paced
        if rate == np.inf:
            return cycles
        return np.maximum(cycles + self._awaited_bits(nest) / rate, self.dram_bits(nest) / rate)

    def energy(self, nest: Nest) -> Values:
        """Energy in pJ."""
        prices, grid, (_, left, right, sums) = self.problem.prices, self.grid, self.counts(nest)
        array = self.array_pj(array_nest(grid.flow.stays, nest))
        energy = array + (left.energy + right.energy)
        if sums.spills:
            energy = energy + sums.spilled * prices.spilled_sum
        return energy + self.latency(nest) * prices.static if prices.static else energy

    @property
    def leaving(self) -> float:
        """Finished values that leave for DRAM; window sums leave as the inputs that they belong to."""
        return self.grid.distinct(RESULTS) * (1 - self.problem.result.resident)

    def _awaited_bits(self, nest: Nest) -> Values:
        """Bits that the array waits for: of the first tiles of both operands, and of all that come while it rests."""
        left, right = (
            self._awaited(part, counts.fetched)
            for part, counts in enumerate((self.counts(nest).left, self.counts(nest).right))
        )
        return np.asarray(left + right)

    def _awaited(self, part: int, fetched: Values) -> Values:
        operand = self.problem.operands[part]
        if not operand.overlaps:
            return fetched * operand.bits
        missing = operand.bits * (1 - operand.resident)
        return self._once(("first", part), lambda: self.grid.tile_values(part) * missing)

    def array_energy(self, counts: ArrayCounts) -> Values:
        """pJ of reads, sums left incomplete, elements and results: all but what tiles take from DRAM."""
        return array_energy(self.problem, self.grid.flow, self.grid.results, self.leaving, counts)

    def array(self, nest: ArrayNest) -> ArrayCounts:
        """What the array does if it notices this of the nest."""
        return self._once(("array", nest), lambda: array_counts(self.grid, nest))

    def array_pj(self, nest: ArrayNest) -> Values:
        """pJ of what the array does then."""
        return self._once(("pJ", nest), lambda: self.array_energy(self.array(nest)))

    def _operand(self, part: int, reuse: Reuse) -> OperandCounts:
        return self._once((part, reuse), lambda: operand_counts(self.grid, part, reuse))

    def _sums(self, reuse: Reuse, array: ArrayNest) -> SumCounts:
        return self._once(("sums", reuse, array), lambda: sum_counts(self.grid, reuse, self.array(array).breaks))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        value: T = self._kept[key]
        return value


def array_energy(
    problem: TiledProduct, flow: Dataflow, results: float, leaving: float, counts: ArrayCounts
) -> Values:  # fmt: skip
    """pJ of reads, sums left incomplete, elements and `results` of which some are `leaving` for DRAM: all but what
    tiles take from there."""
    prices, costs, macs = problem.prices, flow.costs, problem.macs * flow.costs.useful
    idle = np.maximum(counts.cycles * (costs.paced * problem.array.rows * problem.array.cols) - macs, 0)
    left, right = (price * factor for price, factor in zip(prices.read, costs.reads, strict=True))
    reads = counts.reads[0] * left + counts.reads[1] * right
    sums = counts.breaks * (results * prices.partial_sum * costs.sums)
    sums = sums + counts.accumulated * prices.accumulator
    if flow.stays is not None and any(prices.held):
        sums = sums + (counts.reads[flow.stays] * prices.held[0] + counts.begun * prices.held[1])
    fixed = macs * flow.mac_pj + leaving * prices.result
    if problem.unfolded == "result":
        fixed += results * prices.window_sum
    return np.asarray(reads + sums + idle * flow.idle_pj + fixed)
