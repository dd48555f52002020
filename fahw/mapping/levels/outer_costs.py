"""What outer tiles cost: what passes DRAM for them, the room that they take, and the best loops over them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fahw.mapping.cost import EQUAL
from fahw.mapping.grid import DIMENSIONS, Around, Grid
from fahw.mapping.levels.pairs import Pairs
from fahw.mapping.memory_counts import OperandCounts, SumCounts, operand_counts, sum_counts
from fahw.mapping.nest import LEFT_OPERAND, RESULTS, RIGHT_OPERAND, Nest, Reuse, nests_of_orders
from fahw.mapping.problem import (
    Dataflow,
    Dimension,
    OperandPlace,
    OuterLevel,
    OuterPlace,
    Prices,
    ResultPlace,
    TiledProduct,
)
from fahw.mapping.sizes import Places, Values

OUTER_NESTS: tuple[Nest, ...] = nests_of_orders(False)
"""Every nest of loops over outer tiles."""


class OuterChoice(NamedTuple):
    """Loops over outer tiles, an entry for each of these: pJ and bits through DRAM, infinite where they do not fit, and
    the place of the nest among `OUTER_NESTS`."""

    energy: Values
    dram_bits: Values
    nest: npt.NDArray[np.intp]

    def at(self, places: npt.NDArray[np.intp]) -> OuterChoice:
        """Those of some outer tiles alone."""
        return OuterChoice(self.energy.ravel()[places], self.dram_bits.ravel()[places], self.nest.ravel()[places])


class Choices(NamedTuple):
    """The best loops where no sums wait in the outer memory, and where some do."""

    dry: OuterChoice
    waiting: OuterChoice

    def at(self, places: npt.NDArray[np.intp]) -> Choices:
        """Those of some outer tiles alone."""
        return Choices(self.dry.at(places), self.waiting.at(places))


class OuterCosts:
    """The costs of loops over outer tiles under a dataflow, for all sizes of these at once."""

    def __init__(self, product: TiledProduct, level: OuterLevel, flow: Dataflow, pairs: dict[Dimension, Pairs]) -> None:
        self.level = level
        sizes = {name: pairs[name].outer_sizes.along(axis) for axis, name in enumerate(DIMENSIONS)}
        self.grid = Grid(outer_problem(product, level), outer_flow(flow), sizes)
        self.problem = self.grid.problem
        self._kept: dict[tuple[int, Reuse], OperandCounts] = {}
        self._sums: dict[Reuse, SumCounts] = {}

    def operand(self, part: int, nest: Nest) -> OperandCounts:
        """An operand's counts under the nest; one without a place here has none."""
        key = part, nest.reuses[part]
        if key not in self._kept:
            self._kept[key] = operand_counts(self.grid, part, nest.reuses[part])
        return self._kept[key]

    def sums(self, nest: Nest) -> SumCounts:
        """The counts of sums under the nest, with the room that they take if they wait."""
        reuse = nest.reuses[RESULTS]
        if reuse not in self._sums:
            none = SumCounts(False, np.zeros(1), np.zeros(1), np.ones(1, bool))
            self._sums[reuse] = sum_counts(self.grid, reuse, np.ones(1)) if self.level.result else none
        return self._sums[reuse]

    @property
    def leaving(self) -> float:
        """Finished values that go on to DRAM."""
        return self.grid.distinct(RESULTS) * (1 - self.problem.result.resident)

    def energy(self, nest: Nest) -> Values:
        """pJ of what passes between DRAM and the outer memories."""
        prices = self.problem.prices
        operands = self.operand(LEFT_OPERAND, nest).energy + self.operand(RIGHT_OPERAND, nest).energy
        return operands + (self.sums(nest).spilled * prices.spilled_sum + self.leaving * prices.result)

    def dram_bits(self, nest: Nest) -> Values:
        """Bits that pass between DRAM and the outer memories."""
        problem = self.problem
        left, right = (self.operand(part, nest).fetched * problem.operands[part].bits for part in range(2))
        sums = self.sums(nest).spilled * (2 * problem.result.sum_bits) + self.leaving * problem.result.bits
        return left + right + sums

    def room(self, nest: Nest, waits: bool) -> dict[str, Values]:
        """Bits that outer tiles take, by memory."""
        room: dict[str, Values] = {}
        parts = [self.operand(part, nest).room for part in range(2)] + ([self.sums(nest).room] if waits else [])
        for place, bits in zip(self.level.places, parts, strict=False):
            if place:
                room[place.memory] = room[place.memory] + bits if place.memory in room else bits
        return room

    def fits(self, nest: Nest, waits: bool) -> Places:
        """Where outer tiles have room."""
        room, fits = self.room(nest, waits), np.ones(self.grid.shape, bool)
        for memory, limit in self.level.room:
            if memory in room:
                fits &= room[memory] <= limit
        return fits

    def turning_innermost(self, dimension: Dimension) -> Places:
        """Where the loop over a dimension can be the innermost that turns. Where none does, it is that over K."""
        turns = self.grid.several
        none = ~(turns["m"] | turns["n"] | turns["k"])
        return turns[dimension] | none if dimension == "k" else turns[dimension] & np.ones(self.grid.shape, bool)

    def under(self, nest: Nest) -> Choices:
        """The costs of one nest."""
        energy, place = self.energy(nest), np.full(self.grid.shape, OUTER_NESTS.index(nest))
        bits = np.broadcast_to(self.dram_bits(nest), self.grid.shape)
        dry, waiting = (
            OuterChoice(np.where(self.fits(nest, waits), energy, np.inf), bits, place) for waits in (False, True)
        )
        return Choices(dry, waiting)

    def changes(self, nest: Nest) -> tuple[Places | bool, Places | bool, Places | bool]:
        """For each part, where the nest brings another tile of it between two turns of the loop that does not concern
        it."""
        left, right, results = (self.grid.again(part, reuse) for part, reuse in enumerate(nest.reuses))
        return left, right, results

    def best(self, dimension: Dimension, one_is_enough: bool) -> list[Choices]:
        """The best loops of which that over `dimension` is the innermost that turns; several where energy and bits are
        not least together, unless `one_is_enough`."""
        tried = [place for place, nest in enumerate(OUTER_NESTS) if nest.order[2] == dimension]
        energy = np.stack([np.broadcast_to(self.energy(OUTER_NESTS[place]), self.grid.shape) for place in tried])
        bits = np.stack([np.broadcast_to(self.dram_bits(OUTER_NESTS[place]), self.grid.shape) for place in tried])
        fits = [np.stack([self.fits(OUTER_NESTS[place], waits) for place in tried]) for waits in (False, True)]
        turning, places = self.turning_innermost(dimension), np.array(tried)
        fits = [fitting & turning for fitting in fits]
        best = [_least(energy, bits, fitting, places) for fitting in fits]
        if one_is_enough or all(_dominates(*of, bits) for of in zip(best, fits, strict=True)):
            return [Choices(*best)]
        alone = [[_least(energy[i : i + 1], bits[i : i + 1], f[i : i + 1], places[i : i + 1]) for f in fits]
                 for i in range(len(tried))]  # fmt: skip
        return [Choices(*of) for of in alone]


