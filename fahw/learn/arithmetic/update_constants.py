"""What the update of integers multiplies by and saturates at, tensor by tensor, and where floats hold it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fahw.formats.fixed_point import MU_BITS, Format, carrier, rate_constant, useful_shift
from fahw.formats.precision import Rounding, RoundingModes
from fahw.learn.arithmetic.optimizer import Descent, direction_format
from fahw.learn.state.scales import Scales


@dataclass(frozen=True)
class Formats:
    """What the update of one tensor depends on besides the rate. `reach`: largest magnitude of its accumulators."""

    gradient: Format
    gradient_shift: int
    velocity: Format
    master: Format
    reach: int

    @property
    def align(self) -> int:
        """Left shift of the gradient into the sum with 8 fraction bits that the velocity is rounded from."""
        return MU_BITS - (self.gradient.frac - self.velocity.frac)


def formats_of(s: Scales, reach: tuple[int, int]) -> tuple[Formats, Formats]:
    """Of weights and biases."""
    return (
        Formats(s.gradient, s.gradient_shift, s.velocity, s.master, reach[0]),
        Formats(s.bias_gradient, s.bias_gradient_shift, s.bias_velocity, s.bias, reach[1]),
    )


@dataclass(frozen=True)
class Constants:
    """Of tensors updated together in one rate: the factor from direction to master of each, the share of a weight that
    decays, and the float types in which the roundings are exact."""

    rates: tuple[float, ...]
    decay: float
    gradient: torch.dtype
    velocity: torch.dtype
    decayed: torch.dtype
    master: torch.dtype


def constants(f: Formats, descent: Descent, momentum: int, modes: RoundingModes, rate: float) -> Constants:
    """Of one tensor. `momentum`: with 8 fraction bits."""
    along = direction_format(descent.optimizer, f.gradient, f.velocity)
    factor, master = descent.factor(rate) * 2.0 ** (f.master.frac - along.frac), torch.float32
    decay, decayed = 0.0, torch.float32
    if not descent.optimizer.is_float:
        factor, master = _constant(factor, along.limit, modes.update)
    if descent.weight_decay:
        decay, decayed = _constant(rate * descent.weight_decay, f.master.limit, modes.update)
    total = f.velocity.limit * momentum + (f.gradient.limit << max(0, f.align))
    gradient, velocity = carrier(f.reach, f.gradient_shift, modes.gradient), carrier(total, MU_BITS, modes.update)
    return Constants((factor,), decay, gradient, velocity, decayed, master)


def shared(parts: Sequence[Constants]) -> Constants:
    """Of several tensors in the same types."""
    columns = zip(*((c.gradient, c.velocity, c.decayed, c.master) for c in parts), strict=True)
    widest = [torch.float64 if torch.float64 in column else torch.float32 for column in columns]
    return Constants(tuple(c.rates[0] for c in parts), parts[0].decay, *widest)


def gradient_unit(gradient: Format, descent: Descent) -> float:
    """What a word of a gradient counts in the batch's mean."""
    return 2.0**-gradient.frac / descent.batch_size


def _constant(factor: float, limit: int, mode: Rounding) -> tuple[float, torch.dtype]:
    """The 8-bit constant nearest to `factor`, and the type in which products of up to `limit` with it are exact."""
    constant = rate_constant(factor)
    reach = limit * constant.mantissa
    shift = useful_shift(reach, constant.shift)
    return constant.mantissa * 2.0**-shift, carrier(reach, shift, mode)
