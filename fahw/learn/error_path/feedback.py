"""The words that send the error back, made as the rule's source of feedback weights says (`fahw.rules.sources`).

A `FeedbackWords`, one per arithmetic, draws them; what is drawn once is stored here. Sparse ones are spread over the
matrix that they are entries of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.errors import ConfigError, Problem
from fahw.formats.precision import Precision
from fahw.layers.weighted import Weighted
from fahw.learn.error_path.feedback_words import Draw, FeedbackWords
from fahw.learn.kernels.device import CPU
from fahw.network.feedback_matrices import kept_rows
from fahw.rules.rule import Rule


def check_trained(rules: Iterable[Rule], precision: Precision) -> None:
    """Raise ConfigError with every rule that these formats have no arithmetic for."""
    problems = []
    for rule in rules:
        if not precision.is_float and (rule.learned or (rule.pruned and not precision.is_integer)):
            where = "in floating point only" if rule.learned else "in fp32 or in integers only"
            message = f"{rule.name} trains {where}: these formats have no arithmetic for what it learns or prunes; set"
            message += " all of `precision` to fp32, or price it alone (fahw simulate)"
            problems.append(Problem("rule", message))
    if problems:
        raise ConfigError(problems)


class Feedback:
    """One training's feedback matrices; those that are kept are drawn at first use."""

    def __init__(
        self, rule: Rule, source: FeedbackWords, own: Draw | None = None, period: int = 1, weight_decay: float = 0.0,
        device: torch.device = CPU,
    ) -> None:  # fmt: skip
        """`own` replaces the source's own numbers, for tests and imported matrices. `period`: steps between two
        transports of the forward words; between them the words are those of the last one. `weight_decay`: the
        recipe's, which feedback weights that learn by W's steps have too. `device`: where the words go; they are drawn
        on the processor."""
        self.rule, self.direct = rule, rule.path == "direct"
        self.source, self.own, self._period, self._device = source, own, period, device
        self.weight_decay = weight_decay
        self._stored: dict[str, Tensor] = {}
        self.transported: dict[str, tuple[int, Tensor]] = {}

    def words(self, layer: Weighted, weight: Tensor, draw: int) -> Tensor:
        """What step `draw` sends the error to the input of `layer` with, given its forward words: of two matrices the
        product.

        Shaped as the weight, or (classes, inputs of the layer) for direct rules.
        """
        matrices = [words for _, words in self.stages(layer, weight, draw)]
        return matrix_product(matrices, 1 if self.direct else layer.groups)

    def stages(self, layer: Weighted, weight: Tensor, draw: int) -> list[tuple[Weighted, Tensor]]:
        """The layers through which step `draw` sends the error to the input of `layer`, one after the other, with their
        words: itself, or the two that stand for it where the rule has two matrices."""
        if self._period > 1 and self.rule.reads_weight:
            weight = self._last_transported(layer, weight, draw // self._period)
        stages = self.source.matrices.stages[layer.name]
        drawn = [self.rule.feedback.words(_Drawing(self, stage, weight, draw)) for stage in stages]
        if len(stages) > 1 and not self.direct:  # P is a kernel of one pixel in a convolution
            drawn = [words.view(stage.weight_shape) for stage, words in zip(stages, drawn, strict=True)]
        return list(zip(stages, drawn, strict=True))

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """What step `draw` mirrors the layer's weights with, `(samples, *input shape)`."""
        return self.source.noise(layer, draw).to(self._device)

    def _last_transported(self, layer: Weighted, weight: Tensor, transport: int) -> Tensor:
        """The forward words as transport number `transport` found them; the first one is before the first step."""
        if layer.name not in self.transported or self.transported[layer.name][0] < transport:
            self.transported[layer.name] = transport, weight.clone()
        return self.transported[layer.name][1]

    def stored_matrix(self, layer: Weighted) -> Tensor:
        """The layer's own numbers, drawn at first use; a rule that learns them changes this very tensor in place."""
        return self.stored(layer, self.own or self.source.signed)

    def stored(self, layer: Weighted, drawn: Callable[[Weighted, int], Tensor]) -> Tensor:
        """What is drawn for a layer once, at first use, spread over its matrix."""
        if layer.name not in self._stored:
            self._stored[layer.name] = self.placed(layer, drawn(layer, 0))
        return self._stored[layer.name]

    def placed(self, layer: Weighted, words: Tensor) -> Tensor:
        """Drawn words on the device; those of a sparse matrix as a whole one, zero where no entry is."""
        matrix = self.source.matrices.named[layer.name]
        if matrix.is_sparse:
            rows = torch.from_numpy(kept_rows(matrix, self.source.seed))
            words = words.new_zeros(matrix.shape).scatter_(0, rows, words)
        return words.to(self._device)


def matrix_product(matrices: Sequence[Tensor], groups: int) -> Tensor:
    """The one matrix itself, or the product of two, each group's with its own, shaped as the last."""
    if len(matrices) == 1:
        return matrices[0]
    narrow, wide = matrices
    pairs = zip(narrow.flatten(1).chunk(groups), wide.flatten(1).chunk(groups), strict=True)
    return torch.cat([a.double() @ b.double() for a, b in pairs]).view(len(narrow), *wide.shape[1:])


@dataclass(frozen=True)
class _Drawing:
    """The `fahw.rules.sources.Words` of one layer in step `draw`, given its forward words."""

    feedback: Feedback
    layer: Weighted
    weight: Tensor
    draw: int

    def copied(self) -> Tensor:
        return self.feedback.source.copy(self.layer, self.weight)

    def with_weight_signs(self, magnitudes: Tensor | None) -> Tensor:
        sign = self.feedback.source.sign(self.weight)
        return sign if magnitudes is None else sign.mul_(magnitudes)

    def signed(self) -> Tensor:
        return self.feedback.stored(self.layer, self._drawn(self.feedback.source.signed))

    def magnitudes(self) -> Tensor:
        return self.feedback.stored(self.layer, self._drawn(self.feedback.source.magnitudes))

    def binary(self) -> Tensor:
        return self.feedback.stored(self.layer, self._drawn(lambda layer, _: self.feedback.source.binary(layer)))

    def constant(self) -> Tensor | None:
        return self.feedback.source.constant(self.layer)

    def redrawn(self) -> Tensor:
        drawn = self._drawn(self.feedback.source.magnitudes)
        return self.feedback.placed(self.layer, drawn(self.layer, self.draw + 1))

    def with_own_signs(self, magnitudes: Tensor) -> Tensor:
        return magnitudes * self.feedback.stored(self.layer, lambda layer, _: self.feedback.source.signs(layer))

    def _drawn(self, drawn: Draw) -> Draw:
        return self.feedback.own or drawn
