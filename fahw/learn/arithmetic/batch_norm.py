"""Batch norm on integer words: a unit that computes in float64, declared so, between words of the chip's formats.

Sums over the batch are integers and exact in float64; what is left is one formula per channel and one product and sum
per value, each rounded as IEEE 754 says, so that the words that come out are the same on every machine. Scale, shift
and their velocities are float64 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from fahw.formats.fixed_point import draws_random, random_bytes, round_, saturate_, word_dtype
from fahw.formats.precision import Precision, Rounding, RoundingModes
from fahw.layers.layer import Layer
from fahw.layers.normalization import EPS, MOMENTUM
from fahw.learn.kernels.matmul import exact_matmul, int8_is_fast
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.update.optimizer import OptimizerSettings
from fahw.network.graph import Network
from fahw.prng import Lfsr

_BLOCK = 1 << 17
"""Values that are worked on at a time."""
_CHANNELS = 16
"""Channels whose products with each other cost less than the products of each with itself alone would."""


class Norms:
    """The batch norms of a network; they hold each one's mean and inverse deviation from forward to backward.

    Words lie as (channels, ..., n). `fracs`: fraction bits of every layer's output. Statistics are taken over `samples`
    at a time, a group (what remains of the batch is one too), or over the batch where None; they lie as
    (channels, groups).
    """

    def __init__(
        self, network: Network, fracs: dict[str, int], error_frac: int, precision: Precision, rounding: RoundingModes,
        settings: OptimizerSettings, samples: int | None = None,
    ) -> None:  # fmt: skip
        self.samples = samples
        self._fracs, self._error_unit = fracs, 2.0**-error_frac
        self._names = [layer.name for layer in network.layers if layer.params]
        self._bits = precision.bits("activation"), precision.bits("error")
        self._modes = rounding.activation, rounding.error
        self._settings = settings.in_words
        self._batch_statistics: dict[str, tuple[Tensor, Tensor]] = {}
        self._scratch: list[Tensor] = []

    def forward(
        self, layer: Layer, parameters: Parameters, x: Tensor, random: Lfsr, of_batch: bool, update_running: bool
    ) -> Tensor:
        """The output, round(x a + b) per channel and group, by the statistics of the batch, which may update the
        running ones, or by these."""
        p, unit, groups = (
            parameters,
            2.0 ** -self._fracs[layer.sources[0]],
            _Groups(x, self.samples if of_batch else None),
        )
        assert p.statistics is not None
        assert p.bias is not None
        if of_batch:
            mean, variance = groups.moments(x)
            inverse = _inverse_deviation(variance * (unit * unit))
            self._batch_statistics[layer.name] = mean, inverse
            if update_running:
                for number, count in enumerate(groups.counts):
                    own = mean[:, number] * unit, variance[:, number] * (unit * unit)
                    _update_running(p.statistics, *own, count)
        else:
            statistics = p.statistics.unsqueeze(2)
            mean, inverse = statistics[0] / unit, _inverse_deviation(statistics[1])
        gain, shift = p.weight.unsqueeze(1) * inverse, p.bias.unsqueeze(1)
        a, b = gain * (unit * 2.0 ** self._fracs[layer.name]), shift - gain * (mean * unit)
        b = b * 2.0 ** self._fracs[layer.name]
        out = torch.empty(x.shape, dtype=word_dtype(self._bits[0]), device=x.device)
        for part in _channels(x):
            q = self._wide(0, x[part])
            q.mul_(groups.wide(a[part], q)).add_(groups.wide(b[part], q))
            out[part].copy_(_words_(q, self._bits[0], self._modes[0], random))
        return out

    def backward(
        self, layer: Layer, parameters: Parameters, x: Tensor, error: Tensor, random: Lfsr
    ) -> tuple[Tensor, Gradient]:
        """The error before the norm, and the gradient sums of scale and shift."""
        mean, inverse = self._batch_statistics[layer.name]
        unit, groups = 2.0 ** -self._fracs[layer.sources[0]], _Groups(x, self.samples)
        total, count = groups.by_group(_sums, error), groups.count(x)
        along = (groups.by_group(_dots, error, x) - mean * total) * (inverse * unit)
        gain = parameters.weight.unsqueeze(1) * inverse
        slope = gain * (inverse * unit) * (along / count)
        start = slope * mean - gain * (total / count)
        below = torch.empty(x.shape, dtype=word_dtype(self._bits[1]), device=x.device)
        for part in _channels(x):
            e, q = self._wide(1, error[part]), self._wide(0, x[part])
            wide = (groups.wide(values[part], q) for values in (gain, slope, start))
            exact = e.mul_(next(wide)).sub_(q.mul_(next(wide))).add_(next(wide))
            below[part].copy_(_words_(exact, self._bits[1], self._modes[1], random))
        return below, Gradient(*(reduce(torch.add, sums.unbind(1)) * self._error_unit for sums in (along, total)))

    def _wide(self, number: int, words: Tensor) -> Tensor:
        """The words in float64, in scratch memory: fresh memory costs more than a pass over it."""
        size = words.numel()
        if len(self._scratch) < 2 or len(self._scratch[number]) < size:
            self._scratch = [torch.empty(size, dtype=torch.float64, device=words.device) for _ in range(2)]
        return self._scratch[number][:size].view(words.shape).copy_(words)

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move scales and shifts in place, in float64."""
        for name in (name for name in self._names if name in gradients):
            p, g = parameters[name], gradients[name]
            assert p.bias is not None
            assert g.bias is not None
            for value, states, slope in ((p.weight, p.states, g.weight), (p.bias, p.bias_states, g.bias)):
                along = self._settings.direction(states, slope, step)
                value.sub_(along * self._settings.factor(rate))


