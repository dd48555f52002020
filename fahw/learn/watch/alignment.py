"""How far the feedback words are from the weights that they stand for, and the updates from backpropagation's."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, degrees, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.error_path.feedback import Feedback
from fahw.learn.error_path.feedback_words import FloatWords
from fahw.learn.model import Model
from fahw.learn.samples.batches import Probe
from fahw.learn.state.parameters import Parameters
from fahw.learn.step import gradients
from fahw.rules.catalogue import BACKPROPAGATION


class Alignment(NamedTuple):
    """How a feedback matrix B lies to the weights W, as vectors: the angle between them in degrees, and |B| / |W|."""

    angle_deg: float
    norm_ratio: float


def alignment(feedback: Tensor, weight: Tensor, unit_ratio: float = 1.0) -> Alignment | None:
    """The alignment of one layer; None where the shapes differ (direct rules) or a matrix is all zero or not finite.

    `unit_ratio`: value of one step of `feedback` over one of `weight`.
    """
    if feedback.shape != weight.shape:
        return None
    b, w = feedback.double(), weight.double()
    norms = float(b.norm()), float(w.norm())
    if 0 in norms or not all(map(isfinite, norms)):
        return None
    b, w = b / norms[0], w / norms[1]
    angle = 2 * atan2(float((b - w).norm()), float((b + w).norm()))  # accurate near 0 too, unlike the arc cosine
    return Alignment(degrees(angle), norms[0] / norms[1] * unit_ratio)


def alignments(model: Model, draw: int) -> dict[str, Alignment]:
    """The alignment of every layer that sends the error down, as step `draw` would send it, by layer name; empty for
    direct rules. A layer that has none is left out."""
    if model.feedback.direct:
        return {}
    by_layer = {}
    for layer in (layer for layer in model.network.weighted if layer.name in model.path.roles.sends):
        weight = model.parameters[layer.name].weight
        layer_alignment = alignment(
            model.feedback.words(layer, weight, draw), weight, model.arithmetic.unit_ratio(layer)
        )
        if layer_alignment is not None:
            by_layer[layer.name] = layer_alignment
    return by_layer


def plain_copy(model: Model, batch_statistics: bool = False) -> Model:
    """The network with the values of the model's weights, in float32 under backpropagation: its true gradients.

    `batch_statistics`: as of `Arithmetic.evaluator`.
    """
    parameters = {}
    for layer in model.network.trained:
        stored = model.parameters[layer.name]
        weight, bias = model.arithmetic.plain(layer, stored)
        weight, bias = weight.float(), None if bias is None else bias.float()
        statistics = None if stored.statistics is None else stored.statistics.float()
        parameters[layer.name] = Parameters(weight, weight, bias, statistics=statistics)  # never updated
    floating = Floating(0.0, 1, norm_samples=model.arithmetic.norm_samples)
    arithmetic = floating.evaluator(0, batch_statistics)
    words = FloatWords(model.network, BACKPROPAGATION, 1.0, 0, torch.float32)
    return Model(model.network, arithmetic, parameters, Feedback(BACKPROPAGATION, words))


def gradient_angles(model: Model, arithmetic: Arithmetic, probe: Sequence[Probe], draw: int) -> dict[str, float]:
    """Degrees between the rule's weight gradient on the probe and backpropagation's on the same weights, by layer.

    The rule's is what its own arithmetic accumulates, as `arithmetic` (an `Arithmetic.evaluator` with batch statistics)
    computes it without a touch of the training's random stream; backpropagation's is exact, so formats add to the angle
    as rules do. A layer with a gradient that is zero or not finite is left out.
    """
    rule_model = Model(model.network, arithmetic, model.parameters, model.feedback)
    by_rule, by_backpropagation = (
        _summed(each_model, probe, draw) for each_model in (rule_model, plain_copy(model, batch_statistics=True))
    )
    angles = {name: alignment(gradient, by_backpropagation[name]) for name, gradient in by_rule.items()}
    return {name: angle.angle_deg for name, angle in angles.items() if angle is not None}


def _summed(model: Model, probe: Sequence[Probe], draw: int) -> dict[str, Tensor]:
    """The weight gradients of every layer that has one, summed over all batches, float64, shaped as the weights."""
    sums: dict[str, Tensor] = {}
    for batch in probe:
        images = model.arithmetic.encode(batch.pixels, batch.maximum).to(batch.labels.device)
        batch_gradients = gradients(model, images, batch.labels, draw)
        for name in (layer.name for layer in model.network.weighted if layer.name in batch_gradients):
            weight = batch_gradients[name].weight.double().reshape(model.parameters[name].weight.shape)
            sums[name] = sums[name] + weight if name in sums else weight
    return sums
