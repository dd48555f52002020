"""The feedback words of a wrapped torch layer, drawn on its device and kept in its buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fahw.errors import ConfigError, Problem
from fahw.learn.torch_modules.autograd_call import LayerState
from fahw.learn.torch_modules.weighted_products import xavier_uniform
from fahw.network.feedback_matrices import FeedbackMatrix, kept_rows


class FeedbackBuffers(Protocol):
    """A layer that keeps feedback matrices: one, or two where the rule has two."""

    fahw: LayerState
    fahw_feedback: Tensor | None
    fahw_narrow: Tensor | None
    weight: Tensor


@dataclass(frozen=True)
class ModuleWords:
    """The `fahw.rules.sources.DrawnWords` of one matrix of a layer in training-mode forward pass number `draw`."""

    layer: FeedbackBuffers
    matrix: FeedbackMatrix
    draw: int

    def signed(self) -> Tensor:
        """Xavier-uniform numbers."""
        return self._stored(lambda: self.drawn(0))

    def magnitudes(self) -> Tensor:
        """The magnitudes of such numbers."""
        return self._stored(lambda: self.drawn(0).abs())

    def binary(self) -> Tensor:
        """Xavier's standard deviation with the signs of such numbers."""
        return self._stored(self._binary)

    def constant(self) -> Tensor:
        """Xavier's standard deviation, a scalar."""
        return self.layer.weight.new_full((), self.matrix.std)

    def redrawn(self) -> Tensor:
        """Magnitudes of the forward pass."""
        return self._placed(self.drawn(self.draw).abs())

    def with_own_signs(self, magnitudes: Tensor) -> Tensor:
        """The magnitudes with the signs of the first draw."""
        return magnitudes * self._stored(lambda: torch.where(self.drawn(0) < 0, -1.0, 1.0).to(magnitudes))

    def drawn(self, number: int) -> Tensor:
        """Draw number `number` of Xavier-uniform numbers, one for every entry that the matrix has."""
        matrix, state = self.matrix, self.layer.fahw
        parts = (state.seed, "feedback", matrix.name, number)
        return xavier_uniform(matrix.stored_shape, matrix.fans, self.layer.weight, *parts)

    def _binary(self) -> Tensor:
        drawn, std = self.drawn(0), self.matrix.std
        return torch.where(drawn < 0, -std, std).to(drawn.dtype)

    def _stored(self, make: Callable[[], Tensor]) -> Tensor:
        """What the layer keeps of the matrix, drawn when first needed. Raises ConfigError where that has another
        shape."""
        buffer = "fahw_feedback" if self.matrix.has_gain else "fahw_narrow"
        stored: Tensor | None = getattr(self.layer, buffer)
        if stored is None:
            stored = self._placed(make())
            setattr(self.layer, buffer, stored)
        if stored.shape != self.matrix.shape:
            message = f"its feedback matrix is {tuple(stored.shape)} (outputs, inputs), but {self.matrix.shape} is"
            raise ConfigError(Problem(f"layer '{self.layer.fahw.name}'", f"{message} needed now; keep the image size"))
        return stored

    def _placed(self, words: Tensor) -> Tensor:
        """The words of a sparse matrix as a whole one, zero where no entry is."""
        if not self.matrix.is_sparse:
            return words
        rows = torch.from_numpy(kept_rows(self.matrix, self.layer.fahw.seed)).to(words.device)
        return words.new_zeros(self.matrix.shape).scatter_(0, rows, words)
