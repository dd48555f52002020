"""The integer step again, slow and obvious: int64 numpy, one output position at a time.

Shares with the fast path only what both are given: `Scales`, the tables and the generators. Values are int64 arrays
shaped `(n, features)` or `(n, channels, height, width)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import pi

import numpy as np

from fahw.formats.lookup_tables import exp_table
from fahw.formats.precision import TENSORS, Precision, Rounding, RoundingModes
from fahw.layers.layer import INPUT, Layer
from fahw.learn.state.scales import Scales, output_fraction_bits
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.optimizers import OPTIMIZERS
from fahw.prng import Lfsr, derive
from fahw.rules.rule import Rule
from tests.reference.feedback import SlowFeedback
from tests.reference.tables import sigmoid_table, tanh_table
from tests.reference.unit import SlowUnit
from tests.reference.update import SlowUpdate, State
from tests.reference.words import (
    Norm,
    Reals,
    Words,
    per_output,
    reciprocal,
    saturate,
    shift_nearest,
    value_range,
    windows,
)

_SPELLED_OUT = (
    "flatten", "relu", "hardtanh", "tanh", "sigmoid", "dropout", "shortcut", "maxpool2d", "avgpool2d",
)  # fmt: skip
"""The kinds of layers that are written out here once more; others are computed in `SlowUnit`."""


class Reference(SlowUpdate, SlowFeedback):
    """A training in plain integers; `step` moves `states` (by layer name) as one batch does."""

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        momentum: float, batch_size: int, seed: int, tuning: Tuning | None = None, micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        self.tuning = tuning or Tuning(momentum=momentum)
        self.optimizer = OPTIMIZERS[self.tuning.optimizer]
        self.network, self.rule, self.rounding, self.scales = network, rule, rounding, scales
        self.bits = {kind: precision.bits(kind) for kind in TENSORS}
        self.mu, self.batch_size, self.seed = round(self.tuning.momentum * 256), batch_size, seed
        self.random = Lfsr(derive(seed, "rounding"))
        self.states = {layer.name: self._initial(layer) for layer in network.weighted}
        self.norms = {layer.name: Norm.of(layer, micro_batch or batch_size) for layer in network.layers if layer.params}
        self.fracs = output_fraction_bits(network, precision, scales)
        self.factors: dict[str, Words] = {}
        self.unit = SlowUnit(self.bits["activation"], self.bits["error"], self.fracs)
        self.saved: dict[str, object] = {}

    def step(self, x: Words, labels: Words, rate: float, draw: int) -> Words:
        """One batch; returns the logits before the update."""
        inputs, logits = self.forward(x)
        errors, norms = self._errors(inputs, self._loss(logits, labels), labels, draw)
        weighted = {layer.name: layer for layer in self.network.weighted if self._learns(layer)}
        self._update({name: self.gradient(weighted[name], errors[name], inputs[name]) for name in weighted}, rate, draw)
        for name, (scale, shift) in norms.items():
            if self.network.layer(name).frozen:
                continue
            self.norms[name].update(scale, shift, self.tuning, rate, self.batch_size, draw)
        return logits

    def forward(self, x: Words, training: bool = True) -> tuple[dict[str, Words], Words]:
        """Every layer's first input, and the logits."""
        inputs: dict[str, Words] = {}
        values = {INPUT: x}
        for layer in self.network.layers:
            read = [values[source] for source in layer.sources]
            inputs[layer.name] = read[0]
            if layer.weighted:
                values[layer.name] = self._weighted(layer, read[0])
            elif layer.kind == "add":
                values[layer.name] = self._added(layer, read)
            elif layer.params:
                units = 2.0 ** -self.fracs[layer.sources[0]], 2.0 ** -self.fracs[layer.name]
                exact = self.norms[layer.name].forward(read[0], units, training)
                values[layer.name] = self._settled(exact, self.bits["activation"], self.rounding.activation)
            elif layer.kind == "dropout":
                values[layer.name] = self._dropped(layer, read[0], training)
            elif layer.kind in _SPELLED_OUT:
                values[layer.name] = self._local(layer, read[0])
            else:
                values[layer.name], self.saved[layer.name] = layer.forward(self.unit, None, read)
        return inputs, values[self.network.layers[-1].name]

    def gradient(self, layer: Layer, delta: Words, x: Words) -> tuple[Words, Words]:
        """The accumulators: sums over batch and positions."""
        weight = np.zeros(layer.weight_shape, np.int64)
        bias = np.zeros(layer.biases, np.int64)
        for sample in range(len(x)):
            for d, window, _ in self._places(layer, delta[sample], x[sample]):
                weight += d.reshape(-1, *[1] * window.ndim) * per_output(layer, window)
                bias += d if layer.bias else 0
        return self._wrap(weight), self._wrap(bias)

    def words(self, layer: Layer) -> Words:
        """The forward weight words."""
        s = self.scales[layer.name]
        return self._requant(self.states[layer.name].master, s.master.frac - s.weight.frac, s.weight.bits, "nearest")

    def _initial(self, layer: Layer) -> State:
        s = self.scales[layer.name]
        generator = np.random.Generator(np.random.PCG64(derive(self.seed, "init", layer.name)))
        drawn = generator.uniform(-layer.xavier_bound, layer.xavier_bound, layer.weight_shape)
        if s.master.bits == 1:
            master = np.where(drawn >= 0, 1, -1)
        else:
            master = saturate(np.rint(np.ldexp(drawn, s.master.frac)).astype(np.int64), s.master.bits)
        zero = np.zeros(layer.biases, np.int64)
        if self.optimizer.is_float:
            real = [np.zeros(shape, np.float32) for shape in (master.shape, zero.shape) for _ in range(2)]
            return State(master, real[0], zero, real[2], real[1], real[3])  # type: ignore[arg-type]
        return State(master, np.zeros_like(master), zero, zero.copy())

    def _weighted(self, layer: Layer, x: Words) -> Words:
        s, w, bias = self.scales[layer.name], self.words(layer), self.states[layer.name].bias
        acc_frac = s.input.frac + s.weight.frac
        start = shift_nearest(bias, s.bias.frac - acc_frac) if layer.bias else 0
        acc = np.zeros((len(x), *layer.out_shape), np.int64)
        for sample in range(len(x)):
            for out, window, _ in self._places(layer, acc[sample], x[sample]):
                out[...] = start + (w * per_output(layer, window)).reshape(len(w), -1).sum(1)
        return self._words(self._wrap(acc), acc_frac - s.output.frac, s.output.bits, self.rounding.activation)

    def _places(self, layer: Layer, at_output: Words, at_input: Words) -> Iterator[tuple[Words, Words, Words]]:
        """Every position of one sample: views of its outputs `(out,)`, copies of its inputs, and their flat indices."""
        if layer.kind == "linear":
            yield at_output, at_input, np.arange(len(at_input))
            return
        for row, column, where in windows(layer):
            values = np.where(where >= 0, at_input.reshape(-1)[where], 0)
            yield at_output[:, row, column], values, where

    def _local(self, layer: Layer, x: Words) -> Words:
        bits = self.bits["activation"]
        if layer.kind == "flatten":
            return x.reshape(len(x), -1)
        if layer.kind == "relu":
            return np.maximum(x, 0)
        frac = self.fracs[layer.sources[0]]
        if layer.kind == "hardtanh":
            return np.clip(x, -(2 ** max(0, frac)), 2 ** max(0, frac))
        if layer.kind in ("tanh", "sigmoid"):
            table = (tanh_table if layer.kind == "tanh" else sigmoid_table)(bits, frac)
            return table[np.minimum(x + len(table) // 2, len(table) - 1)]
        if layer.kind == "shortcut":
            out = np.zeros((len(x), *layer.out_shape), np.int64)
            first = (layer.out_shape[0] - layer.in_shape[0]) // 2
            out[:, first : first + layer.in_shape[0]] = x[:, :, :: layer.stride[0], :: layer.stride[1]]
            return out
        out = np.zeros((len(x), *layer.out_shape), np.int64)
        for sample in range(len(x)):
            flat = x[sample].reshape(-1)
            for row, column, where in windows(layer):
                for channel, cells in enumerate(where):
                    values = flat[cells[cells >= 0]]
                    out[sample, channel, row, column] = values.max() if layer.kind == "maxpool2d" else values.sum()
        return out if layer.kind == "maxpool2d" else self._requant(out * reciprocal(layer), 16, bits, "nearest")

    def _added(self, layer: Layer, inputs: list[Words]) -> Words:
        """Aligned at the finest input, rounded where the result is coarser."""
        fracs = [self.fracs[source] for source in layer.sources]
        total: Words = np.stack([x << (max(fracs) - f) for x, f in zip(inputs, fracs, strict=True)]).sum(0)
        shift, bits = max(fracs) - self.fracs[layer.name], self.bits["activation"]
        return self._words(total, shift, bits, self.rounding.activation) if shift else saturate(total, bits)

    def _dropped(self, layer: Layer, x: Words, training: bool) -> Words:
        """A random byte below the threshold drops a value; samples last."""
        if not training:
            return x
        threshold = min(255, round(256 * layer.probability))
        order = (*x.shape[1:], len(x))
        kept = np.moveaxis(self.random.take(x.size).reshape(order) >= threshold, -1, 0)
        self.factors[layer.name] = kept * round(2**16 / (256 - threshold))
        return self._scaled(x, self.factors[layer.name], self.bits["activation"])

    def _scaled(self, x: Words, factor: Words, bits: int) -> Words:
        words = self._requant(x * factor, 8, bits, "nearest")
        return np.where(factor > 0, words, 0) if bits == 1 else words

    def _settled(self, exact: Reals, bits: int, mode: Rounding) -> Words:
        """Reals rounded to words; random bytes in the order `(..., n)`."""
        if bits > 1 and mode == "stochastic":
            order = (*exact.shape[1:], len(exact))
            exact = exact + np.moveaxis(self.random.take(exact.size).reshape(order), -1, 0) / 256
        if bits > 1:
            exact = np.rint(exact) if mode == "nearest" else np.floor(exact)
        return saturate((exact if bits > 1 else np.sign(exact)).astype(np.int64), bits)

    def _loss(self, logits: Words, labels: Words) -> Words:
        bits = self.bits["error"]
        table = exp_table(self.bits["activation"], self.scales[self.network.weighted[-1].name].output.frac)
        fraction = 8 if bits == 1 else bits - 1
        error = np.zeros_like(logits)
        mode = "nearest" if bits == 1 else self.rounding.of_output_error
        random = self.random.take(logits.size).reshape(logits.T.shape).T if mode == "stochastic" else None
        for n, z in enumerate(logits):
            powers = table[np.minimum(z.max() - z, len(table) - 1)]
            if mode == "nearest":
                error[n] = (powers * 2**fraction + powers.sum() // 2) // powers.sum()
            else:
                wide = powers * 2 ** (fraction + 8) // powers.sum()
                error[n] = (wide if random is None else wide + random[n]) // 256
            error[n, labels[n]] -= 2**fraction
        return saturate(error, bits)

    def _errors(
        self, inputs: dict[str, Words], output_error: Words, labels: Words, draw: int
    ) -> tuple[dict[str, Words], dict[str, tuple[Reals, Reals]]]:
        """The error at the output of the layers that need it, and the gradient sums of the batch norms."""
        signal = self._signal(output_error, labels)
        network, bits, norms = self.network, self.bits["error"], {}
        direct = self.rule.path == "direct"
        arrived: dict[str, list[Words]] = {network.layers[-1].name: [output_error]}
        result: dict[str, Words] = {}
        for layer in reversed(network.layers):
            if layer.name not in arrived:  # a frozen layer under a direct rule still sends
                if layer.weighted and direct and self._is_wanted(layer.sources[0]):
                    below = self._error(layer, output_error, signal, draw)
                    arrived.setdefault(layer.sources[0], []).append(below)
                continue
            error: Words = np.stack(arrived[layer.name]).sum(0)
            x = inputs[layer.name]
            if len(arrived[layer.name]) > 1:
                error = np.clip(error, *((-1, 1) if bits == 1 else value_range(bits)))
            if self.rule.pruned and layer.weighted and layer is not network.weighted[-1]:
                error = self._pruned(error)
            result[layer.name] = error
            if layer.params:
                unit = 2.0 ** -self.scales[network.weighted[-1].name].error.frac
                exact, along, total = self.norms[layer.name].backward(x, error, 2.0 ** -self.fracs[layer.sources[0]])
                error = self._settled(exact, bits, self.rounding.error)
                norms[layer.name] = along * unit, total * unit
            for source in layer.sources:
                readers = [user for user in network.layers if source in user.sources]
                if not self._is_wanted(source):
                    continue
                if layer.weighted:
                    arrived.setdefault(source, []).append(self._error(layer, result[layer.name], signal, draw))
                elif not (direct and network.dfa_residual == "blocked" and any(user.weighted for user in readers)):
                    arrived.setdefault(source, []).append(self._sent(layer, source, x, error))
        return result, norms

    def _sent(self, layer: Layer, source: str, x: Words, error: Words) -> Words:
        """The error that a layer without weights sends to one of those that it reads."""
        if layer.params or layer.kind == "add":
            return error
        if layer.kind in _SPELLED_OUT:
            return self._local_error(layer, x, error)
        below: Words = layer.backward(self.unit, None, self.saved[layer.name], error)[0][layer.sources.index(source)]
        return below

    def _pruned(self, error: Words) -> Words:
        """Errors below the threshold become it, by a chance of size over threshold, or zero; samples last."""
        order = (*error.shape[1:], len(error))
        random = np.moveaxis(self.random.take(error.size).reshape(order), -1, 0).astype(np.int64)
        sizes = [abs(int(e)) for e in error.reshape(-1) if e]
        if not sizes:
            return error
        factor = round(256 * self.rule.pruning_threshold * (pi / 2) ** 0.5)
        exact = Fraction(factor * sum(sizes), 256 * len(sizes)) + Fraction(1, 2)
        threshold = min(exact.__floor__(), value_range(self.bits["error"])[1] if self.bits["error"] > 1 else 1)
        small = np.where(256 * abs(error) > random * threshold, np.sign(error) * threshold, 0)
        return np.where(abs(error) >= threshold, error, small)

    def _learns(self, layer: Layer) -> bool:
        frozen_by_rule = not self.rule.trains_layer(layer.kind == "conv2d", layer is self.network.weighted[-1])
        return not (layer.frozen or frozen_by_rule)

    def _is_wanted(self, name: str) -> bool:
        """Whether a layer or one below it learns, so that the error at its output is needed."""
        if name == INPUT:
            return False
        layer = self.network.layer(name)
        passes_on = not layer.weighted or self.rule.path == "layerwise"
        return (layer.weighted and self._learns(layer)) or (passes_on and any(map(self._is_wanted, layer.sources)))

    def _signal(self, output_error: Words, labels: Words) -> Words:
        """What a direct rule multiplies with its matrix: one-hot in whole words, or -1, 0 and 1 by the threshold."""
        if self.rule.signal == "targets":
            return np.eye(self.network.classes, dtype=np.int64)[labels]
        frac = self.scales[self.network.weighted[-1].name].delta.frac
        if self.rule.signal == "ternary":
            return np.where(8 * abs(output_error) > 2.0**frac, np.sign(output_error), 0)
        return output_error

    def _local_error(self, layer: Layer, x: Words, error: Words) -> Words:
        bits = self.bits["error"]
        if layer.kind == "flatten":
            return error.reshape(x.shape)
        if layer.kind == "relu":
            word = self.bits["activation"]
            saturated = (x >= 2 ** (word - 1) - 1) & (word > 2)
            return np.where((x > 0) & ~saturated, error, 0)
        if layer.kind in ("tanh", "sigmoid"):
            h, digits = self._local(layer, x), self.bits["activation"] - 1
            derivative = 4**digits - h * h if layer.kind == "tanh" else h * (2**digits - h)
            return self._requant(error * derivative, 2 * digits, bits, "nearest")
        if layer.kind == "hardtanh":
            return np.where(np.abs(x) < 2 ** max(0, self.fracs[layer.sources[0]]), error, 0)
        if layer.kind == "dropout":
            return self._scaled(error, self.factors[layer.name], bits)
        if layer.kind == "shortcut":
            below, first = np.zeros_like(x), (layer.out_shape[0] - layer.in_shape[0]) // 2
            below[:, :, :: layer.stride[0], :: layer.stride[1]] = error[:, first : first + layer.in_shape[0]]
            return below
        if layer.kind == "avgpool2d":
            error = self._requant(error * reciprocal(layer), 16, bits, "nearest")
        below = np.zeros((len(x), layer.inputs), np.int64)
        for sample in range(len(x)):
            flat = x[sample].reshape(-1)
            for row, column, where in windows(layer):
                for channel, cells in enumerate(where):
                    inside = cells[cells >= 0]
                    target = inside[:1] * 0 + inside[flat[inside].argmax()] if layer.kind == "maxpool2d" else inside
                    below[sample, target] += error[sample, channel, row, column]
        return np.clip(below, *((-1, 1) if bits == 1 else value_range(bits))).reshape(x.shape)

    def _wrap(self, acc: Words) -> Words:
        half = 1 << (self.bits["accumulator"] - 1)
        return (acc + half) % (2 * half) - half

    def _words(self, acc: Words, shift: int, bits: int, mode: Rounding) -> Words:
        """`_requant` of `(n, ...)` with the random bytes in the order `(..., n)`."""
        return np.moveaxis(self._requant(np.moveaxis(acc, 0, -1), shift, bits, mode), -1, 0)
