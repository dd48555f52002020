"""The step in floating point, float32 to train and float64 to check: no autograd, each product written out."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
import torch
import torch.nn.functional as tf
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import grad

from fahw.datasets.images import Pixels
from fahw.layers.layer import Layer, Pair
from fahw.layers.weighted import Weighted
from fahw.learn.arithmetic.float_unit import FloatUnit
from fahw.learn.error_path.signals import FloatSignals, pruned
from fahw.learn.error_path.tiled import layer_tiling
from fahw.learn.kernels.device import CPU
from fahw.learn.kernels.windows import padded, unpadded
from fahw.learn.state.parameters import Gradient, Parameters, placed
from fahw.learn.state.rounding_losses import RoundingLosses
from fahw.learn.update.optimizer import OptimizerSettings
from fahw.network.graph import Network
from fahw.network.recipe import Tuning
from fahw.prng import Lfsr, derive
from fahw.rules.rule import Rule


def initial_weights(layer: Weighted, seed: int) -> NDArray[np.float64]:
    """Xavier-uniform, shaped as the layer's weight: the one draw of all arithmetics."""
    generator = np.random.Generator(np.random.PCG64(derive(seed, "init", layer.name)))
    return generator.uniform(-layer.xavier_bound, layer.xavier_bound, layer.weight_shape)


class Floating(FloatUnit):
    """The `Arithmetic` of floats of type `dtype`; `batch_size` is what a rate is divided by."""

    def __init__(
        self, momentum: float, batch_size: int, dtype: torch.dtype = torch.float32, seed: int = 0,
        tuning: Tuning | None = None, norm_samples: int | None = None,
    ) -> None:  # fmt: skip
        """`tuning`: of another optimizer than SGD with `momentum`."""
        self._settings = OptimizerSettings.of(tuning or Tuning(momentum=momentum), batch_size)
        self._dtype = dtype
        super().__init__(Lfsr(derive(seed, "dropout")), norm_samples)
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

    def operand(self, layer: Weighted, x: Tensor) -> Tensor:
        """The input itself, padded where that is not with zeros."""
        return x if layer.padding_mode == "zeros" else padded(x, layer, 2)

    def weighted(self, layer: Weighted, parameters: Parameters, operand: Tensor) -> Tensor:
        """x @ W^T + b, or the convolution."""
        if layer.convolutional:
            return tf.conv2d(operand, parameters.weight, parameters.bias, *_settings(layer))
        return tf.linear(operand, parameters.weight, parameters.bias)

    def loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The output error, softmax - one-hot per sample, and the summed cross-entropy."""
        log_p = logits.log_softmax(1)
        rows = torch.arange(len(labels), device=logits.device)
        error = log_p.exp()
        error[rows, labels] -= 1
        return error, -float(log_p[rows, labels].sum())

    def error(self, layer: Weighted, delta: Tensor, feedback: Tensor) -> Tensor:
        """delta @ B, or its transposed convolution with B."""
        if layer.convolutional:
            size = tuple(s + 2 * p for s, p in zip(layer.in_shape[1:], layer.padding, strict=True))
            zeros = layer.padding_mode == "zeros"
            shape = (len(delta), layer.in_shape[0], *(layer.in_shape[1:] if zeros else size))
            below: Tensor = grad.conv2d_input(shape, feedback, delta, *_settings(layer))  # type: ignore[no-untyped-call]
            return below if zeros else unpadded(below, layer, 2)
        return delta @ feedback

    def signal(self, rule: Rule, output_error: Tensor, labels: Tensor) -> Tensor:
        """The output error as it is or in its ternary form, or the labels."""
        words: Tensor = rule.sent.made(FloatSignals(output_error, labels))
        return words

    def direct_error(self, layer: Weighted, signal: Tensor, feedback: Tensor) -> Tensor:
        """e @ B, or the tiled e through the kernel B; the rows of B that labels name."""
        if feedback.dim() == 4:
            tiles = layer_tiling(layer, feedback.device)
            sums = tiles.sums(feedback)
            below = tiles.spread(_times_signal(signal, sums.flatten(1)).view(-1, *sums.shape[1:]))
            return below if layer.padding_mode == "zeros" else unpadded(below, layer, 2)
        return _times_signal(signal, feedback).view(-1, *layer.in_shape)

    def pruned(self, layer: Weighted, error: Tensor, rule: Rule, draw: int) -> Tensor:
        """The error with small values rounded at random, by numbers that follow from the layer and the step."""
        generator = torch.Generator().manual_seed(derive(self._seed, "pruning", layer.name, draw))
        return pruned(error, rule, generator)

    def summed(self, errors: list[Tensor]) -> Tensor:
        """The sum of the errors."""
        return sum(errors[1:], errors[0])

    def gradient(self, layer: Weighted, delta: Tensor, operand: Tensor) -> Gradient:
        """delta^T x, or its correlation, and the sums of delta."""
        if layer.convolutional:
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

    def unit_ratio(self, layer: Weighted) -> float:
        """One: feedback and weights are in the same unit."""
        return 1.0

    def saturated(self, parameters: dict[str, Parameters]) -> dict[str, float]:
        """An empty mapping: nothing saturates."""
        return {}

    def _drawn(self, layer: Layer, seed: int) -> Parameters:
        """One layer's parameters before training, without the optimizer's states."""
        if not isinstance(layer, Weighted):
            return norm_parameters(layer, self._dtype)
        weight = torch.from_numpy(initial_weights(layer, seed)).to(self._dtype)
        return Parameters(weight, weight, torch.zeros(layer.biases, dtype=self._dtype) if layer.bias else None)


def _times_signal(signal: Tensor, matrix: Tensor) -> Tensor:
    """signal @ matrix; of labels, the rows of the matrix that they name."""
    return signal @ matrix if signal.is_floating_point() else matrix.index_select(0, signal)


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


def _settings(layer: Weighted) -> tuple[Pair, Pair, Pair, int]:
    """Stride, padding, dilation and groups as torch takes them."""
    return layer.stride, layer.padding if layer.padding_mode == "zeros" else (0, 0), layer.dilation, layer.groups
