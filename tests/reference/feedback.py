"""The feedback words of the slow integer step, and the products with them, one output position at a time.

Read from the rule's choices here again, not from what the fast path makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fahw.formats.precision import Rounding, RoundingModes
from fahw.layers.layer import Layer
from fahw.learn.state.scales import Scales
from fahw.network.error_path import feedback_shape
from fahw.network.graph import Network
from fahw.prng import derive, row_codes, row_seeds
from fahw.rules.rule import Rule
from tests.reference.words import Words


class SlowFeedback:
    """What `Reference` sends errors with."""

    network: Network
    rule: Rule
    bits: dict[str, int]
    scales: dict[str, Scales]
    rounding: RoundingModes
    seed: int

    def feedback(self, layer: Layer, draw: int) -> Words:
        """The words that send the error to the layer's input, through one matrix."""
        rule, b, w = self.rule, self.bits["feedback"], self.words(layer)
        sign = np.where(w < 0, -1, 1)
        if rule.magnitude == "weight":
            return sign if b == 1 else self._requant(w, self.bits["weight"] - b, b, "nearest")
        if rule.magnitude == "constant" and rule.sign == "weight":
            return sign
        groups = 1 if rule.path == "direct" else layer.groups
        own = self._matrix(layer.name, self._whole_shape(layer), groups, draw)
        return own if rule.sign == "own" else own * sign

    def _whole_shape(self, layer: Layer) -> tuple[int, ...]:
        tiled = self.network.dfa_feedback == "tiled"
        return feedback_shape(layer, self.network.classes, self.rule.path == "direct", tiled)

    def _matrix(self, name: str, shape: tuple[int, ...], groups: int, draw: int) -> Words:
        """The rule's own words: all, or as many in every column as the density leaves, the rest zero."""
        rows = shape[0] // groups
        count = rows if self.rule.density == 1 else max(1, round(self.rule.density * rows))
        words = self._drawn(name, (groups * count, *shape[1:]), draw)
        if count == rows:
            return words
        columns = int(np.prod(shape[1:]))
        codes = row_codes(row_seeds(derive(self.seed, "positions", name), groups * count), columns, 16)
        whole = np.zeros((shape[0], columns), np.int64)
        for group in range(groups):
            for block in range(count):
                first, behind = block * rows // count, (block + 1) * rows // count
                entry = group * count + block
                for column in range(columns):
                    row = first + int(codes[entry, column]) * (behind - first) // 2**16
                    whole[group * rows + row, column] = words.reshape(-1, columns)[entry, column]
        return whole.reshape(shape)

    def _drawn(self, name: str, shape: tuple[int, ...], draw: int) -> Words:
        rule, b = self.rule, self.bits["feedback"]
        if rule.magnitude == "constant":
            return 2 * self._codes(name, shape, 1, 0) - 1
        if rule.magnitude == "redrawn" and rule.sign == "own":
            return (2 * self._codes(name, shape, 1, 0) - 1) * self._sizes(name, shape, draw + 1)
        if rule.sign == "own":
            codes = self._codes(name, shape, b, 0)
            return 2 * codes + 1 - 2**b if b <= 4 else codes - 2 ** (b - 1)
        return self._sizes(name, shape, draw + 1 if rule.magnitude == "redrawn" else 0)

    def _sizes(self, name: str, shape: tuple[int, ...], draw: int) -> Words:
        b = self.bits["feedback"]
        if b == 1:
            return np.ones(shape, np.int64)
        codes = self._codes(name, shape, b - 1, draw)
        return 2 * codes + 1 if b <= 4 else codes

    def _codes(self, name: str, shape: tuple[int, ...], bits: int, draw: int) -> Words:
        seeds = row_seeds(derive(self.seed, "feedback", name), shape[0], draw)
        return row_codes(seeds, int(np.prod(shape[1:])), bits).astype(np.int64).reshape(shape)

    def _error(self, layer: Layer, delta: Words, signal: Words, draw: int) -> Words:
        """The error at the input: through one matrix, or through a narrow one, rounded, and a wide one."""
        s, direct = self.scales[layer.name], self.rule.path == "direct"
        last = self.scales[self.network.weighted[-1].name].delta.frac
        units = {"error": last, "ternary": 2, "targets": 0}  # of a ternary error: 1/4
        sent, frac = (signal, units[self.rule.signal]) if direct else (delta, s.delta.frac)
        feedback_frac = s.feedback.frac
        if self.rule.rank is None:
            b = self.feedback(layer, draw)
        else:
            sent, b = self._narrowed(layer, sent, frac, draw)
            frac, feedback_frac = s.error.frac, self.scales[f"{layer.name}/wide"].feedback.frac
        acc = self._wrap(self._products(layer, sent, b)).reshape(-1, *layer.in_shape)
        return self._words(acc, frac + feedback_frac - s.error.frac, s.error.bits, self.rounding.error)

    def _narrowed(self, layer: Layer, sent: Words, frac: int, draw: int) -> tuple[Words, Words]:
        """The errors times P, rounded as any error, and Q."""
        rank, shape, s = self.rule.rank, self._whole_shape(layer), self.scales[f"{layer.name}/narrow"]
        assert rank is not None
        groups = 1 if self.rule.path == "direct" else layer.groups
        p = self._matrix(f"{layer.name}/narrow", (shape[0], rank), 1, draw)
        q = self._matrix(f"{layer.name}/wide", (groups * rank, *shape[1:]), groups, draw)
        acc = np.zeros((len(sent), groups * rank, *sent.shape[2:]), np.int64)
        rows = shape[0] // groups
        for group in range(groups):
            for row in range(group * rows, (group + 1) * rows):
                for column in range(rank):
                    acc[:, group * rank + column] += sent[:, row] * p[row, column]
        shift = frac + s.feedback.frac - s.error.frac
        return self._words(self._wrap(acc), shift, s.error.bits, self.rounding.error), q

    def _products(self, layer: Layer, sent: Words, b: Words) -> Words:
        direct = self.rule.path == "direct"
        acc = np.zeros((len(sent), layer.inputs), np.int64)
        for sample in range(len(sent)):
            if direct and b.ndim == 2:
                acc[sample] = sent[sample] @ b
                continue
            at_output = np.zeros(layer.out_shape, np.int64) if direct else sent[sample]
            for d, _, where in self._places(layer, at_output, np.zeros(layer.in_shape, np.int64)):
                groups = 1 if direct else layer.groups
                read = np.repeat(where.reshape(groups, -1, *where.shape[1:]), len(b) // groups, axis=0)
                e = sent[sample] if direct else d
                terms = e.reshape(-1, *[1] * (b.ndim - 1)) * b
                np.add.at(acc[sample], read[read >= 0], terms[read >= 0])
        return acc

    # of the step

    def words(self, layer: Layer) -> Words:
        """The forward weight words."""
        raise NotImplementedError

    def _places(self, layer: Layer, at_output: Words, at_input: Words) -> Iterator[tuple[Words, Words, Words]]:
        raise NotImplementedError

    def _wrap(self, acc: Words) -> Words:
        raise NotImplementedError

    def _words(self, acc: Words, shift: int, bits: int, mode: Rounding) -> Words:
        raise NotImplementedError

    def _requant(self, acc: Words, shift: int, bits: int, mode: Rounding) -> Words:
        raise NotImplementedError
