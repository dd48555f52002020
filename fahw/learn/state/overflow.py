"""The largest sums that accumulators can meet, and which of them could wrap."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from fahw.layers.weighted import Weighted
from fahw.learn.state.scales import Scales
from fahw.network.error_path import roles_of
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
    taps = prod(layer.kernel) * most_copies(layer)
    rows = layer.out_shape[0] // layer.groups * taps
    if rule.path == "direct":
        rows = network.classes * (taps if network.dfa_feedback == "tiled" else 1)
    terms = batch_size * layer.positions
    return AccumulatorBounds(
        forward=products + bias,
        error=rows * scales.error.limit * scales.feedback.limit,
        gradient=terms * scales.delta.limit * scales.input.limit,
        bias_gradient=terms * scales.delta.limit,
    )


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
    for layer in network.weighted:
        worst = accumulator_bounds(network, layer, scales[layer.name], rule, batch_size)
        sums = {"forward": worst.forward, "error": worst.error, "gradient": max(worst.gradient, worst.bias_gradient)}
        for phase, largest in sums.items():
            if largest >= 1 << (accumulator - 1) and (phase != "error" or layer.name in sends):
                bits_needed = largest.bit_length() + 1
                problems.append(
                    f"{layer.name}: {phase} sums can need {bits_needed} bits, the accumulator has {accumulator}"
                )
    return tuple(problems)
