"""An optimizer with its constants, and its updates in floating point; checks of what can move no weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fahw.errors import Problem
from fahw.formats.fixed_point import MU_BITS, RANDOM_BITS, Format
from fahw.formats.number import Float
from fahw.formats.precision import Rounding
from fahw.formats.quantise import quantise
from fahw.learn.state.parameters import Parameters
from fahw.learn.state.scales import Scales
from fahw.network.recipe import Recipe, Tuning
from fahw.optimizers import OPTIMIZERS, Optimizer

_MOST_OF_A_QUOTIENT = 4
"""Adam's directions are a few units at most: (1 - b1) / sqrt(1 - b2) = 3.2 by default."""


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer and its constants. `clip`: largest magnitude of a mean gradient; gradients are sums over
    `batch_size`."""

    name: str
    momentum: float
    second_moment: float
    weight_decay: float
    clip: float | None
    batch_size: int

    @classmethod
    def of(cls, tuning: Tuning, batch_size: int) -> OptimizerSettings:
        """The settings that a recipe gives."""
        moments = tuning.momentum, tuning.second_moment
        return cls(tuning.optimizer, *moments, tuning.weight_decay, tuning.clip, batch_size)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, found by its name: checkpoints hold no functions."""
        return OPTIMIZERS[self.name]

    @property
    def in_words(self) -> OptimizerSettings:
        """The settings with the constants that integers are multiplied by: momentum in 8 fraction bits."""
        if self.optimizer.is_float:
            return self
        return replace(self, momentum=round(self.momentum * (1 << MU_BITS)) / (1 << MU_BITS))

    def factor(self, rate: float) -> float:
        """What the direction is multiplied by; directions that grow with the gradient are sums over the batch."""
        return rate / self.batch_size if self.optimizer.linear else rate

    def direction(self, states: Sequence[Tensor], gradient: Tensor, step: int) -> Tensor:
        """What weights move along, in floating point; the states are updated in place."""
        if self.clip is not None:
            gradient = gradient.clamp(-self.clip * self.batch_size, self.clip * self.batch_size)
        result, new = self.optimizer.direction(Real(self), gradient, list(states), step)
        for state, value in zip(states, new, strict=True):
            if value is not state:
                state.copy_(value)
        direction: Tensor = result
        return direction

    def with_states(self, p: Parameters) -> Parameters:
        """The parameters with zeros for every state that the optimizer keeps of them."""
        return replace(p, states=self._states(p.master), bias_states=() if p.bias is None else self._states(p.bias))

    def _states(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(x) for _ in range(self.optimizer.states))


class Real:
    """The `Unit` of floating point."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self.momentum, self.second_moment = settings.momentum, settings.second_moment
        self._batch_size = settings.batch_size

    def blend(self, state: Tensor, gradient: Tensor, keep: bool = False) -> Tensor:
        return (state.clone() if keep else state).mul_(self.momentum).add_(gradient)

    def sign(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def real(self, gradient: Tensor) -> Tensor:
        return gradient / gradient.new_full((), self._batch_size)  # by a mere number's reciprocal CUDA multiplies

    def root(self, x: Tensor) -> Tensor:
        return root(x)


def root(x: Tensor) -> Tensor:
    """The square root, by numpy, whose root is correctly rounded; torch's may be the last bit off."""
    return torch.from_numpy(np.sqrt(x.cpu().numpy())).to(x.device)


def direction_format(optimizer: Optimizer, gradient: Format, velocity: Format) -> Format:
    """The format of the words that a weight moves along, times the rate."""
    if optimizer.direction_format == "real":
        return Format(_MOST_OF_A_QUOTIENT.bit_length(), 0)
    return {"gradient": gradient, "velocity": velocity, "sign": Format(1, 0)}[optimizer.direction_format]


def underflows(
    recipe: Recipe, tuning: Tuning, scales: dict[str, Scales], mode: Rounding, random_bits: int = RANDOM_BITS
) -> Iterator[Problem]:
    """The problems of what can move no word of a layer's weights, whatever the gradient: rates, decay and clipping too
    small for it."""
    least = _least(mode, random_bits)
    settings = OptimizerSettings.of(tuning, recipe.batch_size)
    rate = recipe.highest_rate(tuning)
    for name, s in scales.items():
        along = direction_format(settings.optimizer, s.gradient, s.velocity)
        largest = along.limit * settings.factor(rate) * 2.0 ** (s.master.frac - along.frac)
        if not _moves(largest, mode, random_bits):
            message = f"{rate:g} moves no weight of '{name}': the largest step is {largest:.2g} of the master's unit,"
            yield Problem("recipe.learning_rate", f"{message} {least}: raise it or precision.master")
        taken = rate * settings.weight_decay * s.master.limit
        if settings.weight_decay and not _moves(taken, mode, random_bits):
            message = f"{settings.weight_decay:g} at the learning rate {rate:g} takes at most {taken:.2g} units off a"
            yield Problem("recipe.weight_decay", f"{message} master of '{name}', {least}: raise it")
        if settings.clip is not None and clip_word(settings.clip, recipe.batch_size, s.gradient) == 0:
            unit = 2.0**-s.gradient.frac / recipe.batch_size
            message = f"{settings.clip:g} is less than half a unit ({unit:.2g}) of the gradients of '{name}'"
            yield Problem("recipe.clip", f"{message}: raise it or precision.gradient")


def clip_word(clip: float, batch_size: int, gradient: Format) -> int:
    """The largest gradient word that clipping leaves."""
    return min(gradient.limit, round(clip * batch_size * 2.0**gradient.frac))


def float_underflows(recipe: Recipe, tuning: Tuning, form: Float) -> Iterator[Problem]:
    """The problem of a rate that is zero in the float format of the masters."""
    settings, rate = OptimizerSettings.of(tuning, recipe.batch_size), recipe.highest_rate(tuning)
    if float(quantise(torch.tensor(settings.factor(rate), dtype=torch.float64), form)) == 0:
        said = f" / batch size = {settings.factor(rate):.2g}" if settings.optimizer.linear else ""
        message = f"{rate:g}{said} is zero in {form.name}, whose smallest number is {form.smallest:.2g}"
        yield Problem("recipe.learning_rate", f"{message}: raise it or precision.master")


def _moves(largest: float, mode: Rounding, random_bits: int) -> bool:
    """Whether steps of up to `largest` units ever round to one."""
    if mode == "stochastic":
        return largest >= 2.0**-random_bits
    return largest > 0.5 if mode == "nearest" else largest >= 1


def _least(mode: Rounding, random_bits: int) -> str:
    least = {"stochastic": f"{2.0**-random_bits:g}", "nearest": "more than 0.5", "floor": "1"}[mode]
    return f"rounding ({mode}) needs {least}"
