"""What a training changes: the weights of every layer, the states of their optimizer, and gradients."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(eq=False)
class Parameters:
    """What one weighted layer or batch norm stores; an update changes the tensors in place.

    `weight`: the forward words that the products read, `master` the wide copy that the update works on (the same
    tensor in float). All shaped as the weight or, for biases, `(out,)`; no bias, no bias tensors. A batch norm's weight
    is its scale and its bias its shift, both `(channels,)` in floating point; its `statistics` are the running means
    and variances, `(2, channels)`, that evaluation uses. `velocity` is the optimizer's first state, `square` its
    second, where it has one.
    """

    weight: Tensor
    master: Tensor
    velocity: Tensor
    bias: Tensor | None
    bias_velocity: Tensor | None
    statistics: Tensor | None = None
    square: Tensor | None = None
    bias_square: Tensor | None = None


def placed(p: Parameters, device: torch.device) -> Parameters:
    """On the device; what is one tensor stays one."""
    moved, there = replace(p), dict[int, Tensor]()
    for name in (each.name for each in fields(p)):
        x = getattr(p, name)
        setattr(moved, name, None if x is None else there.setdefault(id(x), x.to(device)))
    return moved


class Gradient(NamedTuple):
    """Sums over the batch and all positions, not yet rounded and not divided by the batch size."""

    weight: Tensor
    bias: Tensor | None
