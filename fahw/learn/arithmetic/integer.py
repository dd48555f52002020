"""The step in integers, bit for bit what a datapath of the given formats computes.

Words are int8 tensors (float32 above 8 bits), accumulators int32 or integers carried in float32, or in float64 where a
bound of `formats` says so; masters and velocities are carried in float32. Axes are (features, n) and (channels, height,
width, n), so that a product W x has its result in the order in which the next layer reads it.

Order of the random bytes in a step: outputs of weighted layers first to last, errors, the output's first, then the
gradients of all parameters, all velocities, all masters, layer by layer, weights before biases; each only where its
rounding is stochastic. Within a tensor, as it lies: samples last.

One-bit formats: rounding into one takes the sign and no random byte, but what is subtracted from a master is rounded
(and consumes bytes) whatever the master's width. An error of one bit is 0 where a mask or a pooling window left none.
The derivative of a one-bit tanh is 0, and the average of one-bit words is their sum's sign, so neither is of use.
"""

from __future__ import annotations

from copy import copy
from math import prod

import numpy as np
import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.datasets.images import Pixels
from fahw.formats.fixed_point import (
    POOL_BITS,
    RANDOM_BITS,
    Format,
    carrier,
    draws_random,
    random_bytes,
    requantise_,
    saturate_,
    useful_shift,
    word_dtype,
    wrap_,
)
from fahw.formats.lookup_tables import pixel_table  # fmt: skip
from fahw.formats.number import fixed_format
from fahw.formats.precision import Precision, Rounding, RoundingModes
from fahw.formats.quantise import Noise
from fahw.layers.layer import NORMS, Layer
from fahw.learn.arithmetic import layer_products
from fahw.learn.arithmetic.batch_norm import Norms
from fahw.learn.arithmetic.floating import (
    drop_factor,
    drop_threshold,
    initial_weights,
    norm_parameters,
    shortcut_channels,
)
from fahw.learn.arithmetic.integer_update import Update
from fahw.learn.arithmetic.optimizer import Descent
from fahw.learn.arithmetic.softmax import activation_tables, relu_error, softmax_error, table_error
from fahw.learn.error_path.signals import coded_words, pruned_words, signal_frac
from fahw.learn.error_path.tiled import layer_tiling
from fahw.learn.kernels import compiled
from fahw.learn.kernels.device import CPU
from fahw.learn.kernels.matmul import Way, product
from fahw.learn.kernels.windows import columns, largest, spread_sums, to_places, unpadded, window_sums
from fahw.learn.state.overflow import bounds
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.rounding_losses import Tally, note_update, stored_at_ends
from fahw.learn.state.scales import Scales, value_fracs
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr
from fahw.rules.rule import Rule


