"""What the update of integers multiplies by and saturates at, tensor by tensor, and where floats hold it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fahw.formats.fixed_point import MU_BITS, Format, carrier, rate_constant, useful_shift
from fahw.formats.precision import Rounding, RoundingModes
from fahw.learn.state.scales import Scales
from fahw.learn.update.optimizer import OptimizerSettings, direction_format


@dataclass(frozen=True)
class TensorFormats:
    """The formats of one tensor's update. `reach`: the largest magnitude of its gradient's accumulators."""

    gradient: Format
    gradient_shift: int
    velocity: Format
    master: Format
    reach: int

    @property
    def align(self) -> int:
        """Left shift of the gradient into the sum with 8 fraction bits that the velocity is rounded from."""
        return MU_BITS - (self.gradient.frac - self.velocity.frac)


class UpdateFormats:
    """What the updates of a network's integers round by and into, whatever the learning rate.

    `reach`: by layer, the largest magnitudes in the accumulators of its weight and bias gradients. Widths and
    alignments are the same in all layers.
    """

    def __init__(
        self, settings: OptimizerSettings, modes: RoundingModes, scales: dict[str, Scales],
        reach: dict[str, tuple[int, int]],
    ) -> None:  # fmt: skip
        self.settings, self.modes = settings.in_words, modes
        self.momentum = round(settings.momentum * (1 << MU_BITS))
        """The momentum in 8 fraction bits, as an integer."""
        self._tensors = {name: _formats(s, reach[name]) for name, s in scales.items()}
        s = next(iter(scales.values()))
        self.gradient_bits, self.state_bits = s.gradient.bits, s.velocity.bits
        self.master_bits, self.weight_bits = s.master.bits, s.weight.bits
        self.word_shift = s.master.bits - s.weight.bits
        """Right shift from a master to its forward word."""
        self.align = self.tensor(next(iter(scales)), False).align

    def tensor(self, layer: str, is_bias: bool) -> TensorFormats:
        """The formats of a layer's weights or biases."""
        return self._tensors[layer][is_bias]

    def constants(self, rate: float) -> dict[tuple[str, bool], Constants]:
        """The constants at a learning rate, by layer and whether they are of its biases."""
        return {
            (layer, is_bias): _constants(pair[is_bias], self, rate)
            for layer, pair in self._tensors.items()
            for is_bias in (False, True)
        }


def _formats(s: Scales, reach: tuple[int, int]) -> tuple[TensorFormats, TensorFormats]:
    """The formats of a layer's weights and of its biases."""
    return (
        TensorFormats(s.gradient, s.gradient_shift, s.velocity, s.master, reach[0]),
        TensorFormats(s.bias_gradient, s.bias_gradient_shift, s.bias_velocity, s.bias, reach[1]),
    )


@dataclass(frozen=True)
class Constants:
    """The constants of tensors updated together at one rate: the factor from direction to master of each, the share of
    a weight that decays, and the float types in which the roundings are exact."""

    rates: tuple[float, ...]
    decay: float
    gradient: torch.dtype
    velocity: torch.dtype
    decayed: torch.dtype
    master: torch.dtype


def _constants(f: TensorFormats, update: UpdateFormats, rate: float) -> Constants:
    """The constants of one tensor."""
    settings, modes = update.settings, update.modes
    along = direction_format(settings.optimizer, f.gradient, f.velocity)
    factor, master = settings.factor(rate) * 2.0 ** (f.master.frac - along.frac), torch.float32
    decay, decayed = 0.0, torch.float32
    if not settings.optimizer.is_float:
        factor, master = _constant(factor, along.limit, modes.update)
    if settings.weight_decay:
        decay, decayed = _constant(rate * settings.weight_decay, f.master.limit, modes.update)
    total = f.velocity.limit * update.momentum + (f.gradient.limit << max(0, f.align))
    gradient, velocity = carrier(f.reach, f.gradient_shift, modes.gradient), carrier(total, MU_BITS, modes.update)
    return Constants((factor,), decay, gradient, velocity, decayed, master)


def shared(parts: Sequence[Constants]) -> Constants:
    """The constants of several tensors, worked on in the same types."""
    columns = zip(*((c.gradient, c.velocity, c.decayed, c.master) for c in parts), strict=True)
    widest = [torch.float64 if torch.float64 in column else torch.float32 for column in columns]
    return Constants(tuple(c.rates[0] for c in parts), parts[0].decay, *widest)


def gradient_unit(gradient: Format, settings: OptimizerSettings) -> float:
    """What a word of a gradient counts in the batch's mean."""
    return 2.0**-gradient.frac / settings.batch_size


def _constant(factor: float, limit: int, mode: Rounding) -> tuple[float, torch.dtype]:
    """The 8-bit constant nearest to `factor`, and the type in which products of up to `limit` with it are exact."""
    constant = rate_constant(factor)
    reach = limit * constant.mantissa
    shift = useful_shift(reach, constant.shift)
    return constant.mantissa * 2.0**-shift, carrier(reach, shift, mode)
