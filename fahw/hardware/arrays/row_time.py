"""Cycles of a row-stationary array with fill, drain and the buses to its elements, and the mapping that is best then.

A pass fills the pads with its filters and the first windows, over buses of their own; then it works for as long as the
slowest of three takes: its elements, the inputs and the sums on their buses; at last a sum goes up its column. What an
element works: a cycle for each multiply-accumulate, and one for each sum that another hands it, since it has one adder.
Every value goes to all elements that need it at once, and sums have a bus in and a bus out.

Source: the buses and elements of Chen et al., JSSC 2017 (Eyeriss). No number is fitted; docs/model.md has the times
that were measured beside it, and which choice was made in view of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fahw.hardware.arrays.mapping import Convolution, Objective
from fahw.hardware.arrays.row_movement import BUFFER_COST, DRAM_COST, SLACK, Block, Movement, PassSize, Search, blocks

Values = NDArray[np.int64]
ELEMENT_COST = 5
"""Energy of a multiply-accumulate with its accesses of pads, in the units of `BUFFER_COST` (Chen et al., ISCA 2016)."""


@dataclass(frozen=True)
class Buses:
    """Words per cycle of the buses between buffer and elements: filters, inputs, and partial sums each way."""

    filters: int
    inputs: int
    sums: int


class Passes(NamedTuple):
    """Passes of a layer that differ in p and t alone, of which arrays have many; `together` is p t."""

    layer: Convolution
    e: int
    q: int
    r: int
    n: int

    @property
    def strip(self) -> int:
        """Input rows of a strip."""
        return min(self.layer.image[0], (self.e - 1) * self.layer.stride + self.layer.kernel[0])

    @property
    def strips(self) -> int:
        """Strips of all samples, each of `n` at a time."""
        return ceil(self.layer.out[0] / self.e) * ceil(self.layer.samples / self.n)

    @property
    def channel_groups(self) -> int:
        """Groups of channels, one after the other."""
        return ceil(self.layer.inputs / (self.q * self.r))

    def fill(self, together: Values, buses: Buses) -> Values:
        """Cycles in which pads take what a pass begins with: filters, and the first window of every row."""
        height, width = self.layer.kernel
        channels, first = self.q * self.r, min(width, self.layer.image[1])
        filters = _turns(together * (channels * height * width), buses.filters)
        return np.maximum(filters, ceil(channels * self.strip * first / buses.inputs))

    def work(self, p: Values, together: Values, adds: int, buses: Buses) -> Values:
        """Cycles from the first product of a pass to its last sum. `adds`: 1 where elements are handed sums."""
        layer = self.layer
        pixels = self.n * layer.out[1]
        elements = p * (pixels * (self.q * layer.kernel[1] + adds))
        inputs = ceil(self.n * self.q * self.r * self.strip * layer.image[1] / buses.inputs)
        sums = _turns(together * (pixels * self.e), buses.sums)
        return np.maximum(np.maximum(elements, sums), inputs)

    def cycles(self, p: Values, together: Values, buses: Buses) -> Values:
        """Cycles of all passes; the last, smaller ones take as long as the others. In those of the first channels only
        other elements hand sums on."""
        chain, groups = self.layer.kernel[0] * self.r, self.channel_groups
        each = self.fill(together, buses) + (chain - 1)
        first, other = (self.work(p, together, adds, buses) for adds in (int(chain > 1), 1))
        turns = -(-self.layer.outputs // together) * self.strips
        return turns * (each * groups + first + other * (groups - 1))


def timed_cycles(moves: Movement, buses: Buses) -> int:
    """Cycles of a layer under a mapping."""
    size = moves.size
    p, together = (np.array([number], np.int64) for number in (size.p, size.p * size.t))
    return int(Passes(moves.layer, size.e, size.q, size.r, size.n).cycles(p, together, buses)[0])


@lru_cache(maxsize=4096)
def timed_movement(
    layer: Convolution, rows: int, cols: int, pads: tuple[int, int, int], buffer_words: int, buses: Buses,
    objective: Objective,
) -> Movement | None:  # fmt: skip
    """The best mapping of those that take at most a quarter longer than the fastest; None where none fits.

    `objective`: "energy", what moves least outside the array; "latency", the fastest; "edp", the least product of both,
    with the elements' energy. Of equals the first counts: fewest products in passes that are not full, then least e, q
    and r.
    """
    fitting = list(blocks(layer, rows, cols, pads))
    if not fitting:
        return None
    search, fastest, found = Search(layer, pads, buffer_words), 0, list[_Tried]()
    blocks_by_bound = sorted((search.least_cycles(block), block) for block in fitting)
    unit = layer.samples * layer.out[1] * layer.kernel[1]
    for least, block in blocks_by_bound:
        if fastest and least * unit > SLACK * fastest:
            break
        for tried in _tried(search, block, buses) if least else ():
            fastest = min(fastest or tried.least, tried.least)
            found.append(tried)
    best = [tried.best(SLACK * fastest, objective) for tried in found if tried.least <= SLACK * fastest]
    return Movement(layer, min(best, key=lambda each: each[0])[1]) if best else None


class _Tried(NamedTuple):
    """All p and t of a block with `n` samples at a time: indices in the search, cycles, and the cost of what moves."""

    search: Search
    block: Block
    n: int
    room: int
    pairs: NDArray[np.intp]
    cycles: Values
    cost: Values

    @property
    def least(self) -> int:
        """Cycles of the fastest."""
        return int(self.cycles.min())

    def best(self, limit: float, objective: Objective) -> tuple[tuple[int, int], PassSize]:
        """The best of those within `limit` cycles, with what makes it so."""
        within = np.flatnonzero(self.cycles <= limit)
        cycles, cost = self.cycles[within], self.cost[within]
        in_all = (cost + ELEMENT_COST * self.search.layer.macs) * cycles.astype(object)
        first, then = {"energy": (cost, cycles), "latency": (cycles, cost), "edp": (in_all, cycles)}[objective]
        place = int(np.lexsort((then, first))[0])
        return (int(first[place]), int(then[place])), self._size(int(self.pairs[within[place]]))

    def _size(self, pair: int) -> PassSize:
        block, together = self.block, int(self.search.together[pair])
        p, t = int(self.search.p[pair]), int(self.search.t[pair])
        grouped = min(self.search.layer.outputs, self.room // together * together)
        return PassSize(block.e, p, block.q, block.r, t, grouped, self.n)


def _tried(search: Search, block: Block, buses: Buses) -> Iterator[_Tried]:
    """Every p, t and n of a block that fit, with their cycles and costs (those of `Movement`)."""
    layer = search.layer
    for n in search.samples:
        room = search.room(block, n)
        pairs = search.pairs(block, room)[0]
        if len(pairs):
            passes, together = Passes(layer, block.e, block.q, block.r, n), search.together[pairs]
            cycles = passes.cycles(search.p[pairs], together, buses)
            image = layer.samples * layer.inputs * ceil(layer.out[0] / block.e) * passes.strip * layer.image[1]
            grouped = np.minimum(layer.outputs, room // together * together)
            filters, sums = layer.weights * passes.strips, layer.results * (passes.channel_groups - 1)
            fetched = image * -(-layer.outputs // grouped) + filters + layer.results
            read = image * search.turns[pairs] + filters + 2 * sums
            yield _Tried(search, block, n, room, pairs, cycles, DRAM_COST * fetched + BUFFER_COST * read)


def _turns(numbers: Values, at_once: int) -> Values:
    return -(-numbers // at_once)
