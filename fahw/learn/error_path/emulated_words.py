"""The feedback words of an arithmetic in emulation."""

from __future__ import annotations

import torch
from torch import Tensor

from fahw.formats.precision import Precision
from fahw.formats.quantise import emulation_dtype, quantise
from fahw.layers.weighted import Weighted
from fahw.learn.error_path.feedback_words import FloatWords, IntegerWords
from fahw.learn.state.scales import Scales
from fahw.network.graph import Network
from fahw.rules.rule import Rule


class EmulatedWords(FloatWords):
    """Feedback words in the feedback format: numbers of the chip's own generator where they are integers of static
    scale, else Xavier-uniform numbers rounded to the nearest."""

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, scales: dict[str, Scales], gain: float, seed: int
    ) -> None:
        super().__init__(network, rule, gain, seed, emulation_dtype(precision))
        self._form, self._dynamic = precision.number("feedback"), precision.is_dynamic("feedback")
        self._channel = 1 if precision.scale.feedback == "per_channel" else None
        self._scales = scales
        integer = isinstance(precision.feedback, int) and not self._dynamic
        self._generated = IntegerWords(network, rule, precision, scales, seed) if integer else None

    def signed(self, layer: Weighted, draw: int) -> Tensor:
        """The generator's words, or rounded Xavier-uniform numbers."""
        if self._generated is not None:
            return self._valued(layer, self._generated.signed(layer, draw))
        return self._rounded(layer, super().signed(layer, draw))

    def magnitudes(self, layer: Weighted, draw: int) -> Tensor:
        """The magnitudes of such numbers."""
        if self._generated is not None:
            return self._valued(layer, self._generated.magnitudes(layer, draw))
        return self._rounded(layer, super().magnitudes(layer, draw))

    def signs(self, layer: Weighted) -> Tensor:
        """The generator's signs, or those of Xavier-uniform numbers."""
        return super().signs(layer) if self._generated is None else self._generated.signs(layer).to(self._dtype)

    def binary(self, layer: Weighted) -> Tensor:
        """The signs times the constant, rounded."""
        if self._generated is not None:
            return self._valued(layer, self._generated.binary(layer))
        return self._rounded(layer, super().binary(layer))

    def constant(self, layer: Weighted) -> Tensor | None:
        """The one magnitude of the layer's words: a power of two for fixed point, else the number nearest to Xavier's
        standard deviation."""
        exact = super().constant(layer)
        if exact is None or self._form.has_exponent:
            return None if exact is None else quantise(exact, self._form)
        return torch.tensor(self._unit(layer), dtype=self._dtype)

    def copy(self, layer: Weighted, weight: Tensor) -> Tensor:
        """The forward words, rounded to the nearest in the feedback format."""
        return self._rounded(layer, weight)

    def _valued(self, layer: Weighted, words: Tensor) -> Tensor:
        return words.to(self._dtype) * self._unit(layer)

    def _rounded(self, layer: Weighted, values: Tensor) -> Tensor:
        unit = self._form.unit_of(values, self._channel) if self._dynamic else self._unit(layer)
        return quantise(values, self._form, unit)

    def _unit(self, layer: Weighted) -> float:
        return float(2.0 ** -self._scales[layer.name].feedback.frac)
