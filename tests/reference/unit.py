"""The operations of layers on integer words, slow and obvious: int64 numpy with exact fractions, samples first.

Kinds of layers that tests/reference/step.py does not spell out are computed in these, by their own definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from fahw.formats.functions import Function
from fahw.layers.layer import Layer, Shape
from tests.reference.words import Words, saturate, value_range, windows


class SlowUnit:
    """`bits`: widths of activations and errors; `fracs`: fraction bits of every layer's output."""

    def __init__(self, value_bits: int, error_bits: int, fracs: dict[str, int]) -> None:
        self.value_bits, self.error_bits, self.fracs = value_bits, error_bits, fracs

    def reshaped(self, x: Words, shape: Shape) -> Words:
        """By numpy."""
        return x.reshape(len(x), *shape)

    def channels(self, x: Words, start: int, stop: int) -> Words:
        """By numpy."""
        return x[:, start:stop]

    def copied(self, x: Words) -> Words:
        """A new array."""
        return x.copy()

    def joined(self, layer: Layer, inputs: Sequence[Words]) -> Words:
        """Each word rounded into the output's fraction bits."""
        shifts = [self.fracs[source] - self.fracs[layer.name] for source in layer.sources]
        parts = [self._nearest(x, shift, self.value_bits) for x, shift in zip(inputs, shifts, strict=True)]
        return np.concatenate(parts, 1)

    def multiplied(self, layer: Layer, inputs: Sequence[Words]) -> Words:
        """The product, rounded once."""
        shift = sum(self.fracs[source] for source in layer.sources) - self.fracs[layer.name]
        return self._nearest(inputs[0] * inputs[1], shift, self.value_bits)

    def times_values(self, layer: Layer, error: Words, inputs: Sequence[Words], number: int) -> Words:
        """The error times the other input, summed over repeated places, rounded once."""
        product = error * inputs[1 - number]
        if inputs[number].shape != product.shape:
            product = product.sum((2, 3), keepdims=True)
        return self._error(product, self.fracs[layer.sources[1 - number]])

    def clamped(self, layer: Layer, x: Words, low: int, high: int) -> Words:
        """By numpy; a limit is a word."""
        return np.clip(x, self._limit(layer, low), self._limit(layer, high))

    def passed(self, layer: Layer, error: Words, values: Words, low: int, high: int | None) -> Words:
        """Zero at and beyond the limits; None is the top word, save where that is the only positive one."""
        top = value_range(self.value_bits)[1] if self.value_bits > 2 else 2
        limit = top if high is None else self._limit(layer, high)
        return np.where((self._limit(layer, low) < values) & (values < limit), error, 0)

    def function(self, layer: Layer, x: Words, function: Function) -> Words:
        """Every word by itself, in decimal numbers."""
        return self._values(layer, x, function, self.fracs[layer.name])

    def times_function(self, layer: Layer, error: Words, x: Words, function: Function) -> Words:
        """The errors times words of the function with two bits before the point."""
        digits = max(0, self.value_bits - 2)
        return self._error(error * self._values(layer, x, function, digits), digits)

    def window_sums(self, layer: Layer, x: Words) -> Words:
        """Window by window."""
        out = np.zeros((len(x), *layer.out_shape), np.int64)
        for sample, image in enumerate(x):
            for row, column, where in windows(layer):
                for channel, cells in enumerate(where):
                    out[sample, channel, row, column] = image.reshape(-1)[cells[cells >= 0]].sum()
        return saturate(out, self.value_bits)

    def error_over_windows(self, layer: Layer, error: Words) -> Words:
        """Window by window."""
        below = np.zeros((len(error), layer.inputs), np.int64)
        for sample in range(len(error)):
            for row, column, where in windows(layer):
                for channel, cells in enumerate(where):
                    below[sample, cells[cells >= 0]] += error[sample, channel, row, column]
        limits = (-1, 1) if self.error_bits == 1 else value_range(self.error_bits)
        return np.clip(below, *limits).reshape(len(error), *layer.in_shape)

    def _values(self, layer: Layer, x: Words, function: Function, digits: int) -> Words:
        frac = self.fracs[layer.sources[0]]
        low, high = (-1, 1) if self.value_bits == 1 else value_range(self.value_bits)
        with localcontext() as context:
            context.prec = 50
            words = {}
            for q in np.unique(x):
                real = Decimal(int(q) << 20) if self.value_bits == 1 else Decimal(int(q)) * Decimal(2) ** -frac
                scaled = function(_Decimals, real) * Decimal(2) ** digits
                words[q] = min(max(round(scaled), low), high)
        return np.array([words[q] for q in x.reshape(-1)], np.int64).reshape(x.shape)

    def _limit(self, layer: Layer, limit: int) -> int:
        """The word nearest to a number, ties to even; 1 at least in magnitude, as only 0 is 0."""
        word = round(limit * Fraction(2) ** self.fracs[layer.sources[0]])
        return word or (limit > 0) - (limit < 0)

    def _error(self, product: Words, shift: int) -> Words:
        """Rounded to the nearest; one bit keeps its zeros."""
        return np.where(product == 0, 0, self._nearest(product, shift, self.error_bits))

    def _nearest(self, acc: Words, shift: int, bits: int) -> Words:
        """Ties to even; one bit is the sign."""
        if bits == 1:
            return saturate(acc, 1) if shift else acc
        rounded = [round(Fraction(int(a)) / Fraction(2) ** shift) for a in acc.reshape(-1)]
        return saturate(np.array(rounded, np.int64).reshape(acc.shape), bits)


class _Decimals:
    """The functions of decimal numbers, by `Decimal.exp`."""

    @staticmethod
    def exp(x: Decimal) -> Decimal:
        return min(max(x, Decimal(-90)), Decimal(90)).exp()

    @staticmethod
    def sigmoid(x: Decimal) -> Decimal:
        return 1 / (1 + _Decimals.exp(-x))

    @staticmethod
    def tanh(x: Decimal) -> Decimal:
        return 2 * _Decimals.sigmoid(2 * x) - 1
