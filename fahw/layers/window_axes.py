"""Windows along the axes of an image in closed form, and those over the outputs that gather a convolution's errors.

Tap t of window q lies at place `start + q stride + t dilation`. Read from the image's side, place i takes an error from
window q through tap t where these meet: only taps of one residue of the stride reach it, and over them the places of
that residue see the outputs as a convolution of stride 1 with the mirrored taps.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from fahw.layers.weighted import Weighted


class WindowAxis(NamedTuple):
    """Windows along one axis. Places from 0 to `places` hold values, all others zeros; at `border` places on each side
    the value is a copy of another place's."""

    windows: int
    taps: int
    places: int
    start: int = 0
    stride: int = 1
    dilation: int = 1
    border: int = 0

    @property
    def pixels(self) -> int:
        """Places with a value of their own, which is what lies in memory."""
        return self.places - 2 * self.border

    @property
    def pairs(self) -> int:
        """Pairs of a window and a tap that meet a value."""
        return sum(len(self.meeting(tap)) for tap in range(self.taps))

    @property
    def touched(self) -> int:
        """Places that the windows touch, each counted once."""
        return self.fetched(self.windows)

    @property
    def reuse(self) -> int:
        """The most pairs that meet in one place: ceil(taps / stride) where neighbouring taps touch neighbouring
        places."""
        return -(-self.taps * gcd(self.stride, self.dilation) // self.stride)

    def held(self, windows: int) -> int:
        """Places that the largest tile of so many windows touches: what there must be room for."""
        return _held(self, windows)

    def fetched(self, windows: int) -> int:
        """Places that tiles of so many windows touch, summed over all tiles. A border of copies counts by place, up to
        all pixels in every tile."""
        return _fetched(self, windows)

    def halo(self, windows: int) -> int:
        """Places that tiles of so many windows touch again after another tile."""
        return self.fetched(windows) - self.touched

    @property
    def links(self) -> tuple[int, int]:
        """How many windows behind another one meets its places, and with how many taps. A place that several windows
        touch is a chain of pairs so far apart, which has one link less than pairs."""
        step = gcd(self.stride, self.dilation)
        return self.dilation // step, max(0, self.taps - self.stride // step)

    def meeting(self, tap: int) -> range:
        """The windows whose tap meets a value."""
        place = self.start + tap * self.dilation
        return range(max(0, -(place // self.stride)), min(self.windows, -((place - self.places) // self.stride)))


@lru_cache(maxsize=4096)
def _held(axis: WindowAxis, windows: int) -> int:
    between, links = axis.links
    anywhere = min(axis.pixels, windows * axis.taps - max(0, windows - between) * links)
    most = 0
    for first in range(0, axis.windows, windows):
        start, number = axis.start + first * axis.stride, min(windows, axis.windows - first)
        most = max(most, axis._replace(windows=number, start=start).touched)
        if most == anywhere:  # as many as one that no edge cuts, mostly the second tile
            break
    return most


@lru_cache(maxsize=4096)
def _fetched(axis: WindowAxis, windows: int) -> int:
    between, links = axis.links
    again = sum(_behind(axis.meeting(tap), between, windows) for tap in range(links))
    return min(axis.pixels * -(-axis.windows // windows), axis.pairs - again)


def _behind(numbers: range, between: int, tile: int) -> int:
    """How many of neighbouring numbers have the one `between` before them in the same tile of `tile` numbers."""
    kept = max(0, tile - between)
    first, end = (number // tile * kept + max(0, number % tile - between) for number in (numbers.start, numbers.stop))
    return max(0, end - first)


class Windows(NamedTuple):
    """An operand or a result that is `channels` of images seen through windows along two axes. A tile is so many rows
    and columns of windows of one sample, all columns where none are given."""

    samples: int
    channels: int
    rows: WindowAxis
    columns: WindowAxis

    @property
    def values(self) -> int:
        """Values that the windows touch, each counted once."""
        return self.samples * self.channels * self.rows.touched * self.columns.touched

    @property
    def pairs(self) -> int:
        """Places of all windows that meet a value."""
        return self.samples * self.channels * self.rows.pairs * self.columns.pairs

    @property
    def per_sample(self) -> int:
        """Windows of a sample, each over all channels."""
        return self.rows.windows * self.columns.windows

    @property
    def positions(self) -> int:
        """The length of the dimension of a product that runs over windows."""
        return self.samples * self.per_sample

    @property
    def taps(self) -> int:
        """Places of a window in one channel."""
        return self.rows.taps * self.columns.taps

    @property
    def window(self) -> int:
        """The length of the dimension of a product that runs over a window."""
        return self.channels * self.taps

    @property
    def met_share(self) -> float:
        """The share of the places of all windows that meet a value."""
        return self.pairs / (self.positions * self.window)

    @property
    def reuse(self) -> int:
        """The most windows that use one value."""
        return self.rows.reuse * self.columns.reuse

    def held(self, channels: int, rows: int, columns: int | None = None) -> int:
        """Values of `channels` that a tile touches at most: what there must be room for."""
        return channels * self.rows.held(rows) * self.columns.held(columns or self.columns.windows)

    def fetched(self, rows: int, columns: int | None = None) -> int:
        """Values that the tiles touch, summed over all of them."""
        tiles = self.rows.fetched(rows) * self.columns.fetched(columns or self.columns.windows)
        return self.samples * self.channels * tiles

    def halo(self, rows: int, columns: int | None = None) -> int:
        """Values that tiles touch again after another tile."""
        return self.fetched(rows, columns) - self.values


class Residue(NamedTuple):
    """The places of an axis that leave one residue on division by the stride: every `stride`-th from `first` on.

    `taps` are those of the kernel that reach them, mirrored: tap j of `outputs`, the windows over the outputs that
    gather their errors, has the weight of tap `taps[j]`. `pixels` of the places are no border.
    """

    first: int
    pixels: int
    taps: range
    outputs: WindowAxis

    @property
    def places(self) -> int:
        """Number of the places."""
        return self.outputs.windows


def layer_windows(layer: Weighted, samples: int) -> Windows:
    """The windows of a group of a layer over its inputs; those of a linear layer are one of a single place."""
    channels = layer.in_shape[0] // layer.groups
    if not layer.convolutional:
        return Windows(samples, channels, WindowAxis(1, 1, 1), WindowAxis(1, 1, 1))
    rows, columns = (_layer_axis(layer, axis) for axis in range(2))
    return Windows(samples, channels, rows, columns)


def _layer_axis(layer: Weighted, axis: int) -> WindowAxis:
    windows, size, padding = layer.out_shape[1 + axis], layer.in_shape[1 + axis], layer.padding[axis]
    taps, stride, dilation = layer.kernel[axis], layer.stride[axis], layer.dilation[axis]
    if layer.padding_mode == "zeros":
        return WindowAxis(windows, taps, size, -padding, stride, dilation)
    return WindowAxis(windows, taps, size + 2 * padding, 0, stride, dilation, padding)


def residues(axis: WindowAxis) -> tuple[Residue, ...]:
    """The places of an axis by residue, first to last; those that no tap reaches have windows of no taps."""
    return tuple(_residue(axis, first) for first in range(min(axis.stride, axis.places)))


def _residue(axis: WindowAxis, first: int) -> Residue:
    step, end = gcd(axis.stride, axis.dilation), axis.border + axis.pixels
    reaching = [tap for tap in range(axis.taps) if (first - axis.start - tap * axis.dilation) % axis.stride == 0]
    last = max(reaching, default=-1)
    taps = range(last, -1, -(axis.stride // step))
    windows = len(range(first, axis.places, axis.stride))
    pixels = len(range(first, end, axis.stride)) - len(range(first, axis.border, axis.stride))
    start = (first - axis.start - last * axis.dilation) // axis.stride
    return Residue(first, pixels, taps, WindowAxis(windows, len(taps), axis.windows, start, 1, axis.dilation // step))