class _Groups:
    """The groups of `samples` (None: all of them) into which the samples of words fall, the last perhaps smaller."""

    def __init__(self, x: Tensor, samples: int | None) -> None:
        self._all = x.shape[-1]
        self._size = min(samples or self._all, self._all)
        whole, rest = divmod(self._all, self._size)
        sizes = [self._size] * whole + [rest] * bool(rest)
        self.counts = [x[0].numel() // self._all * size for size in sizes]

    def count(self, x: Tensor) -> Tensor:
        """The number of every channel's words, (groups,); a tensor, as by a number CUDA does not divide: it multiplies
        by the reciprocal."""
        return torch.tensor(self.counts, dtype=torch.float64).to(x.device)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and variance of every channel and group of words, from exact sums."""
        count = self.count(x)
        mean = self.by_group(_sums, x) / count
        return mean, (self.by_group(_dots, x, x) / count - mean * mean).clamp_(min=0)

    def by_group(self, sums: Callable[..., Tensor], *words: Tensor) -> Tensor:
        """What `sums` makes of the words of every channel, for each group, (channels, groups)."""
        if self._size == self._all:
            return sums(*words).unsqueeze(1)
        start = self._all - self._all % self._size
        found = [sums(*(self._rows(x[..., :start]) for x in words)).view(len(words[0]), -1)]
        if start < self._all:
            found.append(sums(*(x[..., start:] for x in words)).unsqueeze(1))
        return torch.cat(found, 1)

    def _rows(self, x: Tensor) -> Tensor:
        """The words with each channel's groups one after the other, as channels of their own."""
        return x.reshape(*x.shape[:-1], -1, self._size).movedim(-2, 1).flatten(0, 1)

    def wide(self, values: Tensor, like: Tensor) -> Tensor:
        """Values of channels and groups, one for every sample, to compute with words that lie as `like`."""
        of_samples = values if values.shape[1] == 1 else values.repeat_interleave(self._size, 1)[:, : self._all]
        return of_samples.view(len(values), *[1] * (like.dim() - 2), -1)


def _channels(x: Tensor) -> Iterator[slice]:
    """The blocks of channels that stay in the cache."""
    size = max(1, _BLOCK // x[0].numel())
    return (slice(at, at + size) for at in range(0, len(x), size))


def _multiplies_bytes(x: Tensor) -> bool:
    return x.dtype == torch.int8 and int8_is_fast(x.device)


def _sums(x: Tensor) -> Tensor:
    """The sum of every channel's words, exact."""
    rows = x.flatten(1)
    if _multiplies_bytes(x):
        ones = torch.ones(rows.shape[1], 1, dtype=torch.int8, device=x.device)
        return exact_matmul(rows, ones, rows.shape[1] << 7).view(-1).double()
    return rows.sum(1, dtype=torch.float64)


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """The sums of the products of every channel's words: integers, so that no order of adding changes them."""
    rows, others = x.flatten(1), y.flatten(1)
    if x.dtype == y.dtype and _multiplies_bytes(x):  # each channel by all of a few, and yet faster
        bound, parts = rows.shape[1] << 14, [slice(at, at + _CHANNELS) for at in range(0, len(rows), _CHANNELS)]
        return torch.cat([exact_matmul(rows[part], others[part].t(), bound).diagonal() for part in parts]).double()
    return torch.stack([torch.dot(a.double(), b.double()) for a, b in zip(rows, others, strict=True)])


def _inverse_deviation(variance: Tensor) -> Tensor:
    """1 / sqrt(variance + eps), by numpy, whose root is correctly rounded; torch's may be the last bit off."""
    return torch.from_numpy(1 / np.sqrt(variance.cpu().numpy() + EPS)).to(variance.device)


def _update_running(statistics: Tensor, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch of `count` values per channel."""
    unbiased = variance * (count / max(1, count - 1))
    statistics.mul_(1 - MOMENTUM).add_(torch.stack((mean, unbiased)) * MOMENTUM)


def _words_(values: Tensor, bits: int, mode: Rounding, random: Lfsr) -> Tensor:
    """The values rounded once, in place, with random bytes in the order of memory; one bit is the sign."""
    if bits > 1:
        noise = None
        if draws_random(mode, bits):
            noise = random_bytes(random, values.numel(), values.device).to(values.dtype).view(values.shape)
        round_(values, mode, noise)
    return saturate_(values, bits)
