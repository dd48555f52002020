"""What all nests of a product cost under a dataflow, over some tile sizes at once."""

from __future__ import annotations

from functools import cached_property, reduce
from typing import TypeVar

import numpy as np

from fahw.mapping.cost import array_energy
from fahw.mapping.nest import RESULTS
from fahw.mapping.one_level.tables import Tiles, Uses
from fahw.mapping.one_level.ways import Numbers
from fahw.mapping.problem import Dataflow, OperandPlace, TiledProduct
from fahw.mapping.sizes import Places, Values

Array = TypeVar("Array", Values, Places)


class Every:
    """All nests, the first axis, and tile sizes."""

    def ways(self, values: Array, of_nest: Numbers) -> Array:
        """Of values by way and tile size, those of the way of each nest."""
        return values.take(of_nest, axis=0)

    def sizes(self, values: Values) -> Values:
        """Of values by tile size, those of each."""
        return values


class Pairs(Every):
    """Some pairs of a nest and a tile size."""

    def __init__(self, nest: Numbers, place: Numbers) -> None:
        self._nest, self._place = nest, place

    def ways(self, values: Array, of_nest: Numbers) -> Array:
        """Of values by way and tile size, those of the way of each nest."""
        return values[of_nest[self._nest], self._place]

    def sizes(self, values: Values) -> Values:
        """Of values by tile size, those of each."""
        return values[self._place]


class Pair(Every):
    """A nest and a tile size: single numbers."""

    def __init__(self, nest: int, place: int) -> None:
        self._nest, self._place = nest, place

    def ways(self, values: Array, of_nest: Numbers) -> Array:
        """Of values by way and tile size, that of the way of the nest."""
        picked: Array = values[of_nest[self._nest], self._place]
        return picked

    def sizes(self, values: Values) -> Values:
        """Of values by tile size, that of this one."""
        picked: Values = values[self._place]
        return picked


EVERY = Every()


