"""How far the feedback words are from the weights that they stand for."""

from __future__ import annotations

from math import atan2, degrees, isfinite
from typing import NamedTuple

from torch import Tensor

from fahw.learn.step import Model


class Alignment(NamedTuple):
    """Angle between B and W as vectors, degrees, and |B| / |W|."""

    angle_deg: float
    norm_ratio: float


def alignment(feedback: Tensor, weight: Tensor, unit_ratio: float = 1.0) -> Alignment | None:
    """Of one layer; None where the shapes differ (direct rules) or a matrix is all zero or not finite.

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
    """Of every layer that sends the error down as step `draw` would; empty for direct rules."""
    if model.feedback.direct:
        return {}
    result = {}
    for layer in model.network.weighted[1:]:
        weight = model.parameters[layer.name].weight
        found = alignment(model.feedback.words(layer, weight, draw), weight, model.arithmetic.unit_ratio(layer))
        if found is not None:
            result[layer.name] = found
    return result
