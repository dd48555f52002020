"""The step in formats that the integers do not cover: small floats, ternary words, scales that follow the values.

Values are real numbers in float64 where the accumulator is fixed point, so that every sum of products is exact, and in
float32 where it is a float: then the order of a sum, and what its partial sums lose, are PyTorch's and not the chip's.
Every operand and every result is rounded into its format where the chip would round it (`fahw.formats.quantise`).
Accumulators of fixed point do not wrap here; what could overflow is named before training.

Random bytes are taken as tensors are rounded, in the order of memory, samples first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fahw.datasets.images import Pixels
from fahw.formats.fixed_point import MU_BITS, rate_constant
from fahw.formats.number import Fixed, Number
from fahw.formats.quantise import quantise
from fahw.formats.rounding import Noise
from fahw.layers.layer import INPUT, Layer
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.emulated_unit import EmulatedUnit
from fahw.learn.arithmetic.floating import initial_weights
from fahw.learn.arithmetic.softmax import softmax_error
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.rounding_losses import RoundingLosses, count_stagnated, share
from fahw.learn.update.optimizer import OptimizerSettings, Real
from fahw.prng import Lfsr

_WIDE = Fixed(63, -(1 << 62), 1 << 62)
"""A change of a word before it is subtracted: it cannot saturate."""


class Emulated(EmulatedUnit):
    """The `Arithmetic` of one training; `scales` hold the static scales, `random` is the rounding generator."""

    def _drawn(self, layer: Layer, seed: int) -> Parameters:
        """One layer's parameters before training: drawn, rounded into the master format, and from there into the
        weight's."""
        if not isinstance(layer, Weighted):
            return super()._drawn(layer, seed)
        s = self._scales[layer.name]
        drawn = torch.from_numpy(initial_weights(layer, seed)).to(self._dtype)
        master = self._into("master", drawn, s.master.frac, channel=0)
        weight = self._into("weight", master, s.weight.frac, channel=0)
        return Parameters(weight, master, torch.zeros(layer.biases, dtype=self._dtype) if layer.bias else None)

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """The pixels as numbers in [0, 1], whose scale is static where the format takes one; of one bit 0 or 1."""
        x, form = super().encode(pixels, maximum), self._precision.number("activation")
        if form.bits == 1:
            return (2 * x >= 1).to(x.dtype)
        return quantise(x, form, form.unit_of(x) if form.follows_values else 2.0 ** -self._fracs[INPUT])

    def weighted(self, layer: Weighted, parameters: Parameters, operand: Tensor) -> Tensor:
        """The outputs: sums of products with the bias, rounded into the output format."""
        acc = self._accumulated(super().weighted(layer, self._aligned(layer, parameters), operand))
        frac, place = self._scales[layer.name].output.frac, (layer.name, "activation")
        return self._into("activation", acc, frac, self._modes.activation, place=place)

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error and the loss: the integer step's between words of static scale, else in float and rounded
        once."""
        s, mode, kinds = self._scales[self._last], self._modes.of_output_error, ("activation", "error")
        forms = [self._precision.number(kind) for kind in kinds]
        if not all(self._precision.is_static(kind) for kind in kinds):
            error, loss = super().loss(logits, labels)
            return self._into("error", error, s.delta.frac, mode), loss
        words = (logits.t() * 2.0**s.output.frac).long()
        by_sample = self._noise(logits, forms[1], mode)
        noise = Noise(by_sample.draws.t(), by_sample.bits) if by_sample else None
        error, loss = softmax_error(words, labels, forms[0].bits, s.output.frac, s.delta, mode, noise)
        return quantise(error.t().to(self._dtype) * 2.0**-s.delta.frac, forms[1], 2.0**-s.delta.frac), loss

    def error(self, layer: Weighted, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's input, summed up and rounded into the error format."""
        return self._sent_down(layer, super().error(layer, delta, feedback))

    def direct_error(self, layer: Weighted, signal: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's input, summed up and rounded into the error format."""
        return self._sent_down(layer, super().direct_error(layer, signal, feedback))

    def gradient(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """The gradient sums as the accumulator holds them."""
        sums = super().gradient(layer, delta, operand)
        return Gradient(self._accumulated(sums.weight), None if sums.bias is None else self._accumulated(sums.bias))

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move states, masters and forward words in place, each rounded; batch norms in float."""
        norms = {name: p for name, p in parameters.items() if name not in self._scales}
        super().update(norms, {name: g for name, g in gradients.items() if name in norms}, rate, step)
        for name, s in ((name, s) for name, s in self._scales.items() if name in gradients):
            p, g = parameters[name], gradients[name]
            fracs = s.gradient.frac, s.velocity.frac, s.master.frac
            self._update_tensor(_Target(name, p.master, p.states, False), g.weight.view_as(p.master), fracs, rate, step)
            p.weight.copy_(self._into("weight", p.master, s.weight.frac, channel=0, place=(name, "weight")))
            if p.bias is not None and g.bias is not None:
                fracs = s.bias_gradient.frac, s.bias_velocity.frac, s.bias.frac
                self._update_tensor(_Target(name, p.bias, p.bias_states, True), g.bias, fracs, rate, step)

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Self:
        """The arithmetic as in floating point, with random bytes of its own."""
        other = super().evaluator(seed, batch_statistics)
        other._lfsr = Lfsr(seed)
        return other

    def watch(self, losses: RoundingLosses | None) -> None:
        """From now on count what is lost wherever something is rounded; None: no longer."""
        self._losses = losses

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """The share of weights, masters and velocities at an end of their range, by kind: of those with static scales;
        formats of one bit are left out."""
        stored: dict[str, list[Tensor]] = {"weight": [], "master": [], "optimizer": []}
        for name, p in ((name, p) for name, p in parameters.items() if name in self._scales):
            s = self._scales[name]
            first = [("optimizer", state, s.velocity) for state in p.states[:1]]
            for kind, x, form in (("weight", p.weight, s.weight), ("master", p.master, s.master), *first):
                stored[kind].append(self._precision.number(kind).at_ends(x, 2.0**-form.frac).flatten())
        shown = [kind for kind in stored if self._precision.bits(kind) > 1 and not self._precision.is_dynamic(kind)]
        return {kind: share(stored[kind]) for kind in shown}

    def _update_tensor(
        self, target: _Target, slope: Tensor, fracs: tuple[int, int, int], rate: float, step: int
    ) -> None:
        """Move a tensor and its states in place. A word of static scale is changed by a whole number of units, what has
        another scale is rounded after the subtraction. `fracs`: of gradient, state and master."""
        settings, form = self._settings, self._precision.number("master")
        g = self._into("gradient", slope, fracs[0], self._modes.gradient, target.channel, target.place("gradient"))
        if settings.clip is not None:
            clip = torch.tensor(settings.clip * settings.batch_size, dtype=g.dtype)
            most = float(self._into("gradient", clip, fracs[0]))
            g = g.clamp(-most, most)
        unit = _Rounding(self, target, fracs[1])
        direction, new = settings.optimizer.direction(unit, g, list(target.states), step)
        for state, value in zip(target.states, new, strict=True):
            state.copy_(value)
        if settings.weight_decay and not target.is_bias:
            self._subtract(target, target.master * rate_factor(rate * settings.weight_decay, form), fracs[2], None)
        factor = settings.factor(rate)
        if not settings.optimizer.is_float:
            factor = rate_factor(factor, form)
        self._subtract(target, direction * factor, fracs[2], target.place("master"))

    def _subtract(self, target: _Target, change: Tensor, frac: int, place: tuple[str, str] | None) -> None:
        """Subtract the change from the master and round."""
        form, mode, exact = self._precision.number("master"), self._modes.update, target.master - change
        whole = self._precision.is_static("master")
        if whole:
            rounded = quantise(change, _WIDE, 2.0**-frac, mode, self._noise(change, _WIDE, mode))
            new = self._into("master", target.master - rounded, frac)
        else:
            new = self._into("master", exact, frac, mode, target.channel)
        if self._losses is not None and place is not None:
            stagnation = count_stagnated(change * 2.0**frac, mode, self._modes.random_bits)
            stagnation = stagnation if whole else _unchanged(target.master, new, change)
            unit = 2.0**-frac if whole else float("inf")  # a scale that follows its tensor holds it
            self._losses.changed(*place, exact, form, unit, stagnation)
        target.master.copy_(new)

    @property
    def settings(self) -> OptimizerSettings:
        """The optimizer and its constants."""
        return self._settings

    def blended(self, target: _Target, exact: Tensor, frac: int) -> Tensor:
        """A sum with a state, in the optimizer's format."""
        return self._into("optimizer", exact, frac, self._modes.update, target.channel, target.place("velocity"))

    @property
    def momentum(self) -> float:
        """The momentum as the chip holds it."""
        return momentum_constant(self._settings.momentum, self._precision.number("optimizer"))

    def _aligned(self, layer: Weighted, parameters: Parameters) -> Parameters:
        """The parameters with the bias in units of the products, where the accumulator is fixed point and these are
        known."""
        dynamic = any(self._precision.is_dynamic(kind) for kind in ("weight", "activation"))
        if parameters.bias is None or dynamic or self._precision.number("accumulator").has_exponent:
            return parameters
        s = self._scales[layer.name]
        unit = 2.0 ** -(s.input.frac + s.weight.frac)
        return replace(parameters, bias=quantise(parameters.bias, _WIDE, unit))

    def _sent_down(self, layer: Weighted, acc: Tensor) -> Tensor:
        """An error at a layer's input, from its sums of products."""
        sums, place = self._accumulated(acc), (layer.name, "error")
        return self._into("error", sums, self._error_frac, self._modes.error, place=place)

    def _accumulated(self, acc: Tensor) -> Tensor:
        """A sum of products as the accumulator holds it in the end."""
        form = self._precision.number("accumulator")
        return quantise(acc, form) if form.has_exponent else acc


@dataclass(frozen=True, eq=False)
class _Target:
    """What an update changes of one layer: its weights, or its biases, with the optimizer's states of them."""

    layer: str
    master: Tensor
    states: tuple[Tensor, ...]
    is_bias: bool

    @property
    def channel(self) -> int | None:
        """The axis along which scales may differ."""
        return None if self.is_bias else 0

    def place(self, tensor: str) -> tuple[str, str]:
        """The layer and the tensor under which losses are counted."""
        named = {"master": "bias"}.get(tensor, f"bias_{tensor}")
        return self.layer, named if self.is_bias else tensor


class _Rounding(Real):
    """`Unit` of an optimizer in emulation: what it keeps is rounded, unless it is a unit declared float."""

    def __init__(self, arithmetic: Emulated, target: _Target, frac: int) -> None:
        super().__init__(arithmetic.settings)
        self._arithmetic, self._target, self._frac = arithmetic, target, frac
        if not arithmetic.settings.optimizer.is_float:
            self.momentum = arithmetic.momentum

    def blend(self, state: Tensor, gradient: Tensor, keep: bool = False) -> Tensor:
        return self._arithmetic.blended(self._target, state * self.momentum + gradient, self._frac)


def rate_factor(value: float, form: Number) -> float:
    """Learning rate / batch size as the chip holds it: a mantissa of 8 bits and a shift, or the nearest number of the
    float format that it changes."""
    if form.has_exponent:
        return float(quantise(torch.tensor(value, dtype=torch.float64), form))
    constant = rate_constant(value)
    return constant.mantissa * 2.0**-constant.shift


def momentum_constant(value: float, form: Number) -> float:
    """The momentum as the chip holds it: 8 fraction bits, or the nearest number of the float format."""
    if form.has_exponent:
        return float(quantise(torch.tensor(value, dtype=torch.float64), form))
    return round(value * (1 << MU_BITS)) / (1 << MU_BITS)


def _unchanged(old: Tensor, new: Tensor, change: Tensor) -> tuple[int, int]:
    """How many numbers stayed as they were, of those that were to change."""
    changes = change != 0
    return int(((old == new) & changes).sum()), int(changes.sum())
