"""What goes along the error path where that is not the error as it is: ternary errors, targets, pruned errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch import Tensor

from fahw.formats.fixed_point import Format
from fahw.learn.kernels import compiled
from fahw.rules.rule import Rule
from fahw.rules.signals import TERNARY_THRESHOLD, TERNARY_UNIT


@dataclass(frozen=True)
class IntegerSignals:
    """The `fahw.rules.signals.Signals` in words, `(classes, n)`, given the output error in words of `frac` fraction
    bits."""

    output_error: Tensor
    labels: Tensor
    frac: int

    def error(self) -> Tensor:
        """The error's words."""
        return self.output_error

    def ternary(self) -> Tensor:
        """Words -1, 0 and 1."""
        error, threshold = self.output_error, int(TERNARY_THRESHOLD * 2.0**self.frac)
        return (error > threshold).to(error.dtype) - (error < -threshold).to(error.dtype)  # -128 has no size in a byte

    def targets(self) -> Tensor:
        """The labels, one-hot."""
        return torch.zeros_like(self.output_error).scatter_(0, self.labels[None], 1)


@dataclass(frozen=True)
class FloatSignals:
    """The `fahw.rules.signals.Signals` in floating point, given the output error."""

    output_error: Tensor
    labels: Tensor

    def error(self) -> Tensor:
        """The error itself."""
        return self.output_error

    def ternary(self) -> Tensor:
        """Its ternary form."""
        return ternary(self.output_error)

    def targets(self) -> Tensor:
        """The labels."""
        return self.labels


def ternary(error: Tensor, unit: float = 1.0) -> Tensor:
    """The error, which lies in +-unit, as -1, 0 or 1 times `TERNARY_UNIT`: 0 up to a threshold of its size."""
    is_large = error.abs() > TERNARY_THRESHOLD * unit
    return error.sign().mul_(is_large).mul_(TERNARY_UNIT * unit)


def pruned_words(error: Tensor, rule: Rule, random: Tensor, form: Format) -> Tensor:
    """The error words after what `pruned` does to floats: the threshold is a word, its factor has 8 fraction bits, a
    chance is a byte of `random`."""
    factor, largest_threshold = pruning_factor(rule), max(1, form.limit - 1)
    compiled_words = compiled.pruned(error, random, factor, largest_threshold)
    if compiled_words is not None:
        return compiled_words
    size = error.to(torch.int32).abs_()
    total, count = int(size.sum()), int(size.count_nonzero())
    if not count:
        return error
    threshold = min((2 * total * factor + (count << 8)) // (count << 9), largest_threshold)
    rounds_up = (size << 8) > random.view(error.shape).to(torch.int32) * threshold
    return torch.where(size >= threshold, error, error.sign() * (rounds_up * threshold).to(error.dtype))


def pruning_factor(rule: Rule) -> int:
    """The factor from the mean size of errors to the pruning threshold, an integer with 8 fraction bits."""
    return round(256 * rule.pruning_threshold * sqrt(pi / 2))


def pruned(error: Tensor, rule: Rule, generator: torch.Generator) -> Tensor:
    """The errors, of which those below the threshold t became t with their sign, by a chance of size / t, or else zero:
    the mean over the draws is the error itself.

    t follows from the mean size of the errors that are not zero, as if they were normal (Ye et al. 2019; Hong and Yue
    2021).
    """
    size = error.abs()
    mean = size.sum() / size.count_nonzero().clamp(min=1)
    threshold = rule.pruning_threshold * sqrt(pi / 2) * mean
    chance = torch.rand(error.shape, generator=generator, dtype=torch.float64).to(error.device, error.dtype)
    rounded = torch.where(size > chance * threshold, error.sign() * threshold, 0.0)
    return torch.where(size >= threshold, error, rounded)
