"""Windows of an unfolded operand: how many distinct inputs a tile of output positions touches.

Tap t of output o touches input o * stride - padding + t * dilation; places outside the image are padding, which nobody
stores. The inputs that a block of outputs touches are those of its rows times those of its columns; what two blocks
touch both is their halo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution's windows. `padding` may be negative: the first window then starts inside."""

    outputs: int
    inputs: int
    taps: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    @property
    def reuse(self) -> int:
        """The most taps that meet one input: ceil(taps / stride) where neighbouring taps touch neighbouring inputs."""
        return ceil(self.taps * gcd(self.stride, self.dilation) / self.stride)

    @cached_property
    def uses(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The outputs and the inputs of all (output, tap) that meet an input rather than the padding."""
        outputs = np.arange(self.outputs)[:, None]
        inputs = outputs * self.stride - self.padding + np.arange(self.taps) * self.dilation
        met = (inputs >= 0) & (inputs < self.inputs)
        return np.broadcast_to(outputs, inputs.shape)[met], inputs[met]


class Touched(NamedTuple):
    """Distinct inputs that tiles of an axis touch: of the tile with most, and added up over all tiles."""

    most: int
    total: int


@lru_cache(maxsize=4096)
def touched(axis: Axis, length: int) -> Touched:
    """The inputs that tiles of `length` outputs touch, the last one being shorter; at `axis.outputs`, all of them."""
    outputs, inputs = axis.uses
    tile_inputs = np.unique(outputs // length * axis.inputs + inputs)
    if not tile_inputs.size:
        return Touched(0, 0)
    return Touched(int(np.bincount(tile_inputs // axis.inputs).max()), tile_inputs.size)


@dataclass(frozen=True)
class Windows:
    """The windows that an unfolded operand (or result) is made of: `samples` images of `channels`."""

    samples: int
    channels: int
    height: Axis
    width: Axis

    @property
    def outputs(self) -> int:
        """Output positions of a sample."""
        return self.height.outputs * self.width.outputs

    @property
    def positions(self) -> int:
        """The length of the dimension that runs over output positions."""
        return self.samples * self.outputs

    @property
    def taps(self) -> int:
        """Taps of a window in one channel."""
        return self.height.taps * self.width.taps

    @property
    def window(self) -> int:
        """The length of the dimension that runs over a window."""
        return self.channels * self.taps

    @property
    def touched(self) -> int:
        """Inputs of one channel of a sample that any window touches."""
        height, width = self.height, self.width
        return touched(height, height.outputs).total * touched(width, width.outputs).total

    @property
    def reuse(self) -> int:
        """The most windows that use one input."""
        return self.height.reuse * self.width.reuse

    @property
    def met_share(self) -> float:
        """The share of the places of all windows that hold inputs rather than padding."""
        met = len(self.height.uses[0]) * len(self.width.uses[0])
        return met / (self.outputs * self.taps)
