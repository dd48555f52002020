"""What tiles in outer tiles cost: the loops over both, for many pairs of sizes at once."""

from __future__ import annotations

from copy import copy

import numpy as np

from fahw.mapping.cost import NestCosts
from fahw.mapping.grid import Grid
from fahw.mapping.levels.outer_costs import Choices, OuterChoice, OuterCosts, around, inner_flow, inner_problem
from fahw.mapping.levels.pairs import inner_sizes, pairs_of
from fahw.mapping.nest import LEFT_OPERAND, RIGHT_OPERAND, Nest
from fahw.mapping.problem import Dataflow, Dimension, OuterLevel, TiledProduct
from fahw.mapping.sizes import Places, Values


class InnerCosts(NestCosts):
    """The costs of nests within outer tiles, and of the loops over these that were chosen for each."""

    def __init__(self, grid: Grid, level: OuterLevel, chosen: Choices) -> None:
        super().__init__(grid)
        self.level, self.chosen = level, chosen

    def with_choices(self, chosen: Choices) -> InnerCosts:
        """The same with other loops over outer tiles."""
        other = copy(self)
        other.chosen = chosen
        return other

    def waits(self, nest: Nest) -> Places:
        """Where sums wait in the outer memory."""
        sums = self.counts(nest).sums
        return np.asarray(sums.spilled > 0) if self.level.result and sums.spills else np.zeros(1, bool)

    def outer(self, nest: Nest) -> OuterChoice:
        """The loops over outer tiles that the nest has around it."""
        waits, (dry, waiting) = self.waits(nest), self.chosen
        if not waits.any():
            return dry
        energy, bits, place = (np.where(waits, *both) for both in zip(waiting, dry, strict=True))
        return OuterChoice(energy, bits, place)

    def energy(self, nest: Nest) -> Values:
        """Energy in pJ, of both levels."""
        return super().energy(nest) + self.outer(nest).energy

    def fits(self, nest: Nest) -> Places:
        """Where tiles of both levels have room."""
        return super().fits(nest) & (self.outer(nest).energy < np.inf)

    def moved_bits(self, nest: Nest, outer: bool) -> Values:
        """Bits that come to local memories and leave them, from and to outer memories, or DRAM."""
        (_, left, right, sums), problem = self.counts(nest), self.problem
        moved = sums.spilled * (2 * problem.result.sum_bits) + self.leaving * problem.result.bits
        parts = left.fetched * problem.left.bits, right.fetched * problem.right.bits, moved
        chosen = [bits for bits, place in zip(parts, self.level.places, strict=True) if bool(place) == outer]
        return np.asarray(sum(chosen, np.zeros(1)))

    def dram_bits(self, nest: Nest) -> Values:
        """Bits that pass DRAM."""
        return self.moved_bits(nest, outer=False) + self.outer(nest).dram_bits

    def latency(self, nest: Nest) -> Values:
        """Cycles: of the array and what it waits for, or of DRAM or the outer memories where these take longer."""
        rate, outer_rate, cycles = self.problem.dram_bits_per_cycle, self.level.bits_per_cycle, self.cycles(nest)
        if rate < np.inf:
            cycles = np.maximum(cycles, self.dram_bits(nest) / rate)
        if outer_rate < np.inf:
            cycles = np.maximum(cycles, self.moved_bits(nest, outer=True) / outer_rate)
        return cycles

    def cycles(self, nest: Nest) -> Values:
        """Cycles of the array and what it waits for: the first tiles from DRAM, and through the outer memory; all that
        comes from the nearest of these while it rests."""
        counts = self.counts(nest)
        cycles = counts.array.cycles * self.grid.flow.costs.paced
        for part, fetched in ((LEFT_OPERAND, counts.left.fetched), (RIGHT_OPERAND, counts.right.fetched)):
            place, operand = self.level.places[part], self.problem.operands[part]
            nearest = self.level.bits_per_cycle if place else self.problem.dram_bits_per_cycle
            cycles = cycles + self._awaited(part, fetched) / nearest
            if place:
                missing = operand.bits * (1 - place.resident)
                cycles = cycles + self.grid.tile_values(part) * (missing / self.problem.dram_bits_per_cycle)
        return cycles


def given_costs(
    product: TiledProduct, level: OuterLevel, flow: Dataflow, sizes: dict[Dimension, tuple[int, int]], outer_nest: Nest
) -> tuple[OuterCosts, InnerCosts]:
    """The costs of given outer tiles and tiles in them, by dimension, under a given nest of outer tiles.

    Raises ConfigError where tiles cannot have these sizes.
    """
    pairs = {name: pairs_of(product, flow, name, pair) for name, pair in sizes.items()}
    outer = OuterCosts(product, level, flow, pairs)
    changes = tuple(np.ravel(change) for change in outer.changes(outer_nest))
    grid = Grid(
        inner_problem(product, level),
        inner_flow(flow, level),
        inner_sizes(pairs),
        around(pairs, (changes[0], changes[1], changes[2])),
    )
    return outer, InnerCosts(grid, level, outer.under(outer_nest).at(np.zeros(1, np.intp)))
