"""Layers without weights on integer words: activations, poolings, dropout, sums and shortcuts, both ways.

Axes are as in `fahw.learn.arithmetic.integer`, samples last. Where words are multiplied by constants the result is
rounded to the nearest; only a sum of several layers' outputs is rounded as the chip rounds its activations.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.formats.fixed_point import POOL_BITS, Format, carrier, random_bytes, requantise_, saturate_, word_dtype
from fahw.formats.precision import Precision, Rounding
from fahw.layers.layer import Layer
from fahw.learn.arithmetic.accumulator import Accumulator
from fahw.learn.arithmetic.floating import drop_factor, drop_threshold, shortcut_channels
from fahw.learn.arithmetic.softmax import activation_tables, relu_error, table_error
from fahw.learn.kernels.windows import max_pool, max_pool_adjoint, sum_pool, sum_pool_adjoint
from fahw.network.graph import Network
from fahw.prng import Lfsr


class UnweightedLayers:
    """The layers of a network that have no parameters. `fracs`: fraction bits of every layer's output."""

    def __init__(self, network: Network, fracs: dict[str, int], precision: Precision, device: torch.device) -> None:
        self._fracs = fracs
        self._value_bits, self._error_bits = precision.bits("activation"), precision.bits("error")
        self._value_type, self._error_type = word_dtype(self._value_bits), word_dtype(self._error_bits)
        self._tables = activation_tables(network, fracs, self._value_bits, device)

    def forward(self, layer: Layer, x: Tensor, random: Lfsr | None) -> tuple[Tensor, Tensor]:
        """A layer's output, and what its `backward` needs: ReLU and tanh save their output, max pooling where its first
        maxima lay. `random`: the generator that dropout consumes; None where nothing is dropped."""
        if layer.kind == "flatten":
            return x.reshape(layer.inputs, -1), x
        if layer.kind == "maxpool2d":
            return max_pool(x, layer)
        if layer.kind == "avgpool2d":
            return _average(layer, sum_pool(x.float(), layer), self._value_bits).to(x.dtype), x
        if layer.kind == "shortcut":
            before, added = shortcut_channels(layer)
            picked = x[:, :: layer.stride[0], :: layer.stride[1]]
            return tf.pad(picked, (0, 0, 0, 0, 0, 0, before, added - before)), x
        if layer.kind == "dropout":
            return (x, x) if random is None else self._dropped(layer, x, random)
        if layer.kind == "relu":
            y = x.clamp(min=0)
        elif layer.kind == "hardtanh":
            y = x.float().clamp(-self._one(layer), self._one(layer)).to(x.dtype)  # 1 may be no word
        else:
            table = self._tables[layer.name]
            y = table[(x.long() + len(table) // 2).clamp_(max=len(table) - 1)]
        return y, y

    def backward(self, layer: Layer, saved: Tensor, error: Tensor) -> Tensor:
        """The error at a layer's input, through masks and table derivatives; sums of overlapping windows saturate."""
        bits = self._error_bits
        if layer.kind == "flatten":
            return error.view(saved.shape)
        if layer.kind == "relu":
            return relu_error(saved, error, self._value_bits)
        if layer.kind == "hardtanh":
            return error * (saved.float().abs() < self._one(layer)).to(error.dtype)
        if layer.kind in ("tanh", "sigmoid"):
            return table_error(layer, saved, error, self._value_bits - 1, bits).to(self._error_type)
        if layer.kind == "dropout":
            return _scaled(error, saved, bits)
        if layer.kind == "shortcut":
            before, _ = shortcut_channels(layer)
            below = error.new_zeros(saved.shape)
            below[:, :: layer.stride[0], :: layer.stride[1]] = error[before : before + len(saved)]
            return below
        if layer.kind == "avgpool2d":
            below = sum_pool_adjoint(_average(layer, error.float(), bits), layer)
        else:
            below = max_pool_adjoint(error, saved, layer)
        return _saturate_sums_(below, bits).to(self._error_type)

    def added(self, layer: Layer, inputs: list[Tensor], mode: Rounding, accumulator: Accumulator) -> Tensor:
        """The sum of several layers' outputs, aligned at its finest input; rounded where its coarsest has fewer
        fraction bits."""
        fracs, bits = [self._fracs[source] for source in layer.sources], self._value_bits
        shift = max(fracs) - self._fracs[layer.name]
        bound = sum(Format(bits, 0).limit << (max(fracs) - frac) for frac in fracs)
        dtype = carrier(bound, shift, mode)
        acc = inputs[0].to(dtype) * 2.0 ** (max(fracs) - fracs[0])
        for x, frac in zip(inputs[1:], fracs[1:], strict=True):
            acc.add_(x.to(dtype) * 2.0 ** (max(fracs) - frac))
        if shift == 0:
            return saturate_(acc, bits).to(self._value_type)
        return accumulator.words(acc, shift, Format(bits, 0), mode)

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum of errors that come back to one output, saturated."""
        wide = torch.int32 if self._error_bits <= 8 else torch.float32
        sums = sum((e.to(wide) for e in errors[1:]), errors[0].to(wide))
        return _saturate_sums_(sums, self._error_bits).to(self._error_type)

    def _one(self, layer: Layer) -> int:
        """The word at which a hardtanh saturates."""
        return 1 << max(0, self._fracs[layer.sources[0]])

    def _dropped(self, layer: Layer, x: Tensor, random: Lfsr) -> tuple[Tensor, Tensor]:
        """The values times 0, or times 1 / (1 - p) in 8 fraction bits, by a random byte each; and these factors."""
        threshold = drop_threshold(layer)
        stays = (random_bytes(random, x.numel(), x.device) >= threshold).view(x.shape)
        factor = stays.float().mul_(drop_factor(threshold))
        return _scaled(x, factor, self._value_bits), factor


def _average(layer: Layer, sums: Tensor, bits: int) -> Tensor:
    """The sums over windows times the 16-bit reciprocal of the window's area, in words of `bits` bits."""
    area = prod(layer.kernel)
    reciprocal = round((1 << POOL_BITS) / area)
    bound = area * Format(bits, 0).limit * reciprocal
    return requantise_(sums.to(carrier(bound)) * reciprocal, POOL_BITS, bits, "nearest")


def _scaled(x: Tensor, factor: Tensor, bits: int) -> Tensor:
    """The words times factors in 8 fraction bits; one bit keeps the zeros of the factors."""
    dtype = carrier(Format(bits, 0).limit << 16)
    words = requantise_(x.to(dtype) * factor, 8, bits, "nearest")
    return (words * (factor > 0) if bits == 1 else words).to(x.dtype)


def _saturate_sums_(sums: Tensor, bits: int) -> Tensor:
    """Saturate sums of words in place; one bit keeps its zeros."""
    return sums.clamp_(-1, 1) if bits == 1 else saturate_(sums, bits)
