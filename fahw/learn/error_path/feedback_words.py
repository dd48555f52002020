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
from fahw.layers.weighted import Weighted
from fahw.learn.kernels.generator import lfsr_codes
from fahw.learn.state.scales import Scales
from fahw.network.feedback_matrices import NetworkMatrices
from fahw.network.graph import Network
from fahw.prng import derive, row_seeds
from fahw.rules.rule import MIRROR_SAMPLES, Rule

Draw = Callable[[Weighted, int], Tensor]
"""A function that draws a layer's own numbers, given the number of the draw: shaped as the layer's feedback matrix,
signed where the rule's sign is its own, else magnitudes."""


class FeedbackWords(Protocol):
    """A source of feedback words in one arithmetic: of every entry that the layer's matrix has (`stored_shape`)."""

    matrices: NetworkMatrices
    """The matrices whose entries it draws."""
    seed: int
    """What it draws from."""

    def signed(self, layer: Weighted, draw: int) -> Tensor:
        """Draw number `draw` of numbers of both signs."""

    def magnitudes(self, layer: Weighted, draw: int) -> Tensor:
        """Draw number `draw` of magnitudes."""

    def signs(self, layer: Weighted) -> Tensor:
        """The layer's own signs, -1 and 1; the caller may change them."""

    def binary(self, layer: Weighted) -> Tensor:
        """The one magnitude of a layer's words with the layer's own signs."""

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
        self._scales, self.seed = scales, seed
        self._bits = rule.operand_bits(precision.bits("feedback"))
        self.matrices = NetworkMatrices(network, rule)
        self._dtype = word_dtype(max(scales[layer.name].feedback.bits for layer in network.weighted))

    def signed(self, layer: Weighted, draw: int) -> Tensor:
        """Codes of the feedback generator, less half their range; odd and symmetric at 4 bits and below."""
        codes = self._codes(layer, draw, self._bits).astype(np.int32)
        half = 1 << (self._bits - 1)
        return self._words(layer, 2 * codes + 1 - 2 * half if self._bits <= 4 else codes - half)

    def magnitudes(self, layer: Weighted, draw: int) -> Tensor:
        """Codes of the feedback generator of a bit less; odd at 4 bits and below, 1 where one bit is all."""
        if self._bits == 1:
            return torch.ones(self.matrices.named[layer.name].stored_shape, dtype=self._dtype)
        codes = self._codes(layer, draw, self._bits - 1)
        return self._words(layer, 2 * codes.astype(np.int32) + 1 if self._bits <= 4 else codes)

    def signs(self, layer: Weighted) -> Tensor:
        """Codes of the feedback generator of one bit."""
        return self._words(layer, 2 * self._codes(layer, 0, 1).astype(np.int32) - 1)

    def binary(self, layer: Weighted) -> Tensor:
        """The signs, as the layer's scale holds the constant."""
        return self.signs(layer)

    def _codes(self, layer: Weighted, draw: int, bits: int) -> NDArray[np.integer]:
        """Codes of `bits` bits, one register per row of entries."""
        shape = self.matrices.named[layer.name].stored_shape
        seeds = row_seeds(derive(self.seed, "feedback", layer.name), shape[0], draw)
        return lfsr_codes(seeds, int(np.prod(shape[1:])), bits)

    def _words(self, layer: Weighted, codes: NDArray[np.integer]) -> Tensor:
        shape = self.matrices.named[layer.name].stored_shape
        if codes.dtype == np.uint8 and self._dtype == torch.int8:  # magnitudes of up to 7 bits
            return torch.from_numpy(np.ascontiguousarray(codes).view(np.int8)).view(shape)
        return torch.from_numpy(codes.astype(np.int8 if self._dtype == torch.int8 else np.float32)).view(shape)

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
        self._gain, self.seed, self._dtype = gain, seed, dtype
        self.matrices = NetworkMatrices(network, rule)

    def signed(self, layer: Weighted, draw: int) -> Tensor:
        """Uniform numbers in +-gain * sqrt(3) * std."""
        return self._uniform(layer, draw).to(self._dtype)

    def magnitudes(self, layer: Weighted, draw: int) -> Tensor:
        """The magnitudes of such numbers."""
        return self._uniform(layer, draw).abs().to(self._dtype)

    def signs(self, layer: Weighted) -> Tensor:
        """The signs of the first draw of such numbers."""
        return self.sign(self._uniform(layer, 0))

    def binary(self, layer: Weighted) -> Tensor:
        """The signs times the constant."""
        return self.signs(layer).mul_(self._gain_of(layer) * self.matrices.named[layer.name].std)

    def _uniform(self, layer: Weighted, draw: int) -> Tensor:
        matrix = self.matrices.named[layer.name]
        generator = torch.Generator().manual_seed(derive(self.seed, "feedback", layer.name, draw))
        uniform = torch.rand(matrix.stored_shape, generator=generator, dtype=torch.float64)
        return (2 * uniform - 1) * (self._gain_of(layer) * 3**0.5 * matrix.std)

    def _gain_of(self, layer: Weighted) -> float:
        return self._gain if self.matrices.named[layer.name].has_gain else 1.0

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """Inputs of -1 and 1, `(samples, *input shape)`, to mirror the layer's weights with."""
        generator = torch.Generator().manual_seed(derive(self.seed, "mirror", layer.name, draw))
        samples = -(-MIRROR_SAMPLES // layer.positions)
        return torch.randint(2, (samples, *layer.in_shape), generator=generator).to(self._dtype).mul_(2).sub_(1)

    def constant(self, layer: Weighted) -> Tensor | None:
        """The gain times Xavier's standard deviation, a scalar."""
        return torch.tensor(self._gain_of(layer) * self.matrices.named[layer.name].std, dtype=self._dtype)

    def sign(self, weight: Tensor) -> Tensor:
        """-1 or +1 by the weight's sign; zero, also minus zero, is plus."""
        return torch.where(weight < 0, -1.0, 1.0).to(self._dtype)

    def copy(self, layer: Weighted, weight: Tensor) -> Tensor:
        """The weights themselves."""
        return weight
