"""How often a convolution's values move between pads, buffer and DRAM of a row-stationary array, in closed form.

A processing element keeps a row of a filter and slides a row of the input along it; a set of (kernel height x output
rows) elements makes output rows, whose sums go up a column. An element interleaves `p` filters and `q` channels; `r`
sets share the work over channels, `t` over filters. One pass of the array does n samples, p t filters, q r channels and
e output rows. The loops, from the inside: filters of a group of `m`, channels, output rows, groups, samples. Sums of a
group wait in the buffer until all channels are through; inputs are fetched once per group and strip of output rows,
filters once per strip and n samples.

Source: Chen et al., ISCA 2016 and JSSC 2017 (Eyeriss). An access-count model: fill, drain and buses are `row_time`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fahw.hardware.arrays.mapping import Convolution

BUFFER_COST, DRAM_COST = 6, 200
"""Energy of an access relative to a multiply-accumulate, to choose among mappings (Chen et al., ISCA 2016)."""
SLACK = 1.25
"""A mapping may take a quarter longer than the fastest if it moves less. Chosen with Eyeriss' published mappings of
AlexNet in view: with a twentieth the last three convolutions would be mapped otherwise."""


@dataclass(frozen=True)
class PassSize:
    """Size of one pass, in the letters of the module's description. `m`: filters whose sums wait in the buffer
    together."""

    e: int
    p: int
    q: int
    r: int
    t: int
    m: int
    n: int


@dataclass(frozen=True)
class Movement:
    """How often the values of a whole convolution move under a mapping, whose passes are of `size`."""

    layer: Convolution
    size: PassSize

    @property
    def strips(self) -> int:
        """Number of strips of output rows."""
        return ceil(self.layer.out[0] / self.size.e)

    @property
    def channel_groups(self) -> int:
        """Number of groups of channels, one after the other."""
        return ceil(self.layer.inputs / (self.size.q * self.size.r))

    @property
    def _filter_groups(self) -> int:
        return ceil(self.layer.outputs / (self.size.p * self.size.t))

    @property
    def _batches(self) -> int:
        return ceil(self.layer.samples / self.size.n)

    @property
    def passes(self) -> int:
        """Number of passes of the array."""
        return self.strips * self.channel_groups * self._filter_groups * self._batches

    @property
    def cycles(self) -> int:
        """Cycles of all passes, at a multiply-accumulate per element and cycle; the last, smaller passes take as long
        as the others."""
        size = self.size
        return self.passes * size.n * size.p * size.q * self.layer.out[1] * self.layer.kernel[1]

    @property
    def _image_words(self) -> int:
        """Number of input values of all strips, rows that two strips need counted twice."""
        layer, height = self.layer, self.layer.image[0]
        rows = min(height, (self.size.e - 1) * layer.stride + layer.kernel[0])
        return layer.samples * layer.inputs * self.strips * rows * layer.image[1]

    @property
    def inputs_fetched(self) -> int:
        """Number of input values that come from further out into the buffer."""
        return self._image_words * ceil(self.layer.outputs / self.size.m)

    @property
    def inputs_read(self) -> int:
        """Number of input values that the array reads from the buffer."""
        return self._image_words * self._filter_groups

    @property
    def inputs_kept(self) -> int:
        """Number of input values written into pads: every element takes its own rows."""
        size, layer = self.size, self.layer
        return self.passes * size.n * size.q * layer.image[1] * layer.kernel[0] * size.e * size.r * size.t

    @property
    def weights_read(self) -> int:
        """Number of weights that come from further out, and that the array reads from the buffer."""
        return self.layer.weights * self.strips * self._batches

    @property
    def weights_kept(self) -> int:
        """Number of weights written into pads: each goes to all elements of its row."""
        return self.weights_read * self.size.e

    @property
    def sums_written(self) -> int:
        """Number of partial sums that the array writes to the buffer; the last ones are results."""
        return self.layer.results * (self.channel_groups - 1)

    @property
    def sums_passed(self) -> int:
        """Number of partial sums that pass from one element to the next."""
        return self.layer.results * self.channel_groups * (self.layer.kernel[0] * self.size.r - 1)

    @property
    def waiting(self) -> int:
        """Number of partial sums that wait in the buffer at a time."""
        return self.size.n * self.size.m * self.size.e * self.layer.out[1]

    @property
    def cost(self) -> int:
        """Traffic outside the array, each access weighted by its energy relative to a multiply-accumulate."""
        fetched = self.inputs_fetched + self.weights_read + self.layer.results
        read = self.inputs_read + self.weights_read + 2 * self.sums_written
        return DRAM_COST * fetched + BUFFER_COST * read


@lru_cache(maxsize=4096)
def movement(
    layer: Convolution, rows: int, cols: int, pads: tuple[int, int, int], buffer_words: int
) -> Movement | None:
    """The mapping with the least traffic among those that take at most a quarter longer than the fastest; None where
    none fits.

    `pads`: words of an element for filters, inputs and partial sums. `buffer_words`: inputs and sums of a pass.
    """
    found = list(blocks(layer, rows, cols, pads))
    if not found:
        return None
    search = Search(layer, pads, buffer_words)
    timed_blocks = [(block, search.least_cycles(block)) for block in found]
    limit = SLACK * min((cycles for _, cycles in timed_blocks if cycles), default=0)
    sizes = (size for block, cycles in timed_blocks if 0 < cycles <= limit for size in search.sizes(block, limit))
    mappings = [Movement(layer, size) for size in sizes]
    return min(mappings, key=lambda mapping: (mapping.cost, mapping.cycles), default=None)


class Block(NamedTuple):
    """What passes of the same e, q and r have in common. `sets`: how many are left to share the work over filters;
    `turns`: cycles of a layer with one filter, a sample and a pixel of a row, in passes with a kernel's pixel."""

    e: int
    q: int
    r: int
    sets: int
    turns: int


