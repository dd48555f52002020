"""The words that send the error back, made from a rule's choices of sign and magnitude.

`Feedback` asks a `FeedbackWords` source, one per arithmetic, only for what the rule needs: own numbers drawn once or
anew, a constant, the copy or the sign of the forward words. Nothing here knows a rule's name.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fahw.errors import ConfigError, Problem
from fahw.formats.precision import Precision
from fahw.layers.weighted import Weighted
from fahw.learn.error_path.feedback_words import Draw, FeedbackWords
from fahw.learn.kernels.device import CPU
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
        self._source, self._own, self._period, self._device = source, own or source.own, period, device
        self.weight_decay = weight_decay
        self._stored: dict[str, Tensor] = {}
        self._transported: dict[str, tuple[int, Tensor]] = {}

    def words(self, layer: Weighted, weight: Tensor, draw: int) -> Tensor:
        """What step `draw` sends the error to the input of `layer` with, given its forward words.

        Shaped as the weight, or (classes, inputs of the layer) for direct rules.
        """
        if self._period > 1 and self.rule.reads_weight:
            weight = self._last_transported(layer, weight, draw // self._period)
        if self.rule.magnitude == "weight":
            return self._source.copy(layer, weight)
        if self.rule.sign == "own":
            return self.stored_matrix(layer)
        magnitude = self._magnitude(layer, draw)
        sign = self._source.sign(weight)
        return sign if magnitude is None else sign.mul_(magnitude)

    def noise(self, layer: Weighted, draw: int) -> Tensor:
        """What step `draw` mirrors the layer's weights with, `(samples, *input shape)`."""
        return self._source.noise(layer, draw).to(self._device)

    def _last_transported(self, layer: Weighted, weight: Tensor, transport: int) -> Tensor:
        """The forward words as transport number `transport` found them; the first one is before the first step."""
        if layer.name not in self._transported or self._transported[layer.name][0] < transport:
            self._transported[layer.name] = transport, weight.clone()
        return self._transported[layer.name][1]

    def _magnitude(self, layer: Weighted, draw: int) -> Tensor | None:
        if self.rule.magnitude == "constant":
            return self._source.constant(layer)
        if self.rule.magnitude == "redrawn":
            return self._own(layer, draw + 1).to(self._device)
        return self.stored_matrix(layer)

    def stored_matrix(self, layer: Weighted) -> Tensor:
        """The layer's own numbers, drawn at first use; a rule that learns them changes this very tensor in place."""
        if layer.name not in self._stored:
            self._stored[layer.name] = self._own(layer, 0).to(self._device)
        return self._stored[layer.name]
