"""Momentum SGD on integers, block by block so that a block's passes stay in the processor's cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.config.precision import Rounding, RoundingModes
from fahw.learn.formats import (
    MU_BITS,
    Format,
    Scales,
    carrier,
    draws_random,
    rate_constant,
    requantise_,
    round_,
    saturate_,
    useful_shift,
)  # fmt: skip
from fahw.learn.step import Gradient, Parameters
from fahw.prng import Lfsr

_BLOCK = 1 << 18


@dataclass(frozen=True)
class _Formats:
    """What the update of one tensor depends on besides the rate; no `weight` for biases."""

    gradient: Format
    gradient_shift: int
    velocity: Format
    master: Format
    weight: Format | None


@dataclass(frozen=True)
class _Plan:
    """Constants of one tensor's update.

    `align`: left shift of the gradient into the sum with 8 fraction bits. `rate`, `rate_shift`: mantissa and shift.
    `dtype`: the float type in which every sum below is exact.
    """

    formats: _Formats
    momentum: int
    align: int
    rate: int
    rate_shift: int
    dtype: torch.dtype


@lru_cache(maxsize=1024)
def _plan(formats: _Formats, acc_bound: int, momentum: int, rate: float, modes: RoundingModes) -> _Plan:
    f = formats
    align = MU_BITS - (f.gradient.frac - f.velocity.frac)
    constant = rate_constant(rate * 2.0 ** (f.master.frac - f.velocity.frac))
    reach = f.velocity.limit * constant.mantissa
    shift = useful_shift(reach, constant.shift)
    total = f.velocity.limit * momentum + (f.gradient.limit << max(0, align))
    sums = (
        carrier(acc_bound, f.gradient_shift, modes.gradient),
        carrier(total, MU_BITS, modes.update),
        carrier(reach, shift, modes.update),
    )
    dtype = torch.float64 if torch.float64 in sums else torch.float32
    return _Plan(f, momentum, align, constant.mantissa, shift, dtype)


class Momentum:
    """Moves parameters in place; `momentum` becomes a constant of 8 fraction bits."""

    def __init__(self, momentum: float, batch_size: int, modes: RoundingModes, random: Lfsr) -> None:
        self._momentum, self._batch_size = round(momentum * (1 << MU_BITS)), batch_size
        self._modes, self._random = modes, random
        self._scratch: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = {}

    def update(
        self, parameters: Parameters, gradient: Gradient, scales: Scales, bounds: tuple[int, int], rate: float
    ) -> None:
        """One step. `bounds`: largest magnitudes in the weight and bias gradients' accumulators."""
        p, s, share = parameters, scales, rate / self._batch_size
        weight = _Formats(s.gradient, s.gradient_shift, s.velocity, s.master, s.weight)
        bias = _Formats(s.bias_gradient, s.bias_gradient_shift, s.bias_velocity, s.bias, None)
        size, biases = p.master.numel(), 0 if p.bias is None else p.bias.numel()
        random = self._draw((size, biases), weight)
        plan = _plan(weight, bounds[0], self._momentum, share, self._modes)
        self._move(plan, (gradient.weight, p.velocity, p.master, p.weight), random[0])
        if p.bias is not None and p.bias_velocity is not None and gradient.bias is not None:
            plan = _plan(bias, bounds[1], self._momentum, share, self._modes)
            self._move(plan, (gradient.bias, p.bias_velocity, p.bias), random[1])

    def _draw(self, sizes: tuple[int, int], formats: _Formats) -> list[list[Tensor | None]]:
        """Random bytes for gradient, velocity and master, of the weights and of the biases, in the stream's order."""
        modes, f = self._modes, formats
        wanted = (
            draws_random(modes.gradient, f.gradient.bits),
            draws_random(modes.update, f.velocity.bits),
            modes.update == "stochastic",  # what is subtracted from the master is rounded whatever its width
        )
        order = [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
        taken = self._random.take(sum(sizes[tensor] for tensor, kind in order if wanted[kind]))
        result: list[list[Tensor | None]] = [[None] * 3, [None] * 3]
        start = 0
        for tensor, kind in order:
            if wanted[kind]:
                result[tensor][kind] = _slice(taken, start, sizes[tensor])
                start += sizes[tensor]
        return result

    def _move(self, plan: _Plan, tensors: tuple[Tensor, ...], random: list[Tensor | None]) -> None:
        """`tensors`: gradient accumulator, velocity, master and, for weights, the forward words."""
        scratch = self._buffers(plan.dtype)
        parts = [torch.split(x.view(-1), _BLOCK) for x in tensors]
        noise = [() if r is None else torch.split(r, _BLOCK) for r in random]
        for number, (acc, velocity, *stored) in enumerate(zip(*parts, strict=True)):
            size = acc.numel()
            g, x, r = (buffer[:size] for buffer in scratch)
            bits = [n[number] if n else None for n in noise]
            _round_gradient(plan, g.copy_(acc), self._modes.gradient, _into(r, bits[0]))
            v = velocity.to(plan.dtype)  # the tensor itself in float32
            _accelerate(plan, v, g, self._modes.update, _into(r, bits[1]))
            _displace(plan, stored[0], v, x, self._modes.update, _into(r, bits[2]))
            if v is not velocity:
                velocity.copy_(v)
            if plan.formats.weight is not None:
                shift = plan.formats.master.frac - plan.formats.weight.frac
                stored[1].copy_(requantise_(x.copy_(stored[0]), shift, plan.formats.weight.bits, "nearest"))

    def _buffers(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        if dtype not in self._scratch:
            self._scratch[dtype] = tuple(torch.empty(_BLOCK, dtype=dtype) for _ in range(3))  # type: ignore[assignment]
        return self._scratch[dtype]


def _round_gradient(plan: _Plan, g: Tensor, mode: Rounding, random: Tensor | None) -> None:
    requantise_(g, plan.formats.gradient_shift, plan.formats.gradient.bits, mode, random)
    if plan.align < 0:
        g.mul_(2.0**plan.align).floor_()


def _accelerate(plan: _Plan, v: Tensor, g: Tensor, mode: Rounding, random: Tensor | None) -> None:
    """v = round((v * momentum + g * 2^align) / 2^8)."""
    v.mul_(plan.momentum * 2.0**-MU_BITS).add_(g, alpha=2.0 ** (max(0, plan.align) - MU_BITS))
    bits = plan.formats.velocity.bits
    saturate_(v if bits == 1 else round_(v, mode, random), bits)


def _displace(plan: _Plan, master: Tensor, v: Tensor, x: Tensor, mode: Rounding, random: Tensor | None) -> None:
    """master -= round(v * rate); `x` is scratch."""
    torch.mul(v, plan.rate * 2.0**-plan.rate_shift, out=x)
    if plan.rate_shift > 0:
        round_(x, mode, random)
    saturate_(master.sub_(x), plan.formats.master.bits)


def _into(buffer: Tensor, random: Tensor | None) -> Tensor | None:
    return None if random is None else buffer.copy_(random)


def _slice(taken: NDArray[np.uint8], start: int, size: int) -> Tensor:
    return torch.from_numpy(taken[start : start + size])
