"""The step in floating point, float32 to train and float64 to check: no autograd, each product written out."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Self

import numpy as np
import torch
import torch.nn.functional as tf
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import grad

from fahw.datasets.images import Pixels
from fahw.formats.fixed_point import random_bytes
from fahw.layers.layer import NORMS, Layer, Pair
from fahw.learn.arithmetic.optimizer import OptimizerSettings
from fahw.learn.error_path.signals import pruned, ternary
from fahw.learn.error_path.tiled import layer_tiling
from fahw.learn.kernels.device import CPU
from fahw.learn.kernels.windows import padded, spread_over_windows, unpadded
from fahw.learn.state.parameters import Gradient, Parameters, placed
from fahw.learn.state.rounding_losses import RoundingLosses
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr, derive
from fahw.rules.rule import Rule

NORM_EPS = 1e-5
"""Added to a batch norm's variance."""
NORM_MOMENTUM = 0.1
"""Share of a batch's statistics in the running ones."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "hardtanh": lambda x: x.clamp(-1, 1),
}  # fmt: skip
_DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: h > 0, "tanh": lambda h: 1 - h * h, "sigmoid": lambda h: h * (1 - h),
    "hardtanh": lambda h: h.abs() < 1, "dropout": lambda factor: factor,
}  # fmt: skip
"""From what the forward pass saved: an activation's output, a dropout's factors."""


def initial_weights(layer: Layer, seed: int) -> NDArray[np.float64]:
    """Xavier-uniform, shaped as the layer's weight: the one draw of all arithmetics."""
    generator = np.random.Generator(np.random.PCG64(derive(seed, "init", layer.name)))
    return generator.uniform(-layer.xavier_bound, layer.xavier_bound, layer.weight_shape)


