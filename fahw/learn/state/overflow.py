"""The largest sums that accumulators can meet, and which of them could wrap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from fahw.layers.weighted import Weighted
from fahw.learn.state.scales import Scales
from fahw.network.error_path import roles_of
from fahw.network.feedback_matrices import FeedbackMatrix, layer_matrices, layer_stages
from fahw.network.graph import Network
from fahw.rules.rule import Rule


@dataclass(frozen=True)
class AccumulatorBounds:
    """Largest magnitude that each accumulator of one weighted layer can reach before it wraps."""

    forward: int
    error: int
    gradient: int
    bias_gradient: int


def accumulator_bounds(
    network: Network, layer: Weighted, scales: Scales, rule: Rule, batch_size: int
) -> AccumulatorBounds:
    """The worst cases of one layer's accumulators for any words of its formats."""
    products = layer.window * scales.input.limit * scales.weight.limit
    bias = (
        int(scales.bias.limit * 2.0 ** (scales.input.frac + scales.weight.frac - scales.bias.frac)) + 1
        if layer.bias
        else 0
    )
    terms = batch_size * layer.positions
    return AccumulatorBounds(
        forward=products + bias,
        error=_error_bound(layer, scales, layer_matrices(network, layer, rule)[-1], rule),
        gradient=terms * scales.delta.limit * scales.input.limit,
        bias_gradient=terms * scales.delta.limit,
    )


def network_bounds(
    network: Network, scales: dict[str, Scales], rule: Rule, batch_size: int
) -> dict[str, AccumulatorBounds]:
    """The worst cases of every weighted layer by its name, and of the two that stand for it where its error goes
    through two matrices."""
    bounds = {}
    for layer in network.weighted:
        whole = accumulator_bounds(network, layer, scales[layer.name], rule, batch_size)
        bounds[layer.name] = whole
        if rule.rank is not None:
            matrices, stages = layer_matrices(network, layer, rule), layer_stages(network, layer, rule)
            for matrix, stage in zip(matrices, stages, strict=True):
                largest = _error_bound(stage, scales[stage.name], matrix, rule)
                bounds[stage.name] = replace(whole, error=largest)
    return bounds


def _error_bound(layer: Weighted, scales: Scales, matrix: FeedbackMatrix, rule: Rule) -> int:
    """The largest sum that an error can reach on its way through a matrix to the input of `layer`."""
    summed_places = rule.path == "layerwise" or len(matrix.shape) > 2
    taps = prod(layer.kernel) * most_copies(layer) if summed_places else 1
    return matrix.fan_in * taps * scales.error.limit * scales.feedback.limit


def most_copies(layer: Weighted) -> int:
    """How often the padded image holds a pixel at most: once, unless it is padded with its own pixels."""
    if layer.padding_mode == "zeros":
        return 1
    return prod(1 + 2 * pad for pad in layer.padding)


def overflow_problems(
    network: Network, scales: dict[str, Scales], rule: Rule, batch_size: int, accumulator: int
) -> tuple[str, ...]:
    """One sentence for every accumulator that the worst case can wrap."""
    problems, sends = [], roles_of(network, rule).sends
    bounds = network_bounds(network, scales, rule, batch_size)
    for layer in network.weighted:
        worst = bounds[layer.name]
        errors = [bounds[stage.name].error for stage in layer_stages(network, layer, rule)]
        sums = {"forward": worst.forward, "error": max(errors), "gradient": max(worst.gradient, worst.bias_gradient)}
        for phase, largest in sums.items():
            if largest >= 1 << (accumulator - 1) and (phase != "error" or layer.name in sends):
                bits_needed = largest.bit_length() + 1
                problems.append(
                    f"{layer.name}: {phase} sums can need {bits_needed} bits, the accumulator has {accumulator}"
                )
    return tuple(problems)
