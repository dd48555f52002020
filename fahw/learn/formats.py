"""Fixed-point formats of a training run: scales, rounding into them, rate constants and tables.

A value is q * 2^-frac with q a two's complement integer of `bits` bits; one bit holds -1 and +1 (after ReLU and for
inputs 0 and 1). Integers are carried in float32 tensors where every intermediate stays under 2^24, else in float64
under 2^53: there adding, scaling by powers of two, `round` (ties to even) and `floor` are exact, on any processor.

Nearest powers of two are taken without logarithms from the mantissa's square, so that no libm can disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import lru_cache
from math import frexp, prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.config.numbers import TERNARY, Fixed, Number
from fahw.config.precision import Precision, Rounding
from fahw.config.recipe import Tuning
from fahw.errors import ConfigError, Problem
from fahw.layers import INPUT
from fahw.network import Layer, Network, feedback_shape, roles_of
from fahw.rules import Rule

MU_BITS = 8
"""Fraction bits of the momentum constant and of the sum that the velocity is rounded from."""
RANDOM_BITS = 8
"""Random bits per stochastic rounding."""
POOL_BITS = 16
"""Fraction bits of average pooling's reciprocal."""
EXP_BITS = 15
"""Fraction bits of the softmax table."""
BIAS_RANGE = 2.0
"""Largest bias that a master of any width holds."""

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


@dataclass(frozen=True)
class Format:
    """`bits` of the integer, `frac` of them (or more, or fewer than none) behind the point."""

    bits: int
    frac: int

    @property
    def limit(self) -> int:
        """Largest magnitude of the integer."""
        return 1 << max(0, self.bits - 1)


@dataclass(frozen=True)
class Scales:
    """All formats around one weighted layer; static, known before training.

    `input`: its input words. `delta`: the error at its output, `error`: at its input. A gradient is its accumulator
    shifted right by `gradient_shift`.
    """

    input: Format
    weight: Format
    master: Format
    bias: Format
    output: Format
    delta: Format
    error: Format
    feedback: Format
    gradient: Format
    gradient_shift: int
    bias_gradient: Format
    bias_gradient_shift: int
    velocity: Format
    bias_velocity: Format


@dataclass(frozen=True)
class Bounds:
    """Largest magnitude that each accumulator of one weighted layer can reach before it wraps."""

    forward: int
    error: int
    gradient: int
    bias_gradient: int


@dataclass(frozen=True)
class Rate:
    """A learning rate as the chip multiplies by it: `mantissa` * 2^-`shift`, the mantissa 128 to 255."""

    mantissa: int
    shift: int


def ceil_log2(x: float) -> int:
    """The smallest k with x <= 2^k."""
    mantissa, exponent = frexp(x)
    return exponent - 1 if mantissa == 0.5 else exponent


def nearest_log2(x: float) -> int:
    """The k whose 2^k is nearest to x in ratio."""
    mantissa, exponent = frexp(x)
    return exponent if mantissa * mantissa >= 0.5 else exponent - 1


def frac(bits: int, largest: float) -> int:
    """Fraction bits of a format that holds magnitudes up to `largest`; one bit stands for a quarter of it."""
    return (2 if bits == 1 else bits - 1) - ceil_log2(largest)


def frac_of(form: Number, largest: float) -> int:
    """`frac`; ternary words stand for what one bit does."""
    return frac(1 if one_magnitude(form) else form.bits, largest)


def one_magnitude(form: Number) -> bool:
    """Whether all that the format holds is +-1, and perhaps 0."""
    return isinstance(form, Fixed) and form.lowest == -1


def rate_constant(value: float) -> Rate:
    """The 8-bit mantissa and shift nearest to `value` > 0."""
    mantissa, exponent = frexp(value)
    whole = round(mantissa * 256)
    return Rate(128, 7 - exponent) if whole == 256 else Rate(whole, 8 - exponent)


def network_scales(
    network: Network, precision: Precision, tuning: Tuning, rule: Rule, batch_size: int
) -> dict[str, Scales]:
    """The formats of every weighted layer by its name, first to last."""
    result: dict[str, Scales] = {}
    last = network.weighted[-1]

    def output_frac(layer: Layer, input_frac: int) -> int:
        scales = _layer_scales(network, layer, precision, tuning, rule, batch_size, input_frac, layer == last)
        result[layer.name] = scales
        return scales.output.frac

    _value_fracs(network, precision.number("activation"), output_frac)
    return result