def blocks(layer: Convolution, rows: int, cols: int, pads: tuple[int, int, int]) -> Iterator[Block]:
    """The blocks that can be the best. Of the e that need as many strips, and of the r that need as many turns of the
    channels, that is the smallest: it leaves more sets and more room."""
    height, width = layer.kernel
    for e in _smallest_shares(layer.out[0]):
        sets = rows // height * (cols // e) if e <= cols else rows // (height * ceil(e / cols))
        for q in range(1, min(layer.inputs, pads[1] // width, pads[0] // width) + 1):
            for r in _smallest_shares(ceil(layer.inputs / q)):
                if r <= sets:
                    turns = ceil(layer.out[0] / e) * ceil(layer.inputs / (q * r)) * q
                    yield Block(e, q, r, sets // r, turns)


def _smallest_shares(number: int) -> list[int]:
    """The sizes of share that need fewer turns than any smaller one, ascending."""
    return sorted({ceil(number / turns) for turns in range(1, number + 1)})


class Search:
    """The passes of a layer that fit pads and buffer. All pairs of p and t are tried at once: `together` filters in
    `turns` passes, which take `_cycles` for a block's one."""

    def __init__(self, layer: Convolution, pads: tuple[int, int, int], buffer_words: int) -> None:
        self.layer, self._filter_words, self._buffer_words = layer, pads[0], buffer_words
        self.samples = [n for n in range(1, min(layer.samples, 16) + 1) if layer.samples % n == 0]
        filters = range(1, min(layer.outputs, pads[2], pads[0] // layer.kernel[1]) + 1)
        most_sets = [ceil(layer.outputs / p) for p in filters]
        self.p = np.repeat(np.asarray(filters, np.int64), most_sets)
        self.t = np.concatenate([np.arange(1, most + 1) for most in most_sets])
        self.together = self.p * self.t
        self.turns = -(-layer.outputs // self.together)
        self._cycles = self.p * self.turns
        self._fitting: dict[tuple[int, int, int], tuple[NDArray[np.intp], int]] = {}

    def least_cycles(self, block: Block) -> int:
        """Cycles of the fastest pass of a block but for what all have in common; 0 where none fits."""
        return block.turns * self.pairs(block, self.room(block, 1))[1]

    def sizes(self, block: Block, limit: float) -> Iterator[PassSize]:
        """For every number of samples at a time, the pass of the block that moves least within `limit` cycles; as many
        filters in a group as the buffer has room for."""
        outputs = self.layer.outputs
        for n in self.samples:
            room = self.room(block, n)
            pairs = self.pairs(block, room)[0]
            pairs = pairs[block.turns * self._cycles[pairs] <= limit]
            if len(pairs):
                together = self.together[pairs]
                grouped = np.minimum(outputs, room // together * together)
                cost = DRAM_COST * -(-outputs // grouped) + BUFFER_COST * self.turns[pairs]
                best = np.lexsort((self._cycles[pairs], cost))[0]
                p, t = (int(sizes[pairs[best]]) for sizes in (self.p, self.t))
                yield PassSize(block.e, p, block.q, block.r, t, int(grouped[best]), n)

    def room(self, block: Block, n: int) -> int:
        """Filters whose sums the buffer has room for, beside the inputs of `n` samples; no more than can be needed."""
        layer = self.layer
        height = min(layer.image[0], (block.e - 1) * layer.stride + layer.kernel[0])
        words = self._buffer_words - n * block.q * block.r * height * layer.image[1]
        return min(2 * layer.outputs, max(0, words // (n * block.e * layer.out[1])))

    def pairs(self, block: Block, room: int) -> tuple[NDArray[np.intp], int]:
        """The pairs of p and t that fit, and the least of their cycles, 0 where there are none."""
        most_p = min(int(self.p[-1]), self._filter_words // (block.q * self.layer.kernel[1]))
        key = most_p, min(block.sets, self.layer.outputs), room
        if key not in self._fitting:
            fits = (self.p <= key[0]) & (self.t <= key[1]) & (self.together <= key[2])
            pairs = np.flatnonzero(fits)
            self._fitting[key] = pairs, int(self._cycles[pairs].min()) if len(pairs) else 0
        return self._fitting[key]
