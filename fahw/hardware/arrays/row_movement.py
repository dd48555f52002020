"""How often a convolution's values move between pads, buffer and DRAM of a row-stationary array, in closed form.

A processing element keeps a row of a filter and slides a row of the input along it; a set of (kernel height x output
rows) elements makes output rows, whose sums go up a column. An element interleaves `p` filters and `q` channels; `r`
sets share the work over channels, `t` over filters. One pass of the array does n samples, p t filters, q r channels and
e output rows. The loops, from the inside: filters of a group of `m`, channels, output rows, groups, samples. Sums of a
group wait in the buffer until all channels are through; inputs are fetched once per group and strip of output rows,
filters once per strip and n samples.

Source: Chen et al., ISCA 2016 and JSSC 2017 (Eyeriss). An access-count model: no fill and drain, no stalls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

from fahw.hardware.arrays.mapping import Convolution

_BUFFER_COST, _DRAM_COST = 6, 200
"""Energy of an access relative to a multiply-accumulate, to choose among mappings (Chen et al., ISCA 2016)."""
_SLACK = 1.25
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
    def _strips(self) -> int:
        return ceil(self.layer.out[0] / self.size.e)

    @property
    def _channel_groups(self) -> int:
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
        return self._strips * self._channel_groups * self._filter_groups * self._batches

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
        return layer.samples * layer.inputs * self._strips * rows * layer.image[1]

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
        return self.layer.weights * self._strips * self._batches

    @property
    def weights_kept(self) -> int:
        """Number of weights written into pads: each goes to all elements of its row."""
        return self.weights_read * self.size.e

    @property
    def sums_written(self) -> int:
        """Number of partial sums that the array writes to the buffer; the last ones are results."""
        return self.layer.results * (self._channel_groups - 1)

    @property
    def sums_passed(self) -> int:
        """Number of partial sums that pass from one element to the next."""
        return self.layer.results * self._channel_groups * (self.layer.kernel[0] * self.size.r - 1)

    @property
    def waiting(self) -> int:
        """Number of partial sums that wait in the buffer at a time."""
        return self.size.n * self.size.m * self.size.e * self.layer.out[1]

    @property
    def cost(self) -> int:
        """Traffic outside the array, each access weighted by its energy relative to a multiply-accumulate."""
        fetched = self.inputs_fetched + self.weights_read + self.layer.results
        read = self.inputs_read + self.weights_read + 2 * self.sums_written
        return _DRAM_COST * fetched + _BUFFER_COST * read


@lru_cache(maxsize=4096)
def movement(
    layer: Convolution, rows: int, cols: int, pads: tuple[int, int, int], buffer_words: int
) -> Movement | None:
    """The mapping with the least traffic among those that take about the fewest cycles; None where none fits.

    `pads`: words of an element for filters, inputs and partial sums. `buffer_words`: inputs and sums of a pass.
    """
    mappings = [Movement(layer, size) for size in _sizes(layer, rows, cols, pads, buffer_words)]
    fastest = min((mapping.cycles for mapping in mappings), default=0)
    fast_mappings = [mapping for mapping in mappings if mapping.cycles <= fastest * _SLACK]
    return min(fast_mappings, key=lambda mapping: (mapping.cost, mapping.cycles), default=None)


def _sizes(
    layer: Convolution, rows: int, cols: int, pads: tuple[int, int, int], buffer_words: int
) -> Iterator[PassSize]:
    height, width = layer.kernel
    filters, inputs, sums = pads
    for e in sorted({ceil(layer.out[0] / strips) for strips in range(1, layer.out[0] + 1)}):
        sets = rows // height * (cols // e) if e <= cols else rows // (height * ceil(e / cols))
        for q in range(1, min(layer.inputs, inputs // width) + 1):
            most_filters = min(layer.outputs, sums, filters // (q * width))
            for r in range(1, min(sets, ceil(layer.inputs / q)) + 1 if most_filters else 1):
                t = min(sets // r, ceil(layer.outputs / most_filters))
                filter_turns = ceil(layer.outputs / (most_filters * t))
                p = ceil(layer.outputs / (filter_turns * t))  # as few turns with fewer filters at a time
                yield from _grouped(layer, PassSize(e, p, q, r, t, 0, 0), buffer_words)


def _grouped(layer: Convolution, size: PassSize, buffer_words: int) -> Iterator[PassSize]:
    """Passes of this size for every number of samples at a time, with as many filters in a group as the buffer has room
    for."""
    rows = min(layer.image[0], (size.e - 1) * layer.stride + layer.kernel[0])
    for n in (n for n in range(1, min(layer.samples, 16) + 1) if layer.samples % n == 0):
        room = buffer_words - n * size.q * size.r * rows * layer.image[1]
        groups = room // (n * size.e * layer.out[1] * size.p * size.t)
        if groups > 0:
            yield replace(size, m=min(layer.outputs, groups * size.p * size.t), n=n)
