"""The fixed-point scales of a training: formats of the tensors around every weighted layer, known before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from fahw.formats.fixed_point import Format, ceil_log2, format_fraction_bits, nearest_log2
from fahw.formats.number import TERNARY, Number
from fahw.formats.precision import Precision
from fahw.layers.layer import INPUT
from fahw.layers.weighted import Weighted
from fahw.network.feedback_matrices import FeedbackMatrix, layer_matrices
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.rules.rule import Rule

BIAS_RANGE = 2.0
"""The largest bias that a master of any width holds."""


@dataclass(frozen=True)
class Scales:
    """All fixed-point formats around one weighted layer; static, known before training.

    `input`: its input words. `delta`: the error at its output, `error`: at its input, `sent`: what the feedback words
    are multiplied with, `delta` or a direct rule's signal. A gradient is its accumulator shifted right by
    `gradient_shift`.
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
    sent: Format


def network_scales(
    network: Network, precision: Precision, tuning: Tuning, rule: Rule, batch_size: int
) -> dict[str, Scales]:
    """The formats of every weighted layer by its name, first to last; then those of the layers that stand for them
    where errors go through two matrices (`fahw.network.feedback_matrices`)."""
    result: dict[str, Scales] = {}
    last = network.weighted[-1]

    def output_frac(layer: Weighted, input_frac: int) -> int:
        scales = _layer_scales(network, layer, precision, tuning, rule, batch_size, input_frac, layer == last)
        result[layer.name] = scales
        return scales.output.frac

    _output_fraction_bits(network, precision.number("activation"), output_frac)
    signal_frac = rule.sent.fraction_bits(result[last.name].delta.frac)
    for layer in network.weighted:
        sent = result[layer.name].delta
        if rule.path == "direct":
            sent = Format(rule.sent.bits(sent.bits), signal_frac)
        result[layer.name] = replace(result[layer.name], sent=sent)
        if rule.rank is not None:
            result |= _stage_scales(network, layer, precision, tuning, rule, result[layer.name])
    return result


def _stage_scales(
    network: Network, layer: Weighted, precision: Precision, tuning: Tuning, rule: Rule, whole: Scales
) -> dict[str, Scales]:
    """The formats around the two matrices whose product sends the error, by their names: the error between them is as
    any hidden one. `whole`: the layer's."""
    sent, result = whole.sent, {}
    for matrix in layer_matrices(network, layer, rule):
        form = _matrix_format(matrix, rule, precision, tuning.feedback_gain)
        result[matrix.name] = replace(whole, sent=sent, feedback=form)
        sent = whole.error
    return result


def output_fraction_bits(network: Network, precision: Precision, scales: dict[str, Scales]) -> dict[str, int]:
    """The number of fraction bits of every layer's output and of the network's input, by layer name."""
    return _output_fraction_bits(
        network, precision.number("activation"), lambda layer, _: scales[layer.name].output.frac
    )


def _output_fraction_bits(
    network: Network, form: Number, output_frac: Callable[[Weighted, int], int]
) -> dict[str, int]:
    """The numbers of `output_fraction_bits`: each kind's own, but a weighted layer's by `output_frac` from those of its
    input."""
    all_fraction_bits = 0 if form.has_one_magnitude else form.bits - 1
    fracs = {INPUT: all_fraction_bits}
    for layer in network.layers:
        source_fracs = [fracs[source] for source in layer.sources]
        if isinstance(layer, Weighted):
            fracs[layer.name] = output_frac(layer, source_fracs[0])
        else:
            fracs[layer.name] = layer.fraction_bits(all_fraction_bits, source_fracs)
    return fracs


