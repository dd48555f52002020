"""The operations of layers in floating point; tensors are `(n, features)` or `(n, channels, height, width)`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
import torch.nn.functional as tf
from torch import Tensor

from fahw.formats.fixed_point import random_bytes
from fahw.formats.functions import Function, Functions
from fahw.layers.layer import Layer, Pair, Shape
from fahw.layers.normalization import EPS, MOMENTUM
from fahw.layers.pooling import Pooling
from fahw.learn.kernels.windows import spread_over_windows
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.prng import Lfsr

REAL = cast(Functions, torch)
"""The functions of tensors of real numbers."""
_IMAGE_AXES = (2, 3)


class FloatUnit:
    """The operations of layers without weights. `random` decides what is dropped; batch norms take their statistics
    over `norm_samples` at a time, over the batch where None."""

    def __init__(self, random: Lfsr, norm_samples: int | None = None) -> None:
        self._random, self._training, self._of_batch = random, True, True
        self.norm_samples = norm_samples

    @property
    def generators(self) -> tuple[Lfsr, ...]:
        """The random generators, all that a step changes of the arithmetic."""
        return (self._random,)

    def reshaped(self, x: Tensor, shape: Shape) -> Tensor:
        """The values of each sample in another shape."""
        return x.reshape(-1, *shape)

    def subsampled(self, x: Tensor, stride: Pair) -> Tensor:
        """Every `stride`-th pixel."""
        return x[:, :, :: stride[0], :: stride[1]]

    def spread_out(self, x: Tensor, stride: Pair, shape: Shape) -> Tensor:
        """Images of `shape`, zero but for every `stride`-th pixel."""
        image = x.new_zeros((len(x), *shape))
        image[:, :, :: stride[0], :: stride[1]] = x
        return image

    def with_zero_channels(self, x: Tensor, before: int, behind: int) -> Tensor:
        """The image between channels of zeros."""
        return tf.pad(x, (0, 0, 0, 0, before, behind))

    def channels(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The channels or features from `start` to before `stop`."""
        return x[:, start:stop]

    def copied(self, x: Tensor) -> Tensor:
        """A copy that may be changed."""
        return x.clone()

    def clamped(self, layer: Layer, x: Tensor, low: int | None, high: int | None) -> Tensor:
        """The values between both limits."""
        return torch.relu(x) if (low, high) == (0, None) else x.clamp(low, high)

    def function(self, layer: Layer, x: Tensor, function: Function) -> Tensor:
        """The function of every value."""
        y: Tensor = function(REAL, x)
        return y

    def joined(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs, one behind the other."""
        return torch.cat(list(inputs), 1)

    def added(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The sum of the inputs."""
        return sum(inputs[1:], inputs[0])

    def multiplied(self, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """The product of the two inputs."""
        return inputs[0] * inputs[1]

    def drop_factors(self, layer: Layer, x: Tensor, probability: float) -> Tensor | None:
        """A factor per value, 0 for those dropped: a random byte each decides."""
        if not self._training:
            return None
        threshold = drop_threshold(probability)
        stays = (random_bytes(self._random, x.numel(), x.device) >= threshold).view(x.shape)
        return stays.to(x.dtype).mul_(256 / (256 - threshold))

    def scaled(self, layer: Layer, x: Tensor, factors: Tensor) -> Tensor:
        """The values times the factors."""
        return x * factors

    def window_maxima(self, layer: Pooling, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest values, and their places in the image."""
        return tf.max_pool2d(x, layer.kernel, layer.stride, layer.padding, return_indices=True)

    def window_means(self, layer: Pooling, x: Tensor) -> Tensor:
        """The means."""
        return tf.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)

    def window_sums(self, layer: Pooling, x: Tensor) -> Tensor:
        """The sums."""
        return tf.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, divisor_override=1)

    def normalised(self, layer: Layer, parameters: Parameters, x: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps), scaled and shifted; training updates the running statistics."""
        p = parameters
        assert p.statistics is not None
        mean, variance = p.statistics
        if not self._of_batch:
            return tf.batch_norm(x, mean, variance, p.weight, p.bias, False, 0.0, EPS)
        running = (mean, variance) if self._training else None
        return _joined([_normalised(part, p, running) for part in self._together(x)])

    def passed(self, layer: Layer, error: Tensor, values: Tensor, low: int, high: int | None) -> Tensor:
        """The errors of the values between both limits; nothing saturates but by them."""
        inside = values > low
        return error * (inside if high is None else inside & (values < high))

    def times_derivative(self, layer: Layer, error: Tensor, values: Tensor, derivative: Function) -> Tensor:
        """The errors times the derivative at the layer's outputs."""
        below: Tensor = error * derivative(REAL, values)
        return below

    def times_function(self, layer: Layer, error: Tensor, x: Tensor, function: Function) -> Tensor:
        """The errors times the function of the layer's inputs."""
        below: Tensor = error * function(REAL, x)
        return below

    def times_values(self, layer: Layer, error: Tensor, inputs: Sequence[Tensor], number: int) -> Tensor:
        """The errors times the other input, summed up over an image that the input multiplied."""
        below = error * inputs[1 - number]
        return below if inputs[number].shape == below.shape else below.sum(_IMAGE_AXES, keepdim=True)

    def scaled_error(self, error: Tensor, factors: Tensor) -> Tensor:
        """The errors times the factors."""
        return error * factors

    def error_share(self, error: Tensor, parts: int) -> Tensor:
        """The errors divided by a number."""
        return error / parts

    def error_at_maxima(self, layer: Pooling, error: Tensor, where: Tensor) -> Tensor:
        """The errors added up at the places of the maxima."""
        below = error.new_zeros((*error.shape[:2], prod(layer.in_shape[1:])))
        below.scatter_add_(2, where.flatten(2), error.flatten(2))
        return below.view(-1, *layer.in_shape)

    def error_over_windows(self, layer: Pooling, error: Tensor) -> Tensor:
        """The errors at every pixel of their windows, summed."""
        return spread_over_windows(error, layer)

    def normalised_error(
        self, layer: Layer, parameters: Parameters, x: Tensor, error: Tensor
    ) -> tuple[Tensor, Gradient]:  # fmt: skip
        """The error through the batch's own mean and variance, and the gradient sums."""
        pairs = zip(self._together(x), self._together(error), strict=True)
        below, scales, shifts = zip(*(_normalised_error(*pair, parameters.weight) for pair in pairs), strict=True)
        return _joined(below), Gradient(sum(scales[1:], scales[0]), sum(shifts[1:], shifts[0]))

    def _together(self, x: Tensor) -> Sequence[Tensor]:
        """The samples in the parts over which batch norms take their statistics."""
        size = self.norm_samples or len(x)
        return [x] if size >= len(x) else [x[start : start + size] for start in range(0, len(x), size)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The samples of all parts."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _normalised(x: Tensor, p: Parameters, running: tuple[Tensor, Tensor] | None) -> Tensor:
    """The values by their own statistics, towards which the `running` ones move, where given."""
    is_single = x.numel() == x.shape[1]  # torch makes NaN of the variance of a single value
    mean, variance = (None, None) if running is None or is_single else running
    y, own_mean, _ = torch.native_batch_norm(x, p.weight, p.bias, mean, variance, True, MOMENTUM, EPS)
    if running is not None and is_single:
        running[0].lerp_(own_mean, MOMENTUM)
        running[1].mul_(1 - MOMENTUM)
    return y


def _normalised_error(x: Tensor, error: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The error before a norm of `x` by its own statistics, and the gradient sums of scale and shift."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    below, along, total = torch.ops.aten.native_batch_norm_backward(
        error, x, scale, None, None, mean, (variance + EPS).rsqrt_(), True, EPS, [True] * 3
    )
    return below, along, total


def drop_threshold(probability: float) -> int:
    """The threshold below which a random byte drops a value: the probability in 256ths, at most 255."""
    return min(255, round(256 * probability))
