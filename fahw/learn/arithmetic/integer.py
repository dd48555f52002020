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

import numpy as np
import torch
from torch import Tensor

from fahw.datasets.images import Pixels
from fahw.formats.fixed_point import (
    RANDOM_BITS,
    Format,
    draws_random,
    random_bytes,
    requantise_,
    saturate_,
    useful_shift,
    word_dtype,
)
from fahw.formats.lookup_tables import pixel_table
from fahw.formats.precision import Precision, RoundingModes
from fahw.formats.rounding import Noise
from fahw.layers.layer import Layer
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic import layer_products
from fahw.learn.arithmetic.accumulator import Accumulator
from fahw.learn.arithmetic.batch_norm import Norms
from fahw.learn.arithmetic.floating import initial_weights, norm_parameters
from fahw.learn.arithmetic.integer_unit import IntegerUnit
from fahw.learn.arithmetic.softmax import softmax_error
from fahw.learn.error_path.signals import IntegerSignals, pruned_words
from fahw.learn.kernels.device import CPU
from fahw.learn.kernels.matmul import Way
from fahw.learn.kernels.windows import im2col
from fahw.learn.state.overflow import network_bounds
from fahw.learn.state.parameters import FlatParameters, Gradient, Parameters
from fahw.learn.state.rounding_losses import RoundingLosses, record_update_losses, saturated_shares
from fahw.learn.state.scales import Scales, output_fraction_bits
from fahw.learn.update.integer_optimizer import IntegerOptimizer
from fahw.learn.update.optimizer import OptimizerSettings
from fahw.network.error_path import roles_of
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr
from fahw.rules.rule import Rule


