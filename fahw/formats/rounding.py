"""Rounding to whole numbers of units, and units themselves: what the number formats share. Loads torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fahw.prng import Lfsr

_CPU = torch.device("cpu")
_NATIVE = {
    "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2, "fp16": torch.float16, "bf16": torch.bfloat16,
}  # fmt: skip
"""Formats that torch rounds to, to the nearest, by itself; others take the slower way."""
LOWEST_UNIT = -126
"""Exponent of the smallest shared unit, a normal number of float32."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Random numbers for stochastic rounding: `draws` has the shape of the values, its integers have `bits` bits."""

    draws: Tensor
    bits: int


def noise(random: Lfsr, shape: torch.Size, bits: int, device: torch.device = _CPU) -> Noise:
    """Fresh random numbers of `shape`, row-major: the top `bits` of a byte each, or of two bytes, lower one first."""
    random_bytes = random.take(shape.numel() * (1 if bits <= 8 else 2))
    words = random_bytes if bits <= 8 else random_bytes.view("<u2").astype(np.int32)
    return Noise(torch.from_numpy(words >> ((8 if bits <= 8 else 16) - bits)).view(shape).to(device), bits)


def whole(x: Tensor, mode: str, noise: Noise | None) -> Tensor:
    """x rounded to integers; x may be overwritten. Bits of x below those of the noise never decide, and are cut off, so
    that every step is exact."""
    if mode == "nearest":
        return x.round_()
    if mode == "stochastic":
        assert noise is not None, "stochastic rounding needs random bits"
        x = x.double().mul_(2.0**noise.bits).floor_().add_(noise.draws).mul_(2.0**-noise.bits)
    return x.floor_()


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in float64, exact, for integers from -1022 to 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def unit_above(largest: Tensor, digits: int) -> Tensor:
    """The units whose 2^digits is the least power of two above each of `largest`, in float64; 1 for zeros."""
    exponent = torch.frexp(largest.double().clamp(max=torch.finfo(torch.float32).max)).exponent
    return torch.where(largest > 0, power_of_two((exponent - digits).clamp_(min=LOWEST_UNIT)), 1.0)


def largest_magnitude(x: Tensor, channel: int | None) -> Tensor:
    """The largest magnitude of all of x, or for each index of the axis `channel`, shaped to broadcast to x."""
    axes = [axis for axis in range(x.dim()) if axis != channel]
    return x.abs().amax(axes, keepdim=True) if x.numel() else x.new_zeros([1] * x.dim())


def native(x: Tensor, name: str) -> Tensor | None:
    """x, which is within the range of a float format, rounded to the nearest by torch; None where torch has not got the
    format."""
    return x.to(_NATIVE[name]).to(x.dtype) if name in _NATIVE and x.dtype == torch.float32 else None


def in_last_places(x: Tensor, lowest_exponent: int, mantissa_bits: int, mode: str, noise: Noise | None) -> Tensor:
    """x in float64 rounded in units of the last place at x, of a float format with subnormal numbers."""
    values = x.double()
    last_place = torch.frexp(values).exponent.sub_(1).clamp_(min=lowest_exponent).sub_(mantissa_bits)
    unit = power_of_two(last_place)
    return whole(values / unit, mode, noise).mul_(unit)
