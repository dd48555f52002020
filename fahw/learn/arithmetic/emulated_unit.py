"""The operations of layers without weights in emulation: real numbers, rounded into their formats."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fahw.formats.functions import Function
from fahw.formats.number import Number
from fahw.formats.precision import Precision, Rounding, RoundingModes
from fahw.formats.quantise import emulation_dtype, quantise
from fahw.formats.rounding import Noise, noise
from fahw.layers.layer import Layer
from fahw.layers.pooling import Pooling
from fahw.learn.arithmetic.float_unit import REAL
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.arithmetic.softmax import relu_error
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.rounding_losses import RoundingLosses
from fahw.learn.state.scales import Scales, output_fraction_bits
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr

_RELATIVE = ("weight", "feedback", "activation", "error", "master")
"""Tensors whose given scale is in `Scales` already; a master's follows from the weight's unless it is given."""


class EmulatedUnit(Floating):
    """Operations whose results are rounded: into the activation's format, to the nearest save for sums of several
    layers' outputs and what a float unit yields, and into the error's. `scales` hold the static scales, `random` is the
    rounding generator."""

    def __init__(
        self, network: Network, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        tuning: Tuning, batch_size: int, random: Lfsr, seed: int = 0, norm_samples: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tuning.momentum, batch_size, emulation_dtype(precision), seed, tuning, norm_samples)
        self._precision, self._modes, self._scales, self._lfsr = precision, rounding, scales, random
        self._fracs = output_fraction_bits(network, precision, scales)
        self._last = network.weighted[-1].name
        self._losses: RoundingLosses | None = None
        self._error_frac = scales[self._last].error.frac

    @property
    def generators(self) -> tuple[Lfsr, ...]:
        """Those of dropout and of rounding."""
        return (*super().generators, self._lfsr)

    def clamped(self, layer: Layer, x: Tensor, low: int | None, high: int | None) -> Tensor:
        """The values between both limits; zero is a number of every format, others are rounded."""
        y = super().clamped(layer, x, low, high)
        return y if {low, high} <= {0, None} else self._value(layer, y)

    def function(self, layer: Layer, x: Tensor, function: Function) -> Tensor:
        """The function of every value."""
        return self._value(layer, super().function(layer, x, function))

    def joined(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs, one behind the other."""
        return self._value(layer, super().joined(layer, inputs))

    def added(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The sum, rounded as activations are."""
        return self._value(layer, super().added(layer, inputs), self._modes.activation)

    def multiplied(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The product of the two inputs."""
        return self._value(layer, super().multiplied(layer, inputs))

    def scaled(self, layer: Layer, x: Tensor, factors: Tensor) -> Tensor:
        """The values times the factors."""
        return self._value(layer, super().scaled(layer, x, factors))

    def window_means(self, layer: Pooling, x: Tensor) -> Tensor:
        """The means."""
        return self._value(layer, super().window_means(layer, x))

    def window_sums(self, layer: Pooling, x: Tensor) -> Tensor:
        """The sums."""
        return self._value(layer, super().window_sums(layer, x))

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> Tensor:
        """The output of a float unit, rounded as activations are."""
        return self._value(layer, super().normalised(layer, parameters, x), self._modes.activation)

    def passed(self, layer: Layer, error: Tensor, values: Tensor, low: int, high: int | None) -> Tensor:
        """The errors of the values between both limits; without an upper one, below the top word of a fixed scale."""
        if (low, high) == (0, None) and self._precision.is_static("activation"):
            return relu_error(values * 2.0 ** self._fracs[layer.name], error, self._precision.bits("activation"))
        return super().passed(layer, error, values, low, high)

    def times_derivative(self, layer: Layer, error: Tensor, values: Tensor, derivative: Function) -> Tensor:
        """The errors times the derivative at the layer's outputs."""
        return self._nearest_error(super().times_derivative(layer, error, values, derivative))

    def times_function(self, layer: Layer, error: Tensor, x: Tensor, function: Function) -> Tensor:
        """The errors times the function of the layer's inputs, in words that have two bits before the point."""
        factors: Tensor = function(REAL, x)
        digits = max(0, self._precision.bits("activation") - 2)
        return self._nearest_error(error * self._into("activation", factors, digits))

    def times_values(self, layer: Layer, error: Tensor, inputs: Sequence[Tensor], number: int) -> Tensor:
        """The errors times the other input, summed up over an image that the input multiplied."""
        return self._nearest_error(super().times_values(layer, error, inputs, number))

    def scaled_error(self, error: Tensor, factors: Tensor) -> Tensor:
        """The errors times the factors."""
        return self._nearest_error(super().scaled_error(error, factors))

    def error_share(self, error: Tensor, parts: int) -> Tensor:
        """The errors divided by a number."""
        return self._nearest_error(super().error_share(error, parts))

    def error_at_maxima(self, layer: Pooling, error: Tensor, where: Tensor) -> Tensor:
        """The errors added up at the places of the maxima."""
        return self._nearest_error(super().error_at_maxima(layer, error, where))

    def error_over_windows(self, layer: Pooling, error: Tensor) -> Tensor:
        """The errors at every pixel of their windows, summed."""
        return self._nearest_error(super().error_over_windows(layer, error))

    def normalised_error(
        self, layer: Layer, parameters: Parameters, x: Tensor, error: Tensor
    ) -> tuple[Tensor, Gradient]:  # fmt: skip
        """The error through a float unit, rounded once, and the gradient sums."""
        below, gradient = super().normalised_error(layer, parameters, x, error)
        return self._into("error", below, self._error_frac, self._modes.error), gradient

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum, rounded to the nearest."""
        return self._nearest_error(super().summed(errors))

    def _value(self, layer: Layer, y: Tensor, mode: Rounding = "nearest") -> Tensor:
        """A layer's output in its format."""
        return self._into("activation", y, self._fracs[layer.name], mode)

    def _nearest_error(self, error: Tensor) -> Tensor:
        """The errors rounded to the nearest; one bit has no zero, and keeps those that masks and windows leave."""
        rounded = self._into("error", error, self._error_frac)
        return torch.where(error == 0, error, rounded)

    def _into(
        self, kind: str, x: Tensor, frac: int, mode: Rounding = "nearest", channel: int | None = None,
        place: tuple[str, str] | None = None,
    ) -> Tensor:  # fmt: skip
        """Numbers rounded into the format of `kind`; `place`: layer and tensor, where losses are noted."""
        form, scale = self._precision.number(kind), getattr(self._precision.scale, kind)
        unit: float | Tensor = 2.0 ** -(frac if kind in _RELATIVE else self._precision.scale.fraction_bits(kind, frac))
        if self._precision.is_dynamic(kind):
            unit = form.unit_of(x, channel if scale == "per_channel" else None)
        rounded = quantise(x, form, unit, mode, self._noise(x, form, mode))
        if self._losses is not None and place is not None:
            self._losses.rounded(*place, x, rounded, form, unit)
        return rounded

    def _noise(self, x: Tensor, form: Number, mode: Rounding) -> Noise | None:
        return noise(self._lfsr, x.shape, self._modes.random_bits, x.device) if form.needs_noise(mode) else None