class Integer(IntegerUnit):
    """The `Arithmetic` of one training: `scales` fix every format, `random` is the rounding generator it consumes.

    `way` forces a way to multiply (`kernels.matmul.Way`), for tests. Batch norms take their statistics over
    `norm_samples` at a time, over the batch where None.
    """

    def __init__(
        self, network: Network, rule: Rule, precision: Precision, rounding: RoundingModes, scales: dict[str, Scales],
        momentum: float, batch_size: int, random: Lfsr, way: Way | None = None, tuning: Tuning | None = None,
        device: torch.device = CPU, norm_samples: int | None = None,
    ) -> None:  # fmt: skip
        self._rule, self._precision, self._scales = rule, precision, scales
        self._way, self._last = way, network.weighted[-1].name
        self._settings = OptimizerSettings.of(tuning or Tuning(momentum=momentum), batch_size)
        fracs = output_fraction_bits(network, precision, scales)
        norms = Norms(network, fracs, scales[self._last].error.frac, precision, rounding, self._settings, norm_samples)
        accumulator = Accumulator(precision.bits("accumulator"), random)
        super().__init__(fracs, precision, rounding, accumulator, norms, random)
        self._bounds = network_bounds(network, scales, rule, batch_size)
        self._gradients = layer_products.GradientSums(self._bounds, self._accumulator, way)
        limit = 1 << (self._accumulator.bits - 1)
        reach = {name: (min(b.gradient, limit), min(b.bias_gradient, limit)) for name, b in self._bounds.items()}
        self._optimizer = IntegerOptimizer(self._settings, rounding, random, scales, reach)

    def initial(self, network: Network, seed: int, device: torch.device = CPU) -> FlatParameters:
        """The drawn weights rounded into the master format; what learns lies in flat arrays."""
        drawn = {layer.name: self._settings.with_states(self._drawn(layer, seed)) for layer in network.trained}
        return FlatParameters(drawn, roles_of(network, self._rule).learns, device)

    def _drawn(self, layer: Layer, seed: int) -> Parameters:
        """One layer's parameters before training, without the optimizer's states."""
        if not isinstance(layer, Weighted):
            return norm_parameters(layer, torch.float64)
        s = self._scales[layer.name]
        drawn = torch.from_numpy(initial_weights(layer, seed) * 2.0**s.master.frac)
        master = saturate_(drawn if s.master.bits == 1 else drawn.round_(), s.master.bits).float()
        weight = torch.empty_like(master, dtype=word_dtype(s.weight.bits))
        weight.copy_(requantise_(master.clone(), s.master.frac - s.weight.frac, s.weight.bits, "nearest"))
        return Parameters(weight, master, torch.zeros(layer.biases) if layer.bias else None)

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """The pixels in words of the input format."""
        table = pixel_table(self._precision.bits("activation"), maximum)
        return torch.from_numpy(table.astype(np.int8 if self._value_type == torch.int8 else np.float32)[pixels])

    def arranged(self, x: Tensor) -> Tensor:
        """The inputs, samples last."""
        return x.movedim(0, -1)

    def by_sample(self, logits: Tensor) -> Tensor:
        """The logits, samples first."""
        return logits.t()

    def operand(self, layer: Weighted, x: Tensor) -> Tensor:
        """The words as products read them, (inputs of one output, positions * n)."""
        return im2col(x.contiguous(), layer) if layer.convolutional else x

    def weighted(self, layer: Weighted, parameters: Parameters, operand: Tensor) -> Tensor:
        """The outputs: product, bias and one rounding into the output format."""
        s, bound = self._scales[layer.name], self._bounds[layer.name].forward
        acc_frac = s.input.frac + s.weight.frac
        shift = useful_shift(bound, acc_frac - s.output.frac)
        acc, bias = layer_products.outputs(layer, parameters.weight, operand, bound, self._way), parameters.bias
        if bias is not None:
            bias = (bias.double() * 2.0 ** (acc_frac - s.bias.frac)).round_()
        place, mode = (layer.name, "activation"), self._rounding.activation
        words = self._accumulator.rounded(acc, bound, shift, s.output, mode, place, bias)
        return words.view(*layer.out_shape, -1)

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax from the exponential table and one integer division, less one-hot, and the loss."""
        s, mode, bits = self._scales[self._last], self._rounding.of_output_error, self._precision.bits("activation")
        random = random_bytes(self._random, logits.numel() * draws_random(mode, s.delta.bits), logits.device)
        noise = Noise(random.view(logits.shape), RANDOM_BITS) if len(random) else None
        error, nats = softmax_error(logits, labels, bits, s.output.frac, s.delta, mode, noise)
        return saturate_(error, s.delta.bits).to(self._error_type), nats

    def error(self, layer: Weighted, delta: Tensor, feedback: Tensor) -> Tensor:
        """The error B^T delta, its windows added up in the accumulator; rounded once."""
        acc = layer_products.errors(layer, delta, feedback, self._bounds[layer.name].error, self._way)
        return self._sent_down(layer, acc)

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """The output error as it is or in its ternary form, or the labels one-hot."""
        words: Tensor = rule.sent.made(IntegerSignals(output_error, labels, self._scales[self._last].delta.frac))
        return words

    def direct_error(self, layer: Weighted, signal: Tensor, feedback: Tensor) -> Tensor:
        """The error B^T e, or the tiled e through the kernel B; rounded once."""
        acc = layer_products.direct_errors(layer, signal, feedback, self._bounds[layer.name].error, self._way)
        return self._sent_down(layer, acc)

    def pruned(self, layer: Weighted, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error with small words rounded by one random byte each, in the order of memory."""
        random = random_bytes(self._random, error.numel(), error.device)
        return pruned_words(error, rule, random, Format(self._precision.bits("error"), 0))

    def gradient(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """The accumulators, wrapped: int32 or float; the next step may use their memory again."""
        return self._gradients.sums(layer, delta, operand)

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move the parameters in place, the forward words too."""
        assert isinstance(parameters, FlatParameters), "as `initial` gives them"
        self._optimizer.update(parameters.arrays, gradients, rate, step)
        if self._accumulator.losses is not None:
            learning = {name: parameters[name] for name in self._scales if name in gradients}
            states = 0 if self._settings.optimizer.is_float else self._settings.optimizer.states
            record_update_losses(self._accumulator.losses, learning, gradients, self._scales, states)
        self._norms.update(parameters, gradients, rate, step)

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Integer:
        """The arithmetic in the same formats, with its own random bytes where outputs or errors are rounded
        stochastically."""
        other = copy(self)
        other._training, other._of_batch = False, batch_statistics
        modes = self._rounding
        rounded = (modes.activation, "activation"), (modes.error, "error"), (modes.of_output_error, "error")
        if self._rule.pruned or any(draws_random(mode, self._precision.bits(kind)) for mode, kind in rounded):
            other._random = Lfsr(seed)
        other._accumulator = Accumulator(self._accumulator.bits, other._random)
        other._gradients = layer_products.GradientSums(self._bounds, other._accumulator, self._way)
        return other

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """The words times their units; of a batch norm, the float scale and shift, unchanged."""
        if not layer.weighted:
            return parameters.weight, parameters.bias
        s, bias = self._scales[layer.name], parameters.bias
        weight = parameters.weight.float() * 2.0**-s.weight.frac
        return weight, None if bias is None else bias.float() * 2.0**-s.bias.frac

    def watch(self, losses: RoundingLosses | None) -> None:
        """From now on count what roundings of outputs and errors lose, and every update; None: no longer."""
        self._accumulator.losses = self._optimizer.losses = losses

    def unit_ratio(self, layer: Weighted) -> float:
        """The value of one feedback step over one weight step, from the layer's fixed-point scales."""
        s = self._scales[layer.name]
        return 2.0 ** (s.weight.frac - s.feedback.frac)

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """The share of weight words, masters and velocities at an end; formats of one bit are left out."""
        kinds = ("weight", "master") if self._settings.optimizer.is_float else ("weight", "master", "optimizer")
        bits = {kind: self._precision.bits(kind) for kind in kinds}
        return saturated_shares([parameters[name] for name in self._scales if name in parameters], bits)

    def _sent_down(self, layer: Weighted, acc: Tensor) -> Tensor:
        """The words of the error format at the layer's input, from their accumulators."""
        s, bound = self._scales[layer.name], self._bounds[layer.name].error
        shift = useful_shift(bound, s.sent.frac + s.feedback.frac - s.error.frac)
        words = self._accumulator.rounded(acc, bound, shift, s.error, self._rounding.error, (layer.name, "error"))
        return words.view(*layer.in_shape, -1)