def _layer_scales(
    network: Network, layer: Weighted, precision: Precision, tuning: Tuning, rule: Rule, batch_size: int,
    input_frac: int, last: bool,
) -> Scales:  # fmt: skip
    ranges, bits, number = tuning.ranges_of(layer.name), precision.bits, precision.number
    largest = ranges.weight_headroom * layer.xavier_bound
    weight_frac = format_fraction_bits(number("weight"), largest)
    weight = Format(bits("weight"), weight_frac)
    if number("weight").has_one_magnitude:
        weight = Format(bits("weight"), -nearest_log2(layer.xavier_std))
    activation = format_fraction_bits(number("activation"), ranges.activation)
    logit_bits = activation - format_fraction_bits(number("activation"), ranges.activation * ranges.logit_headroom)
    configured = precision.scale.fraction_bits
    weight = replace(weight, frac=configured("weight", weight.frac))
    master = format_fraction_bits(number("master"), largest) + configured("weight", weight_frac) - weight_frac
    inputs = Format(bits("activation"), input_frac)
    error = Format(bits("error"), configured("error", format_fraction_bits(number("error"), ranges.error)))
    delta = Format(bits("error"), 0 if number("error") == TERNARY else bits("error") - 1) if last else error
    shift, bias_shift = gradient_shifts(precision, batch_size * layer.positions)
    gradient = Format(bits("gradient"), delta.frac + inputs.frac - shift)
    bias_gradient = Format(bits("gradient"), delta.frac - bias_shift)
    coarser = ceil_log2(ranges.velocity_headroom) - (bits("optimizer") - bits("gradient"))
    return Scales(
        input=inputs,
        weight=weight,
        master=Format(bits("master"), master),
        bias=Format(bits("master"), format_fraction_bits(number("master"), BIAS_RANGE)),
        output=Format(bits("activation"), configured("activation", activation) - (logit_bits if last else 0)),
        delta=delta,
        error=error,
        feedback=feedback_format(network, layer, rule, precision, weight, tuning.feedback_gain),
        gradient=gradient,
        gradient_shift=shift,
        bias_gradient=bias_gradient,
        bias_gradient_shift=bias_shift,
        velocity=Format(bits("optimizer"), gradient.frac - coarser),
        bias_velocity=Format(bits("optimizer"), bias_gradient.frac - coarser),
        sent=delta,
    )


def gradient_shifts(precision: Precision, terms: int) -> tuple[int, int]:
    """The right shifts, in bits, of the weight and bias gradients' accumulators, sums of `terms` each: they leave room
    for a sum of random signs."""
    growth = (ceil_log2(terms) + 1) // 2 + 1
    bias = precision.bits("error") - 1 + growth - precision.bits("gradient")
    return max(0, bias + precision.bits("activation") - 1), max(0, bias)


def feedback_format(
    network: Network, layer: Weighted, rule: Rule, precision: Precision, weight: Format, gain: float
) -> Format:
    """The format of the words that send the error to the layer's input; of two matrices, that of their product."""
    bits, single = precision.bits("feedback"), precision.number("feedback").has_one_magnitude
    if rule.feedback.copies_weight and not single:
        return Format(bits, precision.scale.fraction_bits("feedback", weight.frac - (weight.bits - bits)))
    forms = [_matrix_format(matrix, rule, precision, gain) for matrix in layer_matrices(network, layer, rule)]
    return Format(forms[-1].bits, sum(form.frac for form in forms))


def _matrix_format(matrix: FeedbackMatrix, rule: Rule, precision: Precision, gain: float) -> Format:
    """The format of the words of a matrix. Own words of 4 bits and fewer are odd integers up to 2^bits - 1, so as
    integers they are a bit wider; ternary ones have the unit of one bit."""
    bits, single = precision.bits("feedback"), precision.number("feedback").has_one_magnitude
    std = gain * matrix.std if matrix.has_gain else matrix.std
    if rule.feedback.copies_weight or rule.feedback.is_constant:
        return Format(bits if single else 1, -nearest_log2(std))
    rms = 2**bits / sqrt(12) if bits > 4 else sqrt(((2 if single else 2**bits) ** 2 - 1) / 3)
    return Format(bits if bits > 4 else bits + 1, precision.scale.fraction_bits("feedback", nearest_log2(rms / std)))