def _least(energy: Values, bits: Values, fits: Places, places: npt.NDArray[np.intp]) -> OuterChoice:
    """The nest with the least energy, of equals the one with the fewest bits, of these the first."""
    energy = np.where(fits, energy, np.inf)
    least = energy.min(0)
    chosen = np.where(energy <= least * (1 + EQUAL), bits, np.inf).argmin(0)[None]
    bits = np.where(fits, bits, np.inf)
    return OuterChoice(
        np.take_along_axis(energy, chosen, 0)[0], np.take_along_axis(bits, chosen, 0)[0], places[chosen[0]]
    )  # fmt: skip


def _dominates(best: OuterChoice, fits: Places, bits: Values) -> bool:
    """Whether no nest moves fewer bits than those with the least energy."""
    return bool((best.dram_bits <= np.where(fits, bits, np.inf).min(0) * (1 + EQUAL)).all())


@lru_cache(maxsize=256)
def outer_flow(flow: Dataflow) -> Dataflow:
    """The dataflow with what it costs to come from DRAM to outer memories."""
    return replace(flow, costs=replace(flow.costs, fetches=flow.costs.to_outer))


@lru_cache(maxsize=256)
def inner_flow(flow: Dataflow, level: OuterLevel) -> Dataflow:
    """The dataflow with what it costs to come to local memories: from outer ones, or straight from DRAM."""
    costs = flow.costs
    left, right = (
        move if place else fetch for place, move, fetch in zip(level.places, costs.moves, costs.fetches, strict=False)
    )
    return replace(flow, costs=replace(costs, fetches=(left, right)))


@lru_cache(maxsize=256)
def outer_problem(product: TiledProduct, level: OuterLevel) -> TiledProduct:
    """What there is between DRAM and the outer memories, as a product of one level whose array costs nothing. A part
    without a place there is there already."""
    left, right = (
        OperandPlace(part.bits, place.memory if place else "", place.resident if place else 1.0,
                     place.buffers if place else 1)
        for part, place in zip(product.operands, level.places, strict=False)
    )  # fmt: skip
    place, result = level.result or OuterPlace("", 1.0), product.result
    prices = Prices((0, 0), level.prices.fetch, 0, level.prices.spilled_sum, result=level.prices.result)
    sums = ResultPlace(result.sum_bits, place.memory, result.bits, place.resident)
    return replace(product, left=left, right=right, result=sums, prices=prices, room=level.room, outer=None)


@lru_cache(maxsize=256)
def inner_problem(product: TiledProduct, level: OuterLevel) -> TiledProduct:
    """What there is between outer memories, or DRAM for a part without a place there, and the array, as a product of
    one level."""
    prices, outer = product.prices, level.prices
    fetch = [move if place else direct for place, move, direct in
             zip(level.places, outer.move, prices.fetch, strict=False)]  # fmt: skip
    spilled, result = prices.spilled_sum, prices.result
    if level.result:
        spilled, result = outer.moved_sum, outer.moved_result
    prices = replace(prices, fetch=(fetch[0], fetch[1]), spilled_sum=spilled, result=result)
    return replace(product, prices=prices, outer=None)


def around(pairs: dict[Dimension, Pairs], changes: tuple[Places | bool, Places | bool, Places | bool]) -> Around:
    """The outer tiles around the tiles of pairs; see `Around` for `changes`."""
    outer, several = {name: of.outer for name, of in pairs.items()}, {name: of.several for name, of in pairs.items()}
    return Around(outer, several, changes)