class Integer:
    """`Arithmetic` of one training: `scales` fix every format, `random` is the rounding generator it consumes.

    `way` forces a way to multiply (`product.Way`), for tests.
    """

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        momentum: float, batch_size: int, random: Lfsr, way: Way | None = None, tuning: Tuning | None = None,
        device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self._rule, self._precision, self._rounding, self._scales = rule, precision, rounding, scales
        self._random, self._way = random, way
        self._accumulator, self._last = precision.bits("accumulator"), network.weighted[-1].name
        self._bounds = {
            layer.name: bounds(network, layer, scales[layer.name], rule, batch_size) for layer in network.weighted
        }
        self._fracs = value_fracs(network, precision, scales)
        self._tables = activation_tables(network, self._fracs, precision.bits("activation"), device)
        self._descent = Descent.of(tuning or Tuning(momentum=momentum), batch_size)
        frac = scales[self._last].error.frac
        self._norms = Norms(network, self._fracs, frac, precision, rounding, self._descent)
        self._training, self._of_batch = True, True
        self._tally: Tally | None = None
        most = 1 << (self._accumulator - 1)
        reach = {name: (min(b.gradient, most), min(b.bias_gradient, most)) for name, b in self._bounds.items()}
        self._update = Update(self._descent, rounding, random, scales, reach)
        self._columns: dict[tuple[int, torch.dtype], Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._operand_type = word_dtype(precision.bits("activation"))
        self._delta_type = word_dtype(precision.bits("error"))

    def initial(self, layer: Layer, seed: int) -> Parameters:
        """The draw rounded into the master format."""
        if layer.kind in NORMS:
            return self._descent.prepare(norm_parameters(layer, torch.float64))
        s = self._scales[layer.name]
        drawn = torch.from_numpy(initial_weights(layer, seed) * 2.0**s.master.frac)
        master = saturate_(drawn if s.master.bits == 1 else drawn.round_(), s.master.bits).float()
        weight = torch.empty_like(master, dtype=word_dtype(s.weight.bits))
        weight.copy_(requantise_(master.clone(), s.master.frac - s.weight.frac, s.weight.bits, "nearest"))
        bias = torch.zeros(layer.biases) if layer.bias else None
        velocity = None if bias is None else bias.clone()
        return self._descent.prepare(Parameters(weight, master, torch.zeros_like(master), bias, velocity))

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """Words of the input format."""
        table = pixel_table(self._precision.bits("activation"), maximum)
        return torch.from_numpy(table.astype(np.int8 if self._operand_type == torch.int8 else np.float32)[pixels])

    def arranged(self, x: Tensor) -> Tensor:
        """Samples last."""
        return x.movedim(0, -1)

    def by_sample(self, logits: Tensor) -> Tensor:
        """Samples first."""
        return logits.t()

    def operand(self, layer: Layer, x: Tensor) -> Tensor:
        """Words as products read them, (inputs of one output, positions * n)."""
        return columns(x.contiguous(), layer) if layer.kind == "conv2d" else x

    def weighted(self, layer: Layer, parameters: Parameters, operand: Tensor) -> Tensor:
        """Product, bias and one rounding into the output format."""
        s, bound = self._scales[layer.name], self._bounds[layer.name].forward
        acc_frac = s.input.frac + s.weight.frac
        shift = useful_shift(bound, acc_frac - s.output.frac)
        acc, bias = layer_products.outputs(layer, parameters.weight, operand, bound, self._way), parameters.bias
        if bias is not None:
            bias = (bias.double() * 2.0 ** (acc_frac - s.bias.frac)).round_()
        words = self._rounded(acc, bound, shift, s.output, self._rounding.activation, (layer.name, "activation"), bias)
        return words.view(*layer.out_shape, -1)

    def local(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """ReLU and tanh save their output, max pooling where its first maxima lay."""
        if layer.kind == "flatten":
            return x.reshape(layer.inputs, -1), x
        if layer.kind == "maxpool2d":
            return largest(x, layer)
        if layer.kind == "avgpool2d":
            sums = window_sums(x.float(), layer)
            return self._average(layer, sums, self._precision.bits("activation")).to(x.dtype), x
        if layer.kind == "shortcut":
            before, added = shortcut_channels(layer)
            picked = x[:, :: layer.stride[0], :: layer.stride[1]]
            return tf.pad(picked, (0, 0, 0, 0, 0, 0, before, added - before)), x
        if layer.kind == "dropout":
            return self._dropped(layer, x)
        if layer.kind == "relu":
            y = x.clamp(min=0)
        elif layer.kind == "hardtanh":
            y = x.float().clamp(-self._one(layer), self._one(layer)).to(x.dtype)  # 1 may be no word
        else:
            table = self._tables[layer.name]
            y = table[(x.long() + len(table) // 2).clamp_(max=len(table) - 1)]
        return y, y

    def added(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        """The sum, aligned at its finest input; rounded where its coarsest has fewer fraction bits."""
        fracs, bits = [self._fracs[source] for source in layer.sources], self._precision.bits("activation")
        shift = max(fracs) - self._fracs[layer.name]
        bound = sum(Format(bits, 0).limit << (max(fracs) - frac) for frac in fracs)
        dtype = carrier(bound, shift, self._rounding.activation)
        acc = inputs[0].to(dtype) * 2.0 ** (max(fracs) - fracs[0])
        for x, frac in zip(inputs[1:], fracs[1:], strict=True):
            acc.add_(x.to(dtype) * 2.0 ** (max(fracs) - frac))
        if shift == 0:
            return saturate_(acc, bits).to(self._operand_type)
        return self._words(acc, shift, Format(bits, 0), self._rounding.activation)

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """In float64, its sums exact, rounded once; see `Norms`."""
        return self._norms.forward(layer, parameters, x, self._random, self._of_batch, self._training), x

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """Softmax from the exponential table and one integer division, less one-hot."""
        s, mode, bits = self._scales[self._last], self._rounding.of_output_error, self._precision.bits("activation")
        drawn = random_bytes(self._random, logits.numel() * draws_random(mode, s.delta.bits), logits.device)
        noise = Noise(drawn.view(logits.shape), RANDOM_BITS) if len(drawn) else None
        error, nats = softmax_error(logits, labels, bits, s.output.frac, s.delta, mode, noise)
        return saturate_(error, s.delta.bits).to(self._delta_type), nats

    def error(self, layer: Layer, delta: Tensor, feedback: Tensor) -> Tensor:
        """B^T delta, its windows added up in the accumulator; rounded once."""
        acc = layer_products.errors(layer, delta, feedback, self._bounds[layer.name].error, self._way)
        return self._sent_down(layer, acc, self._scales[layer.name].delta.frac)

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """As it is, -1, 0 and 1, or one-hot."""
        return coded_words(rule, output_error, labels, self._scales[self._last].delta.frac)

    def direct_error(self, layer: Layer, signal: Tensor, feedback: Tensor) -> Tensor:
        """B^T e, or the tiled e through the kernel B."""
        bound, frac = self._bounds[layer.name].error, signal_frac(self._rule, self._scales[self._last].delta.frac)
        if feedback.dim() == 2:
            return self._sent_down(layer, product(feedback.t(), signal, bound, self._way), frac)
        tiles = layer_tiling(layer, feedback.device)
        sums = tiles.sums(feedback.double())
        acc = product(sums.flatten(1).t(), signal, bound, self._way)
        acc = tiles.spread(acc.view(*sums.shape[1:], -1), 1)
        return self._sent_down(layer, acc if layer.padding_mode == "zeros" else unpadded(acc, layer, 1), frac)

    def pruned(self, layer: Layer, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """With one random byte per word, in the order of memory."""
        random = random_bytes(self._random, error.numel(), error.device)
        return pruned_words(error, rule, random, Format(self._precision.bits("error"), 0))

    def local_error(self, layer: Layer, saved: Tensor, error: Tensor) -> Tensor:
        """Masks and table derivatives; sums of overlapping windows saturate."""
        bits = self._precision.bits("error")
        if layer.kind == "flatten":
            return error.view(saved.shape)
        if layer.kind == "relu":
            return relu_error(saved, error, self._precision.bits("activation"))
        if layer.kind == "hardtanh":
            return error * (saved.float().abs() < self._one(layer)).to(error.dtype)
        if layer.kind in ("tanh", "sigmoid"):
            digits = self._precision.bits("activation") - 1
            return table_error(layer, saved, error, digits, bits).to(self._delta_type)
        if layer.kind == "dropout":
            return self._scaled(error, saved, bits)
        if layer.kind == "shortcut":
            before, _ = shortcut_channels(layer)
            below = error.new_zeros(saved.shape)
            below[:, :: layer.stride[0], :: layer.stride[1]] = error[before : before + len(saved)]
            return below
        if layer.kind == "avgpool2d":
            below = spread_sums(self._average(layer, error.float(), bits), layer)
        else:
            below = to_places(error, saved, layer)
        return _clamp_(below, bits).to(self._delta_type)

    def norm_error(self, layer: Layer, parameters: Parameters, saved: Tensor, error: Tensor) -> tuple[Tensor, Gradient]:
        """In float64, its sums exact, rounded once."""
        return self._norms.backward(layer, parameters, saved, error, self._random)

    def summed(self, errors: list[Tensor]) -> Tensor:
        """Saturated."""
        bits = self._precision.bits("error")
        wide = torch.int32 if bits <= 8 else torch.float32
        return _clamp_(sum((e.to(wide) for e in errors[1:]), errors[0].to(wide)), bits).to(self._delta_type)

    def gradient(self, layer: Layer, delta: Tensor, operand: Tensor) -> Gradient:
        """Accumulators, wrapped: int32 or float; the next step may use their memory again."""
        bound = self._bounds[layer.name]
        rows = delta.view(delta.shape[0], -1)
        if layer.groups > 1:
            parts = zip(operand.chunk(layer.groups), rows.chunk(layer.groups), strict=True)
            acc = torch.cat([self._accumulated(x, d.t(), bound.gradient).t() for x, d in parts])
        elif layer.kind == "conv2d":  # the longer side first, which is faster
            acc = self._accumulated(operand, rows.t(), bound.gradient).t()
        else:
            acc = self._accumulated(rows, operand.t(), bound.gradient, self._kept(layer, rows, operand))
        if not layer.bias:
            return Gradient(acc, None)
        ones = self._ones(rows)
        return Gradient(acc, self._accumulated(rows, ones, bound.bias_gradient).view(-1))

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """In place, the forward words too."""
        learning = {name: parameters[name] for name in self._scales if name in gradients}
        self._update.update(learning, gradients, rate, step)
        if self._tally is not None:
            states = 0 if self._descent.optimizer.is_float else self._descent.optimizer.states
            note_update(self._tally, learning, gradients, self._scales, states)
        self._norms.update(parameters, gradients, rate, step)

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Integer:
        """The same formats; its own random bytes where outputs or errors are rounded stochastically."""
        other = copy(self)
        other._training, other._of_batch, other._sums = False, batch_statistics, {}
        modes = self._rounding
        rounded = (modes.activation, "activation"), (modes.error, "error"), (modes.of_output_error, "error")
        if self._rule.pruned or any(draws_random(mode, self._precision.bits(kind)) for mode, kind in rounded):
            other._random = Lfsr(seed)
        return other

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """Words times their units; of a batch norm, themselves."""
        if layer.kind in NORMS:
            return parameters.weight, parameters.bias
        s, bias = self._scales[layer.name], parameters.bias
        weight = parameters.weight.float() * 2.0**-s.weight.frac
        return weight, None if bias is None else bias.float() * 2.0**-s.bias.frac

    def watch(self, tally: Tally | None) -> None:
        """Outputs and errors as they are rounded, and every update."""
        self._tally = self._update.tally = tally

    def unit_ratio(self, layer: Layer) -> float:
        """By the scales."""
        s = self._scales[layer.name]
        return 2.0 ** (s.weight.frac - s.feedback.frac)

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """Of weight words, masters and velocities; formats of one bit are left out."""
        kinds = ("weight", "master") if self._descent.optimizer.is_float else ("weight", "master", "optimizer")
        bits = {kind: self._precision.bits(kind) for kind in kinds}
        return stored_at_ends([parameters[name] for name in self._scales], bits)

    def _sent_down(self, layer: Layer, acc: Tensor, delta_frac: int) -> Tensor:
        """Words of the error format at the layer's input, from their accumulators."""
        s, bound = self._scales[layer.name], self._bounds[layer.name].error
        shift = useful_shift(bound, delta_frac + s.feedback.frac - s.error.frac)
        words = self._rounded(acc, bound, shift, s.error, self._rounding.error, (layer.name, "error"))
        return words.view(*layer.in_shape, -1)

    def _accumulated(self, a: Tensor, b: Tensor, bound: int, out: Tensor | None = None) -> Tensor:
        """The exact product, wrapped where it can overflow the accumulator."""
        acc = product(a, b, bound, self._way, out)
        return self._wrap(self._carried(acc, bound), bound) if self._overflows(bound) else acc

    def _kept(self, layer: Layer, rows: Tensor, operand: Tensor) -> Tensor | None:
        """Memory for the layer's gradient sums, the same in every step."""
        if not rows.dtype == operand.dtype == torch.int8:
            return None
        if layer.name not in self._sums:
            self._sums[layer.name] = torch.empty(len(rows), len(operand), dtype=torch.int32, device=rows.device)
        return self._sums[layer.name]

    def _ones(self, rows: Tensor) -> Tensor:
        """A column that sums the rows."""
        key = rows.shape[1], rows.dtype
        if key not in self._columns:
            self._columns[key] = torch.ones(key[0], 1, dtype=key[1], device=rows.device)
        return self._columns[key]

    def _carried(self, acc: Tensor, bound: int, shift: int = 0, mode: Rounding = "nearest") -> Tensor:
        if acc.dtype == torch.int64:  # may have wrapped already, which the accumulator's own wrapping hides
            half = 1 << (self._accumulator - 1)
            acc, bound = ((acc + half) & (2 * half - 1)) - half, min(bound, half)
        return acc.to(carrier(bound, shift, mode))

    def _overflows(self, bound: int) -> bool:
        return bound >= 1 << (self._accumulator - 1)

    def _wrap(self, acc: Tensor, bound: int) -> Tensor:
        return wrap_(acc, self._accumulator) if self._overflows(bound) else acc

    def _rounded(
        self, acc: Tensor, bound: int, shift: int, into: Format, mode: Rounding, place: tuple[str, str],
        bias: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Words from accumulators up to `bound`, with a bias for each row: wrapped, and rounded once."""
        if self._tally is None and not self._overflows(bound) and compiled.applies(acc, into.bits, mode):
            real = carrier(bound, shift, mode)
            return compiled.requantised(acc, bias, shift, into.bits, mode, real, self._random)
        acc = self._carried(acc, bound, shift, mode)
        if bias is not None:
            acc.add_(bias.to(acc.dtype).unsqueeze(1))
        return self._words(self._wrap(acc, bound), shift, into, mode, place)

    def _words(
        self, acc: Tensor, shift: int, into: Format, mode: Rounding, place: tuple[str, str] | None = None
    ) -> Tensor:
        """One rounding, with random bytes in the order of memory; `place`: layer and tensor, where losses are noted."""
        exact = acc * 2.0**-shift if self._tally and place else None
        random = None
        if draws_random(mode, into.bits):
            random = random_bytes(self._random, acc.numel(), acc.device)
        words = requantise_(acc, shift, into.bits, mode, random).to(word_dtype(into.bits))
        if exact is not None and self._tally and place:
            self._tally.rounded(*place, exact, words, fixed_format(into.bits))
        return words

    def _average(self, layer: Layer, sums: Tensor, bits: int) -> Tensor:
        """Times the 16-bit reciprocal of the window's area."""
        area = prod(layer.kernel)
        reciprocal = round((1 << POOL_BITS) / area)
        bound = area * Format(bits, 0).limit * reciprocal
        return requantise_(sums.to(carrier(bound)) * reciprocal, POOL_BITS, bits, "nearest")

    def _one(self, layer: Layer) -> int:
        """The word at which a hardtanh saturates."""
        return 1 << max(0, self._fracs[layer.sources[0]])

    def _dropped(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values times 0, or times 1 / (1 - p) in 8 fraction bits, by a random byte each; and these factors."""
        if not self._training:
            return x, x
        threshold = drop_threshold(layer)
        kept = (random_bytes(self._random, x.numel(), x.device) >= threshold).view(x.shape)
        factor = kept.float().mul_(drop_factor(threshold))
        return self._scaled(x, factor, self._precision.bits("activation")), factor

    def _scaled(self, x: Tensor, factor: Tensor, bits: int) -> Tensor:
        dtype = carrier(Format(bits, 0).limit << 16)
        words = requantise_(x.to(dtype) * factor, 8, bits, "nearest")
        return (words * (factor > 0) if bits == 1 else words).to(x.dtype)


def _clamp_(sums: Tensor, bits: int) -> Tensor:
    """Saturate sums of words; one bit keeps its zeros."""
    return sums.clamp_(-1, 1) if bits == 1 else saturate_(sums, bits)
