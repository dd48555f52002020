"""The operations of one arithmetic that layers compute in.

Values, errors and parameters are arrays in whatever form the arithmetic likes: real numbers with the samples first,
words with the samples last. A `layer` tells geometry and, where results are rounded, whose format they get. Every
arithmetic has each operation once: floating point, the chip's integers, their emulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fahw.formats.functions import Function

Array = Any
"""Values, errors, parameters: an array of the arithmetic."""


class Unit(Protocol):
    """The operations of one arithmetic."""

    # What moves values and changes none.

    def reshaped(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The values of each sample in another shape."""

    def subsampled(self, x: Array, stride: tuple[int, int]) -> Array:
        """Every `stride`-th pixel of images."""

    def spread_out(self, x: Array, stride: tuple[int, int], shape: tuple[int, ...]) -> Array:
        """The adjoint of `subsampled`: images of `shape` with zeros between the pixels."""

    def with_zero_channels(self, x: Array, before: int, behind: int) -> Array:
        """Images with channels of zeros on both sides."""

    def channels(self, x: Array, start: int, stop: int) -> Array:
        """The channels (or features) from `start` to before `stop`."""

    def copied(self, x: Array) -> Array:
        """A copy that may be changed."""

    # Values, rounded into the format of the layer's output.

    def clamped(self, layer: Any, x: Array, low: int | None, high: int | None) -> Array:
        """The values limited from below and above, by whole numbers; None: not at all."""

    def function(self, layer: Any, x: Array, function: Function) -> Array:
        """The values of a function, from a table where numbers are words."""

    def joined(self, layer: Any, inputs: Sequence[Array]) -> Array:
        """The channels (or features) of all inputs, one behind the other."""

    def added(self, layer: Any, inputs: Sequence[Array]) -> Array:
        """The sum of the inputs."""

    def multiplied(self, layer: Any, inputs: Sequence[Array]) -> Array:
        """The product of two inputs; an axis of one pixel is repeated."""

    def drop_factors(self, layer: Any, x: Array, probability: float) -> Array | None:
        """A factor per value: 0 for those that are dropped, 1 / (1 - probability) else; None: nothing is dropped."""

    def scaled(self, layer: Any, x: Array, factors: Array) -> Array:
        """The values times factors."""

    def window_maxima(self, layer: Any, x: Array) -> tuple[Array, Array]:
        """The largest value of every window, and where it is the first."""

    def window_means(self, layer: Any, x: Array) -> Array:
        """The mean of every window."""

    def window_sums(self, layer: Any, x: Array) -> Array:
        """The sum of every window."""

    def normalised(self, layer: Any, parameters: Any, x: Array) -> Array:
        """Each channel less its mean over its deviation, times a scale, plus a shift: of a float unit; by the batch's
        statistics in training."""

    # Errors, rounded into the error's format.

    def passed(self, layer: Any, error: Array, values: Array, low: int, high: int | None) -> Array:
        """The errors where low < value < high, else zero; high None: the top word of a fixed-point format, which stands
        for all that is larger too. `values`: of the layer's output."""

    def times_derivative(self, layer: Any, error: Array, values: Array, derivative: Function) -> Array:
        """The errors times a polynomial of degree two of the layer's output."""

    def times_function(self, layer: Any, error: Array, x: Array, function: Function) -> Array:
        """The errors times a function, of magnitude below 2, of the layer's input: from a table where numbers are
        words."""

    def times_values(self, layer: Any, error: Array, inputs: Sequence[Array], number: int) -> Array:
        """The errors at input `number` of a product of two inputs; summed up where that input was repeated."""

    def scaled_error(self, error: Array, factors: Array) -> Array:
        """The errors times factors."""

    def error_share(self, error: Array, parts: int) -> Array:
        """The errors divided by a number."""

    def error_at_maxima(self, layer: Any, error: Array, where: Array) -> Array:
        """The adjoint of `window_maxima`; sums of overlapping windows."""

    def error_over_windows(self, layer: Any, error: Array) -> Array:
        """The adjoint of `window_sums`: each error at every pixel of its window, summed where windows overlap."""

    def normalised_error(self, layer: Any, parameters: Any, x: Array, error: Array) -> tuple[Array, Any]:
        """The error at the input of `normalised`, and the gradient sums of scale and shift."""

    # Products with weights; `operand` is the input as products read it.

    def operand(self, layer: Any, x: Array) -> Array:
        """The input of a layer with weights as its products read it."""

    def weighted(self, layer: Any, parameters: Any, operand: Array) -> Array:
        """The outputs: sums over windows, plus biases."""

    def error(self, layer: Any, error: Array, feedback: Array) -> Array:
        """The error at the input, from that at the output through feedback words shaped as the weight."""

    def gradient(self, layer: Any, error: Array, operand: Array) -> Any:
        """The gradient sums over the batch and all places."""
