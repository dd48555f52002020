"""The words that send the error back, as each arithmetic draws and stores them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.formats.fixed_point import requantise_, word_dtype
from fahw.formats.precision import Precision
from fahw.layers.layer import Shape
from fahw.layers.weighted import Weighted
from fahw.learn.kernels.generator import lfsr_codes
from fahw.learn.state.scales import Scales, feedback_std
from fahw.network.error_path import feedback_shape
from fahw.network.graph import Network
from fahw.prng import derive, row_seeds
from fahw.rules.rule import MIRROR_SAMPLES, Rule

Draw = Callable[[Weighted, int], Tensor]
"""A function that draws a layer's own numbers, given the number of the draw: shaped as the layer's feedback matrix,
signed where the rule's sign is its own, else magnitudes."""


class FeedbackWords(Protocol):
    """A source of feedback words in one arithmetic."""

    def own(self, layer: Weighted, draw: int) -> Tensor:
        """Draw number `draw` of the layer's own numbers; number 0 is the one that a rule with fixed numbers stores."""

    def constant(self, layer: Weighted) -> Tensor | None:
        """The one magnitude of a layer's words; None where it is 1 (the scale holds it)."""

    def sign(self, weight: Tensor) -> Tensor:
        """-1 where the forward word is below zero, else +1; the caller may change it."""

    def copy(self, layer: Weighted, weight: Tensor) -> Tensor:
        """The forward words in the feedback format."""

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """What step `draw` mirrors the layer's weights with, `(samples, *input shape)`."""


class IntegerWords:
    """Feedback words as the chip's generator and memories hold them: integers in int8, or in float32 above 8 bits."""

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, scales: dict[str, Scales], seed: int
    ) -> None:
        self._rule, self._scales, self._seed = rule, scales, seed
        self._bits = rule.operand_bits(precision.bits("feedback"))
        self._shapes = _shapes(network, rule)
        self._dtype = word_dtype(max(scales[layer.name].feedback.bits for layer in network.weighted))

    def own(self, layer: Weighted, draw: int) -> Tensor:
        """Codes of the feedback generator, one register per row; odd and symmetric at 4 bits and below."""
        shape, signed = self._shapes[layer.name], self._rule.sign == "own"
        bits = self._bits if signed else self._bits - 1
        if bits == 0:
            return torch.ones(shape, dtype=self._dtype)
        seeds = row_seeds(derive(self._seed, "feedback", layer.name), shape[0], draw)
        codes: NDArray[np.integer] = lfsr_codes(seeds, int(np.prod(shape[1:])), bits)
        if self._bits <= 4:
            codes = 2 * codes.astype(np.int32) + (1 - (1 << bits) if signed else 1)
        elif signed:
            codes = codes.astype(np.int32) - (1 << (bits - 1))
        if codes.dtype == np.uint8 and self._dtype == torch.int8:  # magnitudes of up to 7 bits
            return torch.from_numpy(np.ascontiguousarray(codes).view(np.int8)).view(shape)
        words = codes.astype(np.int8 if self._dtype == torch.int8 else np.float32)
        return torch.from_numpy(words).view(shape)

    def constant(self, layer: Weighted) -> Tensor | None:
        """None, as the layer's scale holds the constant: multiplying by it is a shift."""
        return None

    def sign(self, weight: Tensor) -> Tensor:
        """-1 or +1 from the sign bit of the word; zero is plus."""
        if weight.dtype == torch.int8:
            return weight.bitwise_right_shift(7).bitwise_or_(1).to(self._dtype)
        return (weight >= 0).to(self._dtype).mul_(2).sub_(1)

    def copy(self, layer: Weighted, weight: Tensor) -> Tensor:
        """The forward words in the feedback format: themselves where the formats are equal, signs for one bit, else
        rounded to the nearest and saturated."""
        scales = self._scales[layer.name]
        if scales.feedback == scales.weight and self._bits > 1:
            return weight
        if self._bits == 1:
            return self.sign(weight)
        shift = scales.weight.bits - self._bits
        return requantise_(weight.to(torch.float32, copy=True), shift, self._bits, "nearest").to(self._dtype)

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """Raises NotImplementedError: no rule that mirrors trains in integers (`check_trained`)."""
        raise NotImplementedError


class FloatWords:
    """Feedback words in floating point: Xavier-uniform numbers, Xavier's standard deviation as the constant."""

    def __init__(self, network: Network, rule: Rule, gain: float, seed: int, dtype: torch.dtype) -> None:
        self._rule, self._gain, self._seed, self._dtype = rule, gain, seed, dtype
        self._shapes = _shapes(network, rule)
        self._std = {layer.name: feedback_std(network, layer, rule) for layer in network.weighted}

    def own(self, layer: Weighted, draw: int) -> Tensor:
        """Draw number `draw` of the layer's own numbers: uniform in +-gain * sqrt(3) * std, or the magnitudes of that,
        or their signs times the constant."""
        generator = torch.Generator().manual_seed(derive(self._seed, "feedback", layer.name, draw))
        uniform = torch.rand(self._shapes[layer.name], generator=generator, dtype=torch.float64)
        signed = (2 * uniform - 1) * (self._gain * 3**0.5 * self._std[layer.name])
        if self._rule.magnitude == "constant":
            return self.sign(signed).mul_(self._gain * self._std[layer.name])
        return (signed if self._rule.sign == "own" else signed.abs()).to(self._dtype)

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """Inputs of -1 and 1, `(samples, *input shape)`, to mirror the layer's weights with."""
        generator = torch.Generator().manual_seed(derive(self._seed, "mirror", layer.name, draw))
        samples = -(-MIRROR_SAMPLES // layer.positions)
        return torch.randint(2, (samples, *layer.in_shape), generator=generator).to(self._dtype).mul_(2).sub_(1)

    def constant(self, layer: Weighted) -> Tensor | None:
        """The gain times Xavier's standard deviation, a scalar."""
        return torch.tensor(self._gain * self._std[layer.name], dtype=self._dtype)

    def sign(self, weight: Tensor) -> Tensor:
        """-1 or +1 by the weight's sign; zero, also minus zero, is plus."""
        return torch.where(weight < 0, -1.0, 1.0).to(self._dtype)

    def copy(self, layer: Weighted, weight: Tensor) -> Tensor:
        """The weights themselves."""
        return weight


def _shapes(network: Network, rule: Rule) -> dict[str, Shape]:
    direct, tiled = rule.path == "direct", network.dfa_feedback == "tiled"
    return {layer.name: feedback_shape(layer, network.classes, direct, tiled) for layer in network.weighted}