def value_fracs(network: Network, precision: Precision, scales: dict[str, Scales]) -> dict[str, int]:
    """Fraction bits of every layer's output and of the input, by name."""
    return _value_fracs(network, precision.number("activation"), lambda layer, _: scales[layer.name].output.frac)


def _value_fracs(network: Network, form: Number, output_frac: Callable[[Layer, int], int]) -> dict[str, int]:
    """tanh and sigmoid have all their bits behind the point, an add has the fewest of what it adds; the others keep
    what they read. `output_frac`: of a weighted layer, given its input's."""
    whole = 0 if one_magnitude(form) else form.bits - 1
    fracs = {INPUT: whole}
    for layer in network.layers:
        read = [fracs[source] for source in layer.sources]
        if layer.weighted:
            fracs[layer.name] = output_frac(layer, read[0])
        else:
            fracs[layer.name] = whole if layer.kind in ("tanh", "sigmoid") else min(read)
    return fracs


def _layer_scales(
    network: Network, layer: Layer, precision: Precision, tuning: Tuning, rule: Rule, batch_size: int,
    input_frac: int, last: bool,
) -> Scales:  # fmt: skip
    ranges, bits, number = tuning.ranges_of(layer.name), precision.bits, precision.number
    largest = ranges.weight_headroom * layer.xavier_bound
    wide = frac_of(number("weight"), largest)
    weight = Format(bits("weight"), wide)
    if one_magnitude(number("weight")):
        weight = Format(bits("weight"), -nearest_log2(layer.xavier_std))
    activation = frac_of(number("activation"), ranges.activation)
    logit_bits = activation - frac_of(number("activation"), ranges.activation * ranges.logit_headroom)
    given = precision.scale.given
    weight = replace(weight, frac=given("weight", weight.frac))
    master = frac_of(number("master"), largest) + given("weight", wide) - wide
    inputs = Format(bits("activation"), input_frac)
    error = Format(bits("error"), given("error", frac_of(number("error"), ranges.error)))
    delta = Format(bits("error"), 0 if number("error") == TERNARY else bits("error") - 1) if last else error
    shift, bias_shift = gradient_shifts(precision, batch_size * layer.positions)
    gradient = Format(bits("gradient"), delta.frac + inputs.frac - shift)
    bias_gradient = Format(bits("gradient"), delta.frac - bias_shift)
    coarser = ceil_log2(ranges.velocity_headroom) - (bits("optimizer") - bits("gradient"))
    return Scales(
        input=inputs,
        weight=weight,
        master=Format(bits("master"), master),
        bias=Format(bits("master"), frac_of(number("master"), BIAS_RANGE)),
        output=Format(bits("activation"), given("activation", activation) - (logit_bits if last else 0)),
        delta=delta,
        error=error,
        feedback=feedback_format(network, layer, rule, precision, weight, tuning.feedback_gain),
        gradient=gradient,
        gradient_shift=shift,
        bias_gradient=bias_gradient,
        bias_gradient_shift=bias_shift,
        velocity=Format(bits("optimizer"), gradient.frac - coarser),
        bias_velocity=Format(bits("optimizer"), bias_gradient.frac - coarser),
    )


def gradient_shifts(precision: Precision, terms: int) -> tuple[int, int]:
    """Right shifts of the weight and bias gradients' accumulators, sums of `terms` each: room for a random sum."""
    growth = (ceil_log2(terms) + 1) // 2 + 1
    bias = precision.bits("error") - 1 + growth - precision.bits("gradient")
    return max(0, bias + precision.bits("activation") - 1), max(0, bias)


def feedback_std(network: Network, layer: Layer, rule: Rule) -> float:
    """Standard deviation of an own feedback matrix before the gain: Xavier's, of the matrix's own fans if direct."""
    if rule.path != "direct":
        return layer.xavier_std
    rows, columns, *kernel = feedback_shape(layer, network.classes, True, network.dfa_feedback == "tiled")
    return sqrt(2 / ((rows + columns) * prod(kernel)))


