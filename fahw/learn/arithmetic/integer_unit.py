"""The operations of layers without weights on integer words, samples last.

Where words are multiplied by constants or by each other the result is rounded to the nearest; only a sum of several
layers' outputs and what a float unit yields is rounded as the chip rounds its activations and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.formats.fixed_point import POOL_BITS, Format, carrier, random_bytes, requantise_, saturate_, word_dtype
from fahw.formats.functions import Function
from fahw.formats.lookup_tables import function_table
from fahw.formats.precision import Precision, RoundingModes
from fahw.layers.layer import Layer, Pair, Shape
from fahw.layers.pooling import Pooling
from fahw.learn.arithmetic.accumulator import Accumulator
from fahw.learn.arithmetic.batch_norm import Norms
from fahw.learn.arithmetic.float_unit import REAL, drop_threshold
from fahw.learn.arithmetic.softmax import relu_error
from fahw.learn.kernels.windows import max_pool, max_pool_adjoint, sum_pool, sum_pool_adjoint
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.prng import Lfsr

_IMAGE_AXES = (1, 2)
_FACTOR_BITS = 8
"""Fraction bits of the factor of values that are not dropped."""


class IntegerUnit:
    """The operations of layers without weights. `fracs`: fraction bits of every layer's output; `accumulator` rounds
    sums, `norms` are the float units of the batch norms."""

    def __init__(
        self, fracs: dict[str, int], precision: Precision, rounding: RoundingModes, accumulator: Accumulator,
        norms: Norms, random: Lfsr,
    ) -> None:  # fmt: skip
        self._fracs, self._rounding, self._accumulator, self._norms = fracs, rounding, accumulator, norms
        self._value_bits, self._error_bits = precision.bits("activation"), precision.bits("error")
        self._value_type, self._error_type = word_dtype(self._value_bits), word_dtype(self._error_bits)
        self._random, self._training, self._of_batch = random, True, True
        self._tables: dict[tuple[str, str], Tensor] = {}

    @property
    def norm_samples(self) -> int | None:
        """Samples over which batch norms take their statistics; None: the batch."""
        return self._norms.samples

    @property
    def generators(self) -> tuple[Lfsr, ...]:
        """The random generators, all that a step changes of the arithmetic."""
        return (self._random,)

    def reshaped(self, x: Tensor, shape: Shape) -> Tensor:
        """The words of each sample in another shape."""
        return x.reshape(*shape, -1)

    def subsampled(self, x: Tensor, stride: Pair) -> Tensor:
        """Every `stride`-th pixel."""
        return x[:, :: stride[0], :: stride[1]]

    def spread_out(self, x: Tensor, stride: Pair, shape: Shape) -> Tensor:
        """Images of `shape`, zero but for every `stride`-th pixel."""
        image = x.new_zeros((*shape, x.shape[-1]))
        image[:, :: stride[0], :: stride[1]] = x
        return image

    def with_zero_channels(self, x: Tensor, before: int, behind: int) -> Tensor:
        """The image between channels of zeros."""
        return tf.pad(x, (0, 0, 0, 0, 0, 0, before, behind))

    def channels(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The channels or features from `start` to before `stop`."""
        return x[start:stop]

    def copied(self, x: Tensor) -> Tensor:
        """A copy that may be changed."""
        return x.clone()

    def clamped(self, layer: Layer, x: Tensor, low: int | None, high: int | None) -> Tensor:
        """The words between both limits."""
        if (low, high) == (0, None):
            return x.clamp(min=0)
        limits = (None if limit is None else self._limit(layer, limit) for limit in (low, high))
        return x.float().clamp(*limits).to(x.dtype)  # a limit may be no word

    def function(self, layer: Layer, x: Tensor, function: Function) -> Tensor:
        """The words of the function's values, from a table."""
        return self._looked_up(layer, x, function, self._fracs[layer.name]).to(self._value_type)

    def joined(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs, one behind the other, each rounded where it has more fraction bits than the output."""
        shifts = (self._fracs[source] - self._fracs[layer.name] for source in layer.sources)
        pairs = zip(inputs, shifts, strict=True)
        wide = ((x.to(torch.float32, copy=True), shift) for x, shift in pairs)  # others read the inputs too
        return torch.cat([self._rounded(x, shift, self._value_bits) for x, shift in wide]).to(self._value_type)

    def added(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The sum, aligned at its finest input; rounded where its coarsest has fewer fraction bits."""
        fracs, bits, mode = [self._fracs[name] for name in layer.sources], self._value_bits, self._rounding.activation
        shift = max(fracs) - self._fracs[layer.name]
        bound = sum(Format(bits, 0).limit << (max(fracs) - frac) for frac in fracs)
        dtype = carrier(bound, shift, mode)
        acc = inputs[0].to(dtype) * 2.0 ** (max(fracs) - fracs[0])
        for x, frac in zip(inputs[1:], fracs[1:], strict=True):
            acc.add_(x.to(dtype) * 2.0 ** (max(fracs) - frac))
        if shift == 0:
            return saturate_(acc, bits).to(self._value_type)
        return self._accumulator.words(acc, shift, Format(bits, 0), mode)

    def multiplied(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The product of the two inputs, rounded to the nearest."""
        dtype = carrier(Format(self._value_bits, 0).limit ** 2)
        shift = sum(self._fracs[source] for source in layer.sources) - self._fracs[layer.name]
        return self._rounded(inputs[0].to(dtype) * inputs[1], shift, self._value_bits).to(self._value_type)

    def drop_factors(self, layer: Layer, x: Tensor, probability: float) -> Tensor | None:
        """A factor in 8 fraction bits per word, 0 for those dropped: a random byte each decides."""
        if not self._training:
            return None
        threshold = drop_threshold(probability)
        stays = (random_bytes(self._random, x.numel(), x.device) >= threshold).view(x.shape)
        return stays.float().mul_(round((1 << (8 + _FACTOR_BITS)) / (256 - threshold)))

    def scaled(self, layer: Layer, x: Tensor, factors: Tensor) -> Tensor:
        """The words times the factors."""
        return _scaled(x, factors, self._value_bits)

    def window_maxima(self, layer: Pooling, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest words, and which place of the window has the first one."""
        return max_pool(x, layer)

    def window_means(self, layer: Pooling, x: Tensor) -> Tensor:
        """The sums over windows times the reciprocal of their area."""
        return _share(sum_pool(x.float(), layer), layer.area, layer.area, self._value_bits).to(x.dtype)

    def window_sums(self, layer: Pooling, x: Tensor) -> Tensor:
        """The sums over windows, saturated."""
        return saturate_(sum_pool(x.float(), layer), self._value_bits).to(x.dtype)

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> Tensor:
        """The output of a unit in float64, its sums exact, rounded once; see `Norms`."""
        return self._norms.forward(layer, parameters, x, self._random, self._of_batch, self._training)

    def passed(self, layer: Layer, error: Tensor, values: Tensor, low: int, high: int | None) -> Tensor:
        """The errors, perhaps in place, of the words between both limits, or below the top word."""
        if (low, high) == (0, None):
            return relu_error(values, error, self._value_bits)
        wide = values.float()
        inside = wide > self._limit(layer, low)
        if high is not None:
            inside.logical_and_(wide < self._limit(layer, high))
        return error * inside.to(error.dtype)

    def times_derivative(self, layer: Layer, error: Tensor, values: Tensor, derivative: Function) -> Tensor:
        """The errors times the derivative, which has twice as many fraction bits as the output."""
        digits = self._fracs[layer.name]
        output = values.to(carrier(Format(self._error_bits, 0).limit << (2 * digits))) * 2.0**-digits
        below: Tensor = error.to(output.dtype) * derivative(REAL, output)
        if self._error_bits > 1:  # one bit is the exact product's sign
            below.round_()
        return saturate_(below, self._error_bits).to(self._error_type)

    def times_function(self, layer: Layer, error: Tensor, x: Tensor, function: Function) -> Tensor:
        """The errors times words of the function's values, which have two bits before the point."""
        digits = max(0, self._value_bits - 2)
        factors = self._looked_up(layer, x, function, digits)
        dtype = carrier(Format(self._error_bits, 0).limit << self._value_bits)
        return self._error(error.to(dtype) * factors, digits)

    def times_values(self, layer: Layer, error: Tensor, inputs: Sequence[Tensor], number: int) -> Tensor:
        """The errors times the other input, summed up over an image that the input multiplied; rounded once."""
        other, terms = inputs[1 - number], prod(error.shape[:-1]) // prod(inputs[number].shape[:-1])
        dtype = carrier(terms * Format(self._error_bits, 0).limit * Format(self._value_bits, 0).limit)
        below = error.to(dtype) * other
        if terms > 1:
            below = below.sum(_IMAGE_AXES, keepdim=True)
        return self._error(below, self._fracs[layer.sources[1 - number]])

    def scaled_error(self, error: Tensor, factors: Tensor) -> Tensor:
        """The errors times the factors."""
        return _scaled(error, factors, self._error_bits)

    def error_share(self, error: Tensor, parts: int) -> Tensor:
        """The errors times the reciprocal of a number."""
        return _share(error.float(), parts, 1, self._error_bits)

    def error_at_maxima(self, layer: Pooling, error: Tensor, where: Tensor) -> Tensor:
        """The errors added up at the places of the maxima, saturated."""
        return self._saturated(max_pool_adjoint(error, where, layer))

    def error_over_windows(self, layer: Pooling, error: Tensor) -> Tensor:
        """The errors at every pixel of their windows, summed and saturated."""
        return self._saturated(sum_pool_adjoint(error.float(), layer))

    def normalised_error(
        self, layer: Layer, parameters: Parameters, x: Tensor, error: Tensor
    ) -> tuple[Tensor, Gradient]:  # fmt: skip
        """The error through a unit in float64, its sums exact, rounded once, and the gradient sums."""
        return self._norms.backward(layer, parameters, x, error, self._random)

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum of errors that come back to one output, saturated."""
        wide = torch.int32 if self._error_bits <= 8 else torch.float32
        return self._saturated(sum((e.to(wide) for e in errors[1:]), errors[0].to(wide)))

    def _limit(self, layer: Layer, limit: int) -> int:
        """The word that stands for a whole number in the layer's input, or the nearest, ties to even; only 0 is 0."""
        word = max(1, round(abs(limit) * 2.0 ** self._fracs[layer.sources[0]]))
        return word if limit > 0 else -word if limit < 0 else 0

    def _looked_up(self, layer: Layer, x: Tensor, function: Function, frac: int) -> Tensor:
        """The function's values in words of `frac` fraction bits, for the words that the layer reads."""
        key = layer.name, function.__qualname__
        if key not in self._tables:
            words = function_table(function, self._value_bits, self._fracs[layer.sources[0]], frac)
            self._tables[key] = torch.from_numpy(words).to(x.device, self._value_type)
        table = self._tables[key]
        return table[(x.long() + len(table) // 2).clamp_(max=len(table) - 1)]

    def _rounded(self, acc: Tensor, shift: int, bits: int) -> Tensor:
        """The sums shifted right and rounded to the nearest, in place; a sum of one bit is its sign."""
        return requantise_(acc, shift, bits, "nearest") if shift else acc

    def _error(self, acc: Tensor, shift: int) -> Tensor:
        """The errors from products, rounded to the nearest; of one bit, zeros stay."""
        is_zero = acc == 0
        words = requantise_(acc, shift, self._error_bits, "nearest").masked_fill_(is_zero, 0)
        return words.to(self._error_type)

    def _saturated(self, sums: Tensor) -> Tensor:
        """The sums of errors, saturated in place; one bit keeps its zeros."""
        bits = self._error_bits
        return (sums.clamp_(-1, 1) if bits == 1 else saturate_(sums, bits)).to(self._error_type)


def _share(sums: Tensor, parts: int, terms: int, bits: int) -> Tensor:
    """Sums of `terms` words each times the 16-bit reciprocal of `parts`, in words of `bits` bits."""
    reciprocal = round((1 << POOL_BITS) / parts)
    bound = terms * Format(bits, 0).limit * reciprocal
    return requantise_(sums.to(carrier(bound)) * reciprocal, POOL_BITS, bits, "nearest")


def _scaled(x: Tensor, factors: Any, bits: int) -> Tensor:
    """The words times factors in 8 fraction bits; one bit keeps the zeros of the factors."""
    dtype = carrier(Format(bits, 0).limit << 16)
    words = requantise_(x.to(dtype) * factors, _FACTOR_BITS, bits, "nearest")
    return (words * (factors > 0) if bits == 1 else words).to(x.dtype)