class NestPrices:
    """The prices of a product's nests on some tile sizes under a dataflow."""

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
        """The objective of all nests and tile sizes."""
        return self._measure(self.problem.objective, EVERY)

    def other(self, of: Every) -> Values:
        """What decides among equals: cycles where energy is the objective, else energy."""
        return self._measure("latency" if self.problem.objective == "energy" else "energy", of)

    def measures(self, of: Every) -> tuple[Values, Values]:
        """Energy in pJ, and cycles."""
        latency = self.latency(of)
        return self._energy(latency, of), latency

    def _measure(self, objective: str, of: Every) -> Values:
        if objective == "edp":
            energy, latency = self.measures(of)
            return latency * energy
        return self.energy(of) if objective == "energy" else self.latency(of)

    def energy(self, of: Every) -> Values:
        """Energy in pJ."""
        return self._energy(self.latency(of) if self.problem.prices.static else None, of)

    def _energy(self, latency: Values | None, of: Every) -> Values:
        tiles, prices, factors = self.tiles, self.problem.prices, self.flow.costs.fetches
        left, right = (
            values * (price * factor) for values, price, factor in zip(self.fetched, prices.fetch, factors, strict=True)
        )
        energy = of.ways(left, tiles.left.of_nest)
        energy += of.ways(right, tiles.right.of_nest)
        energy += of.ways(self._array_pj, tiles.of_nest)
        energy += of.ways(self.spilled * prices.spilled_sum, tiles.sums.of_nest)
        if latency is not None and prices.static:
            energy += latency * prices.static
        return energy

    @cached_property
    def _array_pj(self) -> Values:
        return array_energy(self.problem, self.flow, self.tiles.grid.results, self.leaving, self.tiles.array)

    def latency(self, of: Every) -> Values:
        """Cycles: of the array and what it waits for, or of DRAM where that takes longer."""
        tiles, rate = self.tiles, self.problem.dram_bits_per_cycle
        cycles = of.ways(tiles.array.cycles * self.flow.costs.paced, tiles.of_nest)
        if rate == np.inf:
            return cycles
        cycles += (self._awaited(0, of) + self._awaited(1, of)) / rate
        return np.maximum(cycles, self.dram_bits(of) / rate)

    def _awaited(self, part: int, of: Every) -> Values:
        """Bits of an operand that the array waits for: of its first tile, or of all that come while it rests."""
        operand, uses = self.problem.operands[part], (self.tiles.left, self.tiles.right)[part]
        if operand.overlaps:
            return of.sizes(self.tiles.first_tiles[part] * (operand.bits * (1 - operand.resident)))
        return of.ways(self.fetched[part] * operand.bits, uses.of_nest)

    def dram_bits(self, of: Every) -> Values:
        """Bits that pass DRAM."""
        tiles, problem = self.tiles, self.problem
        left, right = self.fetched
        sums = self.spilled * (2 * problem.result.sum_bits) + self.leaving * problem.result.bits
        moved = of.ways(left * problem.left.bits, tiles.left.of_nest)
        moved += of.ways(right * problem.right.bits, tiles.right.of_nest)
        moved += of.ways(sums, tiles.sums.of_nest)
        return moved

    def room(self, of: Every) -> dict[str, Values]:
        """Bits that tiles take, by memory."""
        return {memory: self.room_in(memory, of) for memory, _, _ in self._parts}

    def room_in(self, memory: str, of: Every) -> Values:
        """Bits that tiles take in a memory where some lie."""
        left, right, results = self._parts
        parts = [of.ways(bits, of_nest) for name, bits, of_nest in (left, right) if name == memory]
        parts += [self.sums_room(of)] if results[0] == memory else []
        return reduce(np.add, parts)

    def rooms(self, of: Every) -> tuple[Values, Values, Values]:
        """Bits of the tiles of both operands, and of sums."""
        (_, left, of_left), (_, right, of_right), _ = self._parts
        return of.ways(left, of_left), of.ways(right, of_right), self.sums_room(of)

    @cached_property
    def _parts(self) -> tuple[tuple[str, Values, Numbers], ...]:
        """Of left, right and results: the memory, bits by way, and the way of each nest."""
        problem, (left, right, sums) = self.problem, (self.tiles.left, self.tiles.right, self.tiles.sums)
        return (
            (problem.left.memory, _operand_room(left, problem.left), left.of_nest),
            (problem.right.memory, _operand_room(right, problem.right), right.of_nest),
            (problem.result.memory, sums.room * problem.result.sum_bits, sums.of_nest),
        )

    def sums_room(self, of: Every) -> Values:
        """Bits that waiting sums take; those of windows have room whether they wait or not."""
        _, bits, of_nest = self._parts[RESULTS]
        room = of.ways(bits, of_nest)
        if self.problem.unfolded != "result":
            room *= of.ways(self.tiles.array.breaks > 0, self.tiles.of_nest)
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
        memories = [memory for memory, _, _ in self._parts]
        fits = [self._has_room(memory, limit) for memory, limit in self.problem.room if memory in memories]
        fits += [] if self.possible is None else [self.possible]
        return reduce(np.logical_and, fits) if fits else np.ones((1, 1), bool)

    def _has_room(self, memory: str, limit: float) -> Places:
        """Where the tiles in a memory have room."""
        own = [(bits, of_nest) for name, bits, of_nest in self._parts if name == memory]
        if len(own) == 1 and memory != self.problem.result.memory:
            bits, of_nest = own[0]
            return EVERY.ways(bits <= limit, of_nest)
        return np.asarray(self.room_in(memory, EVERY) <= limit)


def _fetched(uses: Uses, operand: OperandPlace) -> Values:
    """Values of an operand that come from DRAM."""
    return uses.once * (1 - operand.resident) * uses.visits


def _operand_room(uses: Uses, operand: OperandPlace) -> Values:
    """Bits that an operand's tiles take by way: those that change several times, what is there already none."""
    if operand.resident >= 1:
        return np.zeros_like(uses.room)
    return uses.room * np.where(uses.whole, 1, operand.buffers) * operand.bits
