"""The integer step with everything written down that its memories hold: the source of golden vectors.

    integer = Recorder(network, rule, precision, rounding, scales, momentum, batch_size, LoggedLfsr(seed))
    step(Model(network, integer, parameters, feedback), x, labels, rate, draw)
    integer.take()    # every tensor of that step, in the order in which the step made it

Names of tensors: `activation` (input words of a layer with weights), `output` (its output before ReLU and the like),
`signal` (a ternary output error), `feedback`, `error` (at a layer's input, before masks), `delta` (at its output),
`gradient_sum`, `gradient`, and the fields of `Parameters` after the update. `random_X` holds the bytes that rounded X,
in X's own order. All are recorded with the samples first; the generator's stream has them last (see `learn.integer`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.formats.fixed_point import MU_BITS, RANDOM_BITS, Format, draws_random, rate_constant, requantise_
from fahw.formats.precision import Precision, RoundingModes
from fahw.layers.layer import Layer
from fahw.learn.arithmetic.integer import Integer
from fahw.learn.error_path.signals import signal_fraction_bits
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.scales import Scales
from fahw.network.graph import Network
from fahw.prng import Lfsr
from fahw.rules.rule import TERNARY_BITS, Rule

UNSIGNED = ("label", "random", "exp")
"""First words of the names of tensors without a sign."""


@dataclass(frozen=True, eq=False)
class Record:
    """One memory's content. `words`: int64, in the tensor's shape. `lfsr_byte`: for random bytes, how many bytes the
    rounding generator had yielded before the first of them, counted from the start of the training."""

    layer: str
    tensor: str
    words: NDArray[np.int64]
    format: Format
    lfsr_byte: int | None = None


class LoggedLfsr(Lfsr):
    """The rounding generator, with a copy of every byte that it yields: `log[start:]` of `consumed` bytes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.consumed = 0
        self._log: list[NDArray[np.uint8]] = []

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes, shape `(count,)`: a view that the next call may overwrite."""
        taken = super().take(count)
        self._log.append(taken.copy())
        self.consumed += count
        return taken

    def logged(self) -> NDArray[np.uint8]:
        """The bytes yielded since the last call."""
        log, self._log = self._log, []
        return np.concatenate([*log, np.empty(0, np.uint8)])


class Recorder(Integer):
    """`Integer`, which it equals bit for bit, with a record of every tensor."""

    _random: LoggedLfsr

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        momentum: float, batch_size: int, random: LoggedLfsr,
    ) -> None:  # fmt: skip
        super().__init__(network, rule, precision, rounding, scales, momentum, batch_size, random)
        self._network = network
        self._records: list[Record] = []

    def take(self) -> list[Record]:
        """What was recorded since the last call."""
        records, self._records = self._records, []
        return records

    def state(self, layer: Layer, parameters: Parameters) -> None:
        """Record what the layer stores."""
        for field in fields(parameters):
            tensor = getattr(parameters, field.name)
            if tensor is not None:
                self._note(layer.name, field.name, tensor, getattr(self._scales[layer.name], field.name))

    def operand(self, layer: Layer, x: Tensor) -> Tensor:
        """Words as products read them; records the input words as they are stored."""
        self._note(layer.name, "activation", x.movedim(-1, 0), self._scales[layer.name].input)
        return super().operand(layer, x)

    def weighted(self, layer: Layer, parameters: Parameters, operand: Tensor) -> Tensor:
        """Product, bias and one rounding into the output format."""
        output = super().weighted(layer, parameters, operand)
        self._note(layer.name, "output", output.movedim(-1, 0), self._scales[layer.name].output)
        self._note_words_random(layer, "output", output)
        return output

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error; records the labels, and the bytes that rounded it."""
        self._note(self._last, "label", labels, Format(max(1, (len(logits) - 1).bit_length()), 0))
        error, nats = super().loss(logits, labels)
        self._note_random([(self._last, "delta", tuple(error.shape))], samples_last=True)
        return error, nats

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """What a direct rule sends back; records it where it is neither the error nor the labels."""
        signal = super().signal(rule, output_error, labels)
        if rule.signal == "ternary":
            self._note(self._last, "signal", signal.t(), Format(TERNARY_BITS, signal_fraction_bits(rule, 0)))
        return signal

    def pruned(self, layer: Layer, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error at a layer's output, small ones rounded; records the bytes that did it."""
        found = super().pruned(layer, error, rule, draw)
        self._note_words_random(layer, "delta", found)
        return found

    def error(self, layer: Layer, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error sent layer by layer."""
        return self._note_error(layer, feedback, super().error(layer, delta, feedback))

    def direct_error(self, layer: Layer, signal: Tensor, feedback: Tensor) -> Tensor:
        """What is sent straight to the layer's input."""
        return self._note_error(layer, feedback, super().direct_error(layer, signal, feedback))

    def gradient(self, layer: Layer, delta: Tensor, operand: Tensor) -> Gradient:
        """The accumulators, and the error at the layer's output that they are made of."""
        gradient, s, width = super().gradient(layer, delta, operand), self._scales[layer.name], self._accumulator
        self._note(layer.name, "delta", delta.movedim(-1, 0), s.delta)
        sums = gradient.weight.reshape(layer.weight_shape)
        self._note(layer.name, "gradient_sum", sums, Format(width, s.delta.frac + s.input.frac))
        if gradient.bias is not None:
            self._note(layer.name, "bias_gradient_sum", gradient.bias, Format(width, s.delta.frac))
        return gradient

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """In place; records random bytes, rounded gradients and what is stored afterwards."""
        super().update(parameters, gradients, rate, step)
        learning = {layer.name: layer for layer in self._network.weighted if layer.name in gradients}
        random = self._note_random(self._update_draws({name: parameters[name] for name in learning}))
        for layer in learning.values():
            s, mode = self._scales[layer.name], self._rounding.gradient
            gradient = gradients[layer.name]
            tensors = [("gradient", gradient.weight, s.gradient, s.gradient_shift)]
            if gradient.bias is not None:
                tensors.append(("bias_gradient", gradient.bias, s.bias_gradient, s.bias_gradient_shift))
            for name, acc, into, shift in tensors:
                wide = acc.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
                bits = torch.from_numpy(random[layer.name, name]) if (layer.name, name) in random else None
                words = requantise_(wide, shift, into.bits, mode, bits)
                self._note(layer.name, name, words.reshape(layer.weight_shape if name == "gradient" else (-1,)), into)
            self.state(layer, parameters[layer.name])

    def _update_draws(self, parameters: dict[str, Parameters]) -> list[tuple[str, str, tuple[int, ...]]]:
        """What an update rounds with random bytes, in the order of the stream: layer, tensor, shape."""
        bits, modes = self._precision.bits, self._rounding
        wanted = {
            ("gradient", "bias_gradient"): draws_random(modes.gradient, bits("gradient")),
            ("velocity", "bias_velocity"): draws_random(modes.update, bits("optimizer")),
            ("master", "bias"): modes.update == "stochastic",
        }
        found: list[tuple[str, str, tuple[int, ...]]] = []
        for weight, bias in (names for names, drawn in wanted.items() if drawn):
            for layer, p in parameters.items():
                found.append((layer, weight, tuple(p.master.shape)))
                if p.bias is not None:
                    found.append((layer, bias, tuple(p.bias.shape)))
        return found

    def _note(self, layer: str, tensor: str, words: Tensor, form: Format) -> None:
        self._records.append(Record(layer, tensor, words.to(torch.int64).numpy().copy(), form))

    def _note_error(self, layer: Layer, feedback: Tensor, error: Tensor) -> Tensor:
        s = self._scales[layer.name]
        self._note(layer.name, "feedback", feedback, s.feedback)
        self._note(layer.name, "error", error.movedim(-1, 0), s.error)
        self._note_words_random(layer, "error", error)
        return error

    def _note_words_random(self, layer: Layer, name: str, words: Tensor) -> None:
        """The bytes that rounded activations or errors: they were drawn in the order of memory, samples last."""
        self._note_random([(layer.name, name, tuple(words.shape))], samples_last=True)

    def _note_random(
        self, tensors: list[tuple[str, str, tuple[int, ...]]], samples_last: bool = False
    ) -> dict[tuple[str, str], NDArray[np.uint8]]:
        """Share the bytes drawn since the last call out among tensors (layer, name, shape); none drawn, none noted."""
        taken, start, result = self._random.logged(), 0, {}
        at = self._random.consumed - len(taken)
        for layer, name, shape in tensors if len(taken) else ():
            result[layer, name] = taken[start : start + int(np.prod(shape))]
            words = result[layer, name].reshape(shape).astype(np.int64)
            words = np.ascontiguousarray(np.moveaxis(words, -1, 0)) if samples_last else words
            self._records.append(Record(layer, f"random_{name}", words, Format(RANDOM_BITS, 0), at + start))
            start += result[layer, name].size
        assert start == len(taken), "every random byte has a place"
        return result


def constants(layer: Layer, scales: Scales, source: Format | None, momentum: int, share: float) -> dict[str, int]:
    """What the datapath of one layer multiplies and shifts by. Right shifts; below zero they are left shifts.

    `source`: format of the error that the layer's feedback words are multiplied with, None where none is sent down.
    `share`: learning rate / batch size.
    """
    s = scales
    sums = s.input.frac + s.weight.frac
    rate = rate_constant(share * 2.0 ** (s.master.frac - s.velocity.frac))
    result = {
        "forward_shift": sums - s.output.frac,
        "gradient_shift": s.gradient_shift,
        "velocity_align": s.gradient.frac - s.velocity.frac - MU_BITS,
        "momentum": momentum,
        "velocity_shift": MU_BITS,
        "rate": rate.mantissa,
        "rate_shift": rate.shift,
        "weight_shift": s.master.frac - s.weight.frac,
    }
    if source is not None:
        result["error_shift"] = source.frac + s.feedback.frac - s.error.frac
    if layer.bias:
        bias_rate = rate_constant(share * 2.0 ** (s.bias.frac - s.bias_velocity.frac))
        result |= {
            "bias_align": s.bias.frac - sums,
            "bias_gradient_shift": s.bias_gradient_shift,
            "bias_velocity_align": s.bias_gradient.frac - s.bias_velocity.frac - MU_BITS,
            "bias_rate": bias_rate.mantissa,
            "bias_rate_shift": bias_rate.shift,
        }
    return result
