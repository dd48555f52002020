"""The integer step with everything written down that its memories hold: the source of golden vectors.

    integer = RecordingArithmetic(network, rule, precision, rounding, scales, momentum, batch_size, LoggedLfsr(seed))
    step(Model(network, integer, parameters, feedback), x, labels, rate, draw)
    integer.take_images()    # every tensor of that step, in the order in which the step made it

Names of tensors: `activation` (input words of a layer with weights), `output` (its output before ReLU and the like),
`signal` (a ternary output error), `feedback`, `error` (at a layer's input, before masks), `delta` (at its output),
`gradient_sum`, `gradient`, and what `Parameters` hold after the update. `random_X` holds the bytes that rounded X,
in X's own order. All are recorded with the samples first; the generator's stream has them last (see `learn.integer`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.formats.fixed_point import MU_BITS, RANDOM_BITS, Format, draws_random, rate_constant, requantise_
from fahw.formats.precision import Precision, RoundingModes
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.integer import Integer
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.scales import Scales
from fahw.network.graph import Network
from fahw.prng import Lfsr
from fahw.rules.rule import Rule

UNSIGNED = ("label", "random", "exp")
"""The first words of the names of tensors without a sign."""


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """The content of one memory: a tensor of one layer in one step. `words`: int64, in the tensor's shape. `lfsr_byte`:
    for random bytes, how many bytes the rounding generator had yielded before the first of them, counted from the start
    of the training."""

    layer: str
    tensor: str
    words: NDArray[np.int64]
    format: Format
    lfsr_byte: int | None = None


class LoggedLfsr(Lfsr):
    """The rounding generator with a log of the bytes that it yields; `consumed`: how many it has yielded."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.consumed = 0
        self._log: list[NDArray[np.uint8]] = []

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes, shape `(count,)`: a view that the next call may overwrite."""
        taken_bytes = super().take(count)
        self._log.append(taken_bytes.copy())
        self.consumed += count
        return taken_bytes

    def logged(self) -> NDArray[np.uint8]:
        """The bytes yielded since the last call."""
        log, self._log = self._log, []
        return np.concatenate([*log, np.empty(0, np.uint8)])


class RecordingArithmetic(Integer):
    """The arithmetic `Integer`, which it equals bit for bit, with an image of every tensor that its memories hold."""

    _random: LoggedLfsr

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        momentum: float, batch_size: int, random: LoggedLfsr,
    ) -> None:  # fmt: skip
        super().__init__(network, rule, precision, rounding, scales, momentum, batch_size, random)
        self._network = network
        self._images: list[MemoryImage] = []

    def take_images(self) -> list[MemoryImage]:
        """The images recorded since the last call, in the order in which the step made them."""
        images, self._images = self._images, []
        return images

    def record_stored(self, layer: Weighted, parameters: Parameters) -> None:
        """Record all tensors that the layer stores."""
        s, p = self._scales[layer.name], parameters
        self._note(layer.name, "weight", p.weight, s.weight)
        self._note(layer.name, "master", p.master, s.master)
        for state in p.states:
            self._note(layer.name, "velocity", state, s.velocity)
        if p.bias is not None:
            self._note(layer.name, "bias", p.bias, s.bias)
        for state in p.bias_states:
            self._note(layer.name, "bias_velocity", state, s.bias_velocity)

    def operand(self, layer: Weighted, x: Tensor) -> Tensor:
        """A layer's input as its products read it; records the input words as they are stored."""
        self._note(layer.name, "activation", x.movedim(-1, 0), self._scales[layer.name].input)
        return super().operand(layer, x)

    def weighted(self, layer: Weighted, parameters: Parameters, operand: Tensor) -> Tensor:
        """A weighted layer's output; records it, and the bytes that rounded it."""
        output = super().weighted(layer, parameters, operand)
        self._note(layer.name, "output", output.movedim(-1, 0), self._scales[layer.name].output)
        self._note_words_random(layer, "output", output)
        return output

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, and the summed loss in nats; records the labels, and the bytes that rounded the error."""
        self._note(self._last, "label", labels, Format(max(1, (len(logits) - 1).bit_length()), 0))
        error, nats = super().loss(logits, labels)
        self._note_random([(self._last, "delta", tuple(error.shape))], samples_last=True)
        return error, nats

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """The signal that a direct rule sends back; records it where it is neither the error nor the labels."""
        signal = super().signal(rule, output_error, labels)
        if rule.sent.is_copy:
            self._note(self._last, "signal", signal.t(), self._scales[self._network.weighted[0].name].sent)
        return signal

    def pruned(self, layer: Weighted, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error at a layer's output, small ones rounded; records the bytes that did it."""
        pruned_error = super().pruned(layer, error, rule, draw)
        self._note_words_random(layer, "delta", pruned_error)
        return pruned_error

    def error(self, layer: Weighted, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's input, sent layer by layer; records it, its feedback words and the bytes that
        rounded it."""
        return self._note_error(layer, feedback, super().error(layer, delta, feedback))

    def direct_error(self, layer: Weighted, signal: Tensor, feedback: Tensor) -> Tensor:
        """The error at the layer's input, sent there straight from the output; records the same as `error`."""
        return self._note_error(layer, feedback, super().direct_error(layer, signal, feedback))

    def gradient(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """The gradient's accumulators; records them, and the error at the layer's output that they are made of."""
        gradient, scales = super().gradient(layer, delta, operand), self._scales[layer.name]
        width = self._accumulator.bits
        self._note(layer.name, "delta", delta.movedim(-1, 0), scales.delta)
        sums = gradient.weight.reshape(layer.weight_shape)
        self._note(layer.name, "gradient_sum", sums, Format(width, scales.delta.frac + scales.input.frac))
        if gradient.bias is not None:
            self._note(layer.name, "bias_gradient_sum", gradient.bias, Format(width, scales.delta.frac))
        return gradient

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Update the parameters in place; records random bytes, rounded gradients and what is stored afterwards."""
        super().update(parameters, gradients, rate, step)
        learning = {layer.name: layer for layer in self._network.weighted if layer.name in gradients}
        random = self._note_random(self._update_draws({name: parameters[name] for name in learning}))
        for layer in learning.values():
            scales, mode = self._scales[layer.name], self._rounding.gradient
            gradient = gradients[layer.name]
            tensors = [("gradient", gradient.weight, scales.gradient, scales.gradient_shift)]
            if gradient.bias is not None:
                tensors.append(("bias_gradient", gradient.bias, scales.bias_gradient, scales.bias_gradient_shift))
            for name, acc, rounded_format, shift in tensors:
                sums = acc.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
                random_bytes = torch.from_numpy(random[layer.name, name]) if (layer.name, name) in random else None
                words = requantise_(sums, shift, rounded_format.bits, mode, random_bytes)
                self._note(
                    layer.name, name, words.reshape(layer.weight_shape if name == "gradient" else (-1,)), rounded_format
                )
            self.record_stored(layer, parameters[layer.name])

    def _update_draws(self, parameters: dict[str, Parameters]) -> list[tuple[str, str, tuple[int, ...]]]:
        """The tensors that an update rounds with random bytes, in the order of the stream: layer, tensor, shape."""
        bits, modes = self._precision.bits, self._rounding
        is_drawn = {
            ("gradient", "bias_gradient"): draws_random(modes.gradient, bits("gradient")),
            ("velocity", "bias_velocity"): draws_random(modes.update, bits("optimizer")),
            ("master", "bias"): modes.update == "stochastic",
        }
        draws: list[tuple[str, str, tuple[int, ...]]] = []
        for weight, bias in (names for names, drawn in is_drawn.items() if drawn):
            for layer, p in parameters.items():
                draws.append((layer, weight, tuple(p.master.shape)))
                if p.bias is not None:
                    draws.append((layer, bias, tuple(p.bias.shape)))
        return draws

    def _note(self, layer: str, tensor: str, words: Tensor, form: Format) -> None:
        self._images.append(MemoryImage(layer, tensor, words.to(torch.int64).numpy().copy(), form))

    def _note_error(self, layer: Weighted, feedback: Tensor, error: Tensor) -> Tensor:
        scales = self._scales[layer.name]
        self._note(layer.name, "feedback", feedback, scales.feedback)
        self._note(layer.name, "error", error.movedim(-1, 0), scales.error)
        self._note_words_random(layer, "error", error)
        return error

    def _note_words_random(self, layer: Weighted, name: str, words: Tensor) -> None:
        """Record the bytes that rounded activations or errors: they were drawn in the order of memory, samples last."""
        self._note_random([(layer.name, name, tuple(words.shape))], samples_last=True)

    def _note_random(
        self, tensors: list[tuple[str, str, tuple[int, ...]]], samples_last: bool = False
    ) -> dict[tuple[str, str], NDArray[np.uint8]]:
        """Record the bytes drawn since the last call as those of the tensors (layer, name, shape), in this order, and
        return them by layer and name; none where none were drawn."""
        drawn, start, bytes_of = self._random.logged(), 0, {}
        first_byte = self._random.consumed - len(drawn)
        for layer, name, shape in tensors if len(drawn) else ():
            bytes_of[layer, name] = drawn[start : start + int(np.prod(shape))]
            words = bytes_of[layer, name].reshape(shape).astype(np.int64)
            words = np.ascontiguousarray(np.moveaxis(words, -1, 0)) if samples_last else words
            self._images.append(MemoryImage(layer, f"random_{name}", words, Format(RANDOM_BITS, 0), first_byte + start))
            start += bytes_of[layer, name].size
        assert start == len(drawn), "every random byte has a place"
        return bytes_of


def datapath_constants(
    layer: Weighted, scales: Scales, source: Format | None, momentum: int, rate_per_sample: float
) -> dict[str, int]:
    """The constants by which the datapath of one layer multiplies and shifts. Shifts are right shifts; below zero they
    are left shifts.

    `source`: format of the error that the layer's feedback words are multiplied with, None where none is sent down.
    `rate_per_sample`: learning rate / batch size.
    """
    s = scales
    product_frac = s.input.frac + s.weight.frac
    rate = rate_constant(rate_per_sample * 2.0 ** (s.master.frac - s.velocity.frac))
    datapath_constants = {
        "forward_shift": product_frac - s.output.frac,
        "gradient_shift": s.gradient_shift,
        "velocity_align": s.gradient.frac - s.velocity.frac - MU_BITS,
        "momentum": momentum,
        "velocity_shift": MU_BITS,
        "rate": rate.mantissa,
        "rate_shift": rate.shift,
        "weight_shift": s.master.frac - s.weight.frac,
    }
    if source is not None:
        datapath_constants["error_shift"] = source.frac + s.feedback.frac - s.error.frac
    if layer.bias:
        bias_rate = rate_constant(rate_per_sample * 2.0 ** (s.bias.frac - s.bias_velocity.frac))
        datapath_constants |= {
            "bias_align": s.bias.frac - product_frac,
            "bias_gradient_shift": s.bias_gradient_shift,
            "bias_velocity_align": s.bias_gradient.frac - s.bias_velocity.frac - MU_BITS,
            "bias_rate": bias_rate.mantissa,
            "bias_rate_shift": bias_rate.shift,
        }
    return datapath_constants