def feedback_format(
    network: Network, layer: Layer, rule: Rule, precision: Precision, weight: Format, gain: float
) -> Format:
    """Format of the words that send the error to the layer's input. Own words of 4 bits and fewer are odd integers
    up to 2^bits - 1, so as integers they are a bit wider; ternary ones have the unit of one bit."""
    bits, single = precision.bits("feedback"), one_magnitude(precision.number("feedback"))
    if rule.magnitude == "weight" and not single:
        return Format(bits, precision.scale.given("feedback", weight.frac - (weight.bits - bits)))
    if rule.magnitude in ("weight", "constant"):
        return Format(bits if single else 1, -nearest_log2(gain * feedback_std(network, layer, rule)))
    rms = 2**bits / sqrt(12) if bits > 4 else sqrt(((2 if single else 2**bits) ** 2 - 1) / 3)
    scale = nearest_log2(rms / (gain * feedback_std(network, layer, rule)))
    return Format(bits if bits > 4 else bits + 1, precision.scale.given("feedback", scale))


def bounds(network: Network, layer: Layer, scales: Scales, rule: Rule, batch_size: int) -> Bounds:
    """Worst cases of one layer's accumulators for any words of its formats."""
    s = scales
    products = layer.window * s.input.limit * s.weight.limit
    bias = int(s.bias.limit * 2.0 ** (s.input.frac + s.weight.frac - s.bias.frac)) + 1 if layer.bias else 0
    taps = prod(layer.kernel) * most_copies(layer)
    rows = layer.out_shape[0] // layer.groups * taps
    if rule.path == "direct":
        rows = network.classes * (taps if network.dfa_feedback == "tiled" else 1)
    terms = batch_size * layer.positions
    return Bounds(
        forward=products + bias,
        error=rows * s.error.limit * s.feedback.limit,
        gradient=terms * s.delta.limit * s.input.limit,
        bias_gradient=terms * s.delta.limit,
    )


def most_copies(layer: Layer) -> int:
    """How often the padded image holds a pixel at most: once, unless it is padded with its own pixels."""
    if layer.padding_mode == "zeros":
        return 1
    return prod(1 + 2 * pad for pad in layer.padding)


def overflow_problems(
    network: Network, scales: dict[str, Scales], rule: Rule, batch_size: int, accumulator: int
) -> tuple[str, ...]:
    """One sentence for every accumulator that the worst case can wrap."""
    problems, sends = [], roles_of(network, rule).sends
    for layer in network.weighted:
        worst = bounds(network, layer, scales[layer.name], rule, batch_size)
        sums = {"forward": worst.forward, "error": worst.error, "gradient": max(worst.gradient, worst.bias_gradient)}
        for phase, reach in sums.items():
            if reach >= 1 << (accumulator - 1) and (phase != "error" or layer.name in sends):
                need = reach.bit_length() + 1
                problems.append(f"{layer.name}: {phase} sums can need {need} bits, the accumulator has {accumulator}")
    return tuple(problems)


def word_dtype(bits: int) -> torch.dtype:
    """The tensor type of words as products read them."""
    return torch.int8 if bits <= 8 else torch.float32


def carrier(bound: int, shift: int = 0, mode: Rounding = "nearest") -> torch.dtype:
    """The float type in which integers up to `bound`, to be shifted right by `shift`, are exact."""
    need = bound
    if mode == "stochastic" and shift > 0:
        need = (bound + (1 << shift)) << max(0, RANDOM_BITS - shift)
    if need >= FLOAT64_EXACT:
        raise ConfigError(Problem("precision", f"a sum can need {need.bit_length()} bits, 53 can be computed exactly"))
    return torch.float32 if need < FLOAT32_EXACT else torch.float64


def useful_shift(bound: int, shift: int) -> int:
    """The shift, or the largest that still matters: what lies further right rounds as if it lay there."""
    return min(shift, bound.bit_length() + RANDOM_BITS + 1)


def wrap_(acc: Tensor, bits: int) -> Tensor:
    """Two's complement wrap-around of float-carried integers, in place."""
    half = 2.0 ** (bits - 1)
    return acc.sub_(((acc + half) * (0.5 / half)).floor_().mul_(2 * half))


