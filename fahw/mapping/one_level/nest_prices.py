"""What all nests of a product cost under a dataflow, over some tile sizes at once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fahw.mapping.cost import array_energy
from fahw.mapping.nest import RESULTS
from fahw.mapping.one_level.tables import Tiles, Uses
from fahw.mapping.problem import Dataflow, OperandPlace, TiledProduct
from fahw.mapping.sizes import Places, Values


class NestPrices:
    """The prices of a product's nests (the first axis) on some tile sizes under a dataflow."""

    def __init__(self, product: TiledProduct, flow: Dataflow, tiles: Tiles) -> None:
        self.problem, self.flow, self.tiles = product, flow, tiles
        grid = tiles.grid
        once = grid.distinct(RESULTS)
        self.leaving = once * (1 - product.result.resident)
        self.fetched = _fetched(tiles.left, product.left), _fetched(tiles.right, product.right)
        if product.unfolded == "result":
            self.spilled = tiles.sums.once - once
        else:
            self.spilled = grid.results * (tiles.sums.visits - 1)

    @cached_property
    def cost(self) -> Values:
        """The objective."""
        objective = self.problem.objective
        if objective == "edp":
            return self.latency * self.energy
        return self.energy if objective == "energy" else self.latency

    @property
    def other(self) -> Values:
        """What decides among equals: cycles where energy is the objective, else energy."""
        return self.latency if self.problem.objective == "energy" else self.energy

    @cached_property
    def energy(self) -> Values:
        """Energy in pJ."""
        tiles, problem, grid = self.tiles, self.problem, self.tiles.grid
        array = array_energy(problem, self.flow, grid.results, self.leaving, tiles.array)
        fetch = zip(self.fetched, problem.prices.fetch, self.flow.costs.fetches, strict=True)
        left, right = (values * (price * factor) for values, price, factor in fetch)
        energy = left.take(tiles.left.of_nest, axis=0)
        energy += right.take(tiles.right.of_nest, axis=0)
        energy += array.take(tiles.of_nest, axis=0)
        energy += (self.spilled * problem.prices.spilled_sum).take(tiles.sums.of_nest, axis=0)
        if problem.prices.static:
            energy += self.latency * problem.prices.static
        return energy

    @cached_property
    def latency(self) -> Values:
        """Cycles: of the array and what it waits for, or of DRAM where that takes longer."""
        tiles, rate = self.tiles, self.problem.dram_bits_per_cycle
        cycles = (tiles.array.cycles * self.flow.costs.paced).take(tiles.of_nest, axis=0)
        if rate == np.inf:
            return cycles
        awaited = self._awaited(0) + self._awaited(1)
        awaited /= rate
        cycles += awaited
        return np.maximum(cycles, self.dram_bits / rate, out=cycles)

    def _awaited(self, part: int) -> Values:
        """Bits of an operand that the array waits for: of its first tile, or of all that come while it rests."""
        operand, uses = self.problem.operands[part], (self.tiles.left, self.tiles.right)[part]
        if operand.overlaps:
            return self.tiles.first_tiles[part] * (operand.bits * (1 - operand.resident))
        return (self.fetched[part] * operand.bits).take(uses.of_nest, axis=0)

    @cached_property
    def dram_bits(self) -> Values:
        """Bits that pass DRAM."""
        tiles, problem = self.tiles, self.problem
        left, right = self.fetched
        sums = self.spilled * (2 * problem.result.sum_bits) + self.leaving * problem.result.bits
        moved = (left * problem.left.bits).take(tiles.left.of_nest, axis=0)
        moved += (right * problem.right.bits).take(tiles.right.of_nest, axis=0)
        moved += sums.take(tiles.sums.of_nest, axis=0)
        return moved

    @cached_property
    def room(self) -> dict[str, Values]:
        """Bits that tiles take, by memory."""
        problem, tiles = self.problem, self.tiles
        room: dict[str, Values] = {}
        parts = (
            (problem.left.memory, _operand_room(tiles.left, problem.left).take(tiles.left.of_nest, axis=0)),
            (problem.right.memory, _operand_room(tiles.right, problem.right).take(tiles.right.of_nest, axis=0)),
            (problem.result.memory, self.sums_room),
        )
        for memory, bits in parts:
            room[memory] = room[memory] + bits if memory in room else bits
        return room

    @cached_property
    def sums_room(self) -> Values:
        """Bits that waiting sums take; those of windows have room whether they wait or not."""
        tiles = self.tiles
        room = (tiles.sums.room * self.problem.result.sum_bits).take(tiles.sums.of_nest, axis=0)
        if self.problem.unfolded != "result":
            room *= (tiles.array.breaks > 0).take(tiles.of_nest, axis=0)
        return room

    @cached_property
    def possible(self) -> Places | None:
        """Where nests can be if room is no matter, None for everywhere: sums of windows need not be left before K is
        complete."""
        if self.problem.unfolded != "result":
            return None
        sums = self.tiles.sums
        return np.asarray((~sums.again | (sums.trips <= 1)).take(sums.of_nest, axis=0))

    @cached_property
    def fits(self) -> Places:
        """Where they can be, and all tiles have room."""
        room, possible = self.room, self.possible
        fits = [room[memory] <= limit for memory, limit in self.problem.room if memory in room]
        fits += [] if possible is None else [possible]
        return np.logical_and.reduce(fits) if fits else np.ones((1, 1), bool)


def _fetched(uses: Uses, operand: OperandPlace) -> Values:
    """Values of an operand that come from DRAM."""
    return uses.once * (1 - operand.resident) * uses.visits


def _operand_room(uses: Uses, operand: OperandPlace) -> Values:
    """Bits that an operand's tiles take by way: those that change several times, what is there already none."""
    if operand.resident >= 1:
        return np.zeros_like(uses.room)
    return uses.room * np.where(uses.whole, 1, operand.buffers) * operand.bits