class Floating:
    """The `Arithmetic` of floats of type `dtype`; `batch_size` is what a rate is divided by."""

    def __init__(
        self, momentum: float, batch_size: int, dtype: torch.dtype = torch.float32, seed: int = 0,
        tuning: Tuning | None = None,
    ) -> None:  # fmt: skip
        """`tuning`: of another optimizer than SGD with `momentum`."""
        self._settings = OptimizerSettings.of(tuning or Tuning(momentum=momentum), batch_size)
        self._dtype = dtype
        self._random, self._training, self._of_batch = Lfsr(derive(seed, "dropout")), True, True
        self._seed = seed

    def initial(self, network: Network, seed: int, device: torch.device = CPU) -> dict[str, Parameters]:
        """The drawn weights; master and weight are one tensor."""
        drawn = {layer.name: self._settings.with_states(self._drawn(layer, seed)) for layer in network.trained}
        return {name: placed(p, device) for name, p in drawn.items()}

    def encode(self, pixels: Pixels, maximum: int) -> Tensor:
        """The pixels as numbers in [0, 1]."""
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._dtype).div_(maximum)

    def arranged(self, x: Tensor) -> Tensor:
        """The inputs as they are, samples first."""
        return x

    def by_sample(self, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits

    def operand(self, layer: Layer, x: Tensor) -> Tensor:
        """The input itself, padded where that is not with zeros."""
        return x if layer.padding_mode == "zeros" else padded(x, layer, 2)

    def weighted(self, layer: Layer, parameters: Parameters, operand: Tensor) -> Tensor:
        """x @ W^T + b, or the convolution."""
        if layer.kind == "conv2d":
            return tf.conv2d(operand, parameters.weight, parameters.bias, *_settings(layer))
        return tf.linear(operand, parameters.weight, parameters.bias)

    def local(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's outputs; activations save theirs, max pooling where its maxima lay, dropout its factors."""
        if layer.kind == "flatten":
            return x.flatten(1), x
        if layer.kind == "shortcut":
            return _shortcut(layer, x), x
        if layer.kind == "dropout":
            factor = self._dropout_factors(layer, x)
            return x * factor, factor
        if layer.kind == "maxpool2d":
            return tf.max_pool2d(x, layer.kernel, layer.stride, layer.padding, return_indices=True)
        if layer.kind == "avgpool2d":
            return tf.avg_pool2d(x, layer.kernel, layer.stride, layer.padding), x
        y = _ACTIVATIONS[layer.kind](x)
        return y, y

    def added(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        """The sum of the inputs."""
        return sum(inputs[1:], inputs[0])

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x - mean) / sqrt(variance + eps), scaled and shifted; training updates the running statistics."""
        p = parameters
        assert p.statistics is not None
        mean, variance = p.statistics
        if not self._of_batch:
            return tf.batch_norm(x, mean, variance, p.weight, p.bias, False, 0.0, NORM_EPS), x
        to = (mean, variance) if self._training else (None, None)
        y, *_ = torch.native_batch_norm(x, p.weight, p.bias, to[0], to[1], True, NORM_MOMENTUM, NORM_EPS)
        return y, x

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax - one-hot per sample, and the summed cross-entropy."""
        log_p = logits.log_softmax(1)
        rows = torch.arange(len(labels), device=logits.device)
        error = log_p.exp()
        error[rows, labels] -= 1
        return error, -float(log_p[rows, labels].sum())

    def error(self, layer: Layer, delta: Tensor, feedback: Tensor) -> Tensor:
        """delta @ B, or its transposed convolution with B."""
        if layer.kind == "conv2d":
            size = tuple(s + 2 * p for s, p in zip(layer.in_shape[1:], layer.padding, strict=True))
            zeros = layer.padding_mode == "zeros"
            shape = (len(delta), layer.in_shape[0], *(layer.in_shape[1:] if zeros else size))
            below: Tensor = grad.conv2d_input(shape, feedback, delta, *_settings(layer))  # type: ignore[no-untyped-call]
            return below if zeros else unpadded(below, layer, 2)
        return delta @ feedback

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """The output error as it is or in its ternary form, or the labels."""
        if rule.signal == "targets":
            return labels
        return ternary(output_error) if rule.signal == "ternary" else output_error

    def direct_error(self, layer: Layer, signal: Tensor, feedback: Tensor) -> Tensor:
        """e @ B, or the tiled e through the kernel B; the rows of B that labels name."""
        if feedback.dim() == 4:
            tiles = layer_tiling(layer, feedback.device)
            sums = tiles.sums(feedback)
            below = tiles.spread(_times_signal(signal, sums.flatten(1)).view(-1, *sums.shape[1:]))
            return below if layer.padding_mode == "zeros" else unpadded(below, layer, 2)
        return _times_signal(signal, feedback).view(-1, *layer.in_shape)

    def pruned(self, layer: Layer, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error with small values rounded at random, by numbers that follow from the layer and the step."""
        generator = torch.Generator().manual_seed(derive(self._seed, "pruning", layer.name, draw))
        return pruned(error, rule, generator)

    def local_error(self, layer: Layer, saved: Tensor, error: Tensor) -> Tensor:
        """The error times the exact derivatives; ReLU's is 0 at 0."""
        if layer.kind == "flatten":
            return error.view(saved.shape)
        if layer.kind == "maxpool2d":
            below = error.new_zeros((*error.shape[:2], layer.in_shape[1] * layer.in_shape[2]))
            below.scatter_add_(2, saved.flatten(2), error.flatten(2))
            return below.view(-1, *layer.in_shape)
        if layer.kind == "avgpool2d":
            return spread_over_windows(error / (layer.kernel[0] * layer.kernel[1]), layer)
        if layer.kind == "shortcut":
            return _shortcut_error(layer, error, saved)
        return error * _DERIVATIVES[layer.kind](saved)

    def norm_error(self, layer: Layer, parameters: Parameters, saved: Tensor, error: Tensor) -> tuple[Tensor, Gradient]:
        """The error through the batch's own mean and variance, and the gradient sums."""
        p, axes = parameters, [axis for axis in range(saved.dim()) if axis != 1]
        variance, mean = torch.var_mean(saved, axes, correction=0)
        below, scale, shift = torch.ops.aten.native_batch_norm_backward(
            error, saved, p.weight, None, None, mean, (variance + NORM_EPS).rsqrt_(), True, NORM_EPS, [True] * 3
        )
        return below, Gradient(scale, shift)

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum of the errors."""
        return sum(errors[1:], errors[0])

    def gradient(self, layer: Layer, delta: Tensor, operand: Tensor) -> Gradient:
        """delta^T x, or its correlation, and the sums of delta."""
        if layer.kind == "conv2d":
            weight = grad.conv2d_weight(operand, layer.weight_shape, delta, *_settings(layer))  # type: ignore[no-untyped-call]
            return Gradient(weight, delta.sum((0, 2, 3)) if layer.bias else None)
        return Gradient(delta.t() @ operand, delta.sum(0) if layer.bias else None)

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move the parameters in place; weights decay by a product of their own."""
        settings = self._settings
        for name, gradient in gradients.items():
            p = parameters[name]
            if settings.weight_decay and p.statistics is None:
                p.master.mul_(1 - rate * settings.weight_decay)
            along = settings.direction(p.states, gradient.weight, step)
            p.master.add_(along, alpha=-settings.factor(rate))
            if p.bias is not None and gradient.bias is not None:
                along = settings.direction(p.bias_states, gradient.bias, step)
                p.bias.add_(along, alpha=-settings.factor(rate))

    def evaluator(self, seed: int, batch_statistics: bool = False) -> Self:
        """The arithmetic without dropout, whose batch norms update no running statistics."""
        other = copy(self)
        other._training, other._of_batch = False, batch_statistics
        return other

    def plain(self, layer: Layer, parameters: Parameters) -> tuple[Tensor, Tensor | None]:
        """The float weight and bias, unchanged: no decoding is needed."""
        return parameters.weight, parameters.bias

    def watch(self, losses: RoundingLosses | None) -> None:
        """Do nothing: nothing is lost in plain floating point."""

    def unit_ratio(self, layer: Layer) -> float:
        """One: feedback and weights are in the same unit."""
        return 1.0

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """An empty mapping: nothing saturates."""
        return {}

    def _drawn(self, layer: Layer, seed: int) -> Parameters:
        """One layer's parameters before training, without the optimizer's states."""
        if layer.kind in NORMS:
            return norm_parameters(layer, self._dtype)
        weight = torch.from_numpy(initial_weights(layer, seed)).to(self._dtype)
        return Parameters(weight, weight, torch.zeros(layer.biases, dtype=self._dtype) if layer.bias else None)

    def _dropout_factors(self, layer: Layer, x: Tensor) -> Tensor:
        """A factor per value, 0 for those dropped: a random byte each decides."""
        if not self._training:
            return x.new_ones(())
        threshold = drop_threshold(layer)
        stays = (random_bytes(self._random, x.numel(), x.device) >= threshold).view(x.shape)
        return stays.to(x.dtype).mul_(256 / (256 - threshold))


def _times_signal(signal: Tensor, matrix: Tensor) -> Tensor:
    """signal @ matrix; of labels, the rows of the matrix that they name."""
    return signal @ matrix if signal.is_floating_point() else matrix.index_select(0, signal)


def drop_threshold(layer: Layer) -> int:
    """The threshold below which a random byte drops a value: the layer's probability in 256ths, at most 255."""
    return min(255, round(256 * layer.dropout))


def drop_factor(threshold: int) -> int:
    """What values that are not dropped are multiplied by, with 8 fraction bits."""
    return round((1 << 16) / (256 - threshold))


def norm_parameters(layer: Layer, dtype: torch.dtype) -> Parameters:
    """The parameters of a batch norm before training: scale 1, shift 0, running means 0 and variances 1."""
    channels = layer.in_shape[0]
    scale, shift, statistics = (
        torch.ones(channels, dtype=dtype),
        torch.zeros(channels, dtype=dtype),
        torch.zeros(2, channels, dtype=dtype),
    )
    statistics[1] = 1
    return Parameters(scale, scale, shift, statistics=statistics)


def _settings(layer: Layer) -> tuple[Pair, Pair, Pair, int]:
    """Stride, padding, dilation and groups as torch takes them."""
    return layer.stride, layer.padding if layer.padding_mode == "zeros" else (0, 0), layer.dilation, layer.groups


def _shortcut(layer: Layer, x: Tensor) -> Tensor:
    before, added = shortcut_channels(layer)
    return tf.pad(x[:, :, :: layer.stride[0], :: layer.stride[1]], (0, 0, 0, 0, before, added - before))


def _shortcut_error(layer: Layer, error: Tensor, x: Tensor) -> Tensor:
    before, _ = shortcut_channels(layer)
    below = torch.zeros_like(x)
    below[:, :, :: layer.stride[0], :: layer.stride[1]] = error[:, before : before + layer.in_shape[0]]
    return below


def shortcut_channels(layer: Layer) -> tuple[int, int]:
    """How many channels of zeros a shortcut adds before those that it reads, and how many in all."""
    added = layer.out_shape[0] - layer.in_shape[0]
    return added // 2, added