def round_(x: Tensor, mode: Rounding, random: Tensor | None = None) -> Tensor:
    """To an integer, in place. `random`: one per value, 0 to 255 in x's type, for stochastic rounding."""
    if mode == "nearest":
        return x.round_()
    if mode == "stochastic":
        assert random is not None, "stochastic rounding needs random bits"
        x.add_(random, alpha=2.0**-RANDOM_BITS)
    return x.floor_()


def saturate_(q: Tensor, bits: int) -> Tensor:
    """Into the range of `bits` bits, in place; one bit keeps the sign, zero counting as plus."""
    if bits == 1:
        return q.copy_(q >= 0).mul_(2).sub_(1)
    return q.clamp_(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def requantise_(acc: Tensor, shift: int, bits: int, mode: Rounding, random: Tensor | None = None) -> Tensor:
    """acc / 2^shift rounded and saturated to `bits` bits, in place. One bit is acc's sign and needs no random bits.

    `random`: as `round_`'s, or uint8, in acc's row-major order.
    """
    if bits > 1:
        acc.mul_(2.0**-shift)
        if shift > 0:
            round_(acc, mode, None if random is None else random.to(acc.dtype).view(acc.shape))
    return saturate_(acc, bits)


def draws_random(mode: Rounding, bits: int) -> bool:
    """Whether rounding into a format consumes random bytes."""
    return mode == "stochastic" and bits > 1


@lru_cache
def exp_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """nearest(exp(-d * 2^-frac) * 2^15) for d = 0 ... 2^bits - 1."""
    one = Decimal(1 << EXP_BITS)
    return _table(1 << bits, -1, frac_bits, lambda power: _nearest(power * one))


@lru_cache
def tanh_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """tanh of every word q = -2^(bits-1) ... 2^(bits-1) - 1 with `bits` - 1 fraction bits, saturated; entry 0 is the
    lowest word. One bit: (-1, +1)."""
    if bits == 1:
        return np.array([-1, 1])
    one, half = Decimal(1 << (bits - 1)), 1 << (bits - 1)
    positive = _table(half + 1, -2, frac_bits, lambda power: _nearest((1 - power) / (1 + power) * one))
    return np.concatenate([-positive[:0:-1], np.minimum(positive[:half], half - 1)])


@lru_cache
def sigmoid_table(bits: int, frac_bits: int) -> NDArray[np.int64]:
    """1 / (1 + exp(-x)) of every word, as `tanh_table` has its; one bit: (0, 1)."""
    if bits == 1:
        return np.array([0, 1])
    one, half = Decimal(1 << (bits - 1)), 1 << (bits - 1)
    negative = _table(half + 1, -1, frac_bits, lambda power: _nearest(power / (1 + power) * one))
    positive = _table(half + 1, -1, frac_bits, lambda power: _nearest(1 / (1 + power) * one))
    return np.concatenate([negative[:0:-1], np.minimum(positive[:half], half - 1)])


def _table(size: int, slope: int, frac_bits: int, value: Callable[[Decimal], int]) -> NDArray[np.int64]:
    """`value` of exp(slope * d * 2^-frac) for d < size. Source of exp: `decimal`, correctly rounded anywhere."""
    with localcontext() as context:
        context.prec = 60
        return np.fromiter((value(power) for power in _powers(size, slope, frac_bits)), np.int64, size)


def _powers(size: int, slope: int, frac_bits: int) -> Iterator[Decimal]:
    base = (Decimal(slope) * Decimal(2) ** -frac_bits).exp()
    power = Decimal(1)
    for _ in range(size):
        yield power
        power *= base
        if power < Decimal("1e-40"):
            power = Decimal(0)


def _nearest(value: Decimal) -> int:
    return int(value.to_integral_value(rounding="ROUND_HALF_EVEN"))


@lru_cache
def pixel_table(bits: int, maximum: int) -> NDArray[np.int64]:
    """The input word of every pixel from 0 to 255, or to `maximum` where that is more, the largest pixel's value."""
    pixels = range(max(256, maximum + 1))
    if bits == 1:
        return np.array([2 * pixel >= maximum for pixel in pixels], np.int64)
    one = 1 << (bits - 1)
    words = []
    for pixel in pixels:
        whole, rest = divmod(pixel * one, maximum)
        words.append(min(one - 1, whole + (2 * rest + (whole & 1) > maximum)))
    return np.array(words, np.int64)
