"""Whether the loops that numba compiles (`fahw.learn.kernels.loops`, extra `fast`) are at hand, and where they apply.

Where they are not, or are turned off by FAHW_COMPILED=0, torch goes over the memory several times instead: the same
results, more slowly.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fahw.formats.precision import Rounding
from fahw.learn.kernels.device import CPU
from fahw.prng import Lfsr


def loops() -> ModuleType | None:
    """The compiled loops, or None."""
    return None if os.environ.get("FAHW_COMPILED") == "0" else _loops()


@cache
def _loops() -> ModuleType | None:
    try:
        return import_module("fahw.learn.kernels.loops")
    except ImportError:  # not installed, or not for this version of numpy
        return None


def applies(source: Tensor, bits: int, mode: Rounding = "nearest") -> bool:
    """Whether the loops do here: on the processor, without gaps, into more than one bit and at most a byte."""
    plain = source.device == CPU and source.is_contiguous() and source.dtype != torch.int64
    return plain and 1 < bits <= 8 and mode != "floor" and loops() is not None


def requantised(
    acc: Tensor, bias: Tensor | None, shift: int, bits: int, mode: Rounding, real: torch.dtype, random: Lfsr
) -> Tensor:
    """Words of `bits` bits: accumulators plus a bias for each row, over 2^shift, rounded and saturated.

    `real`: the float type that holds all of it exactly.
    """
    found, kind = loops(), "float64" if real == torch.float64 else "float32"
    assert found is not None, "asked for first"
    out = torch.empty(acc.shape, dtype=torch.int8)
    shape = (1, -1) if bias is None else (len(bias), -1)
    scalar: type[np.floating[Any]] = getattr(np, kind)
    noise = random.take(acc.numel()).reshape(shape) if mode == "stochastic" else None
    found.requantise[kind](
        acc.numpy().reshape(shape), np.zeros(1, kind) if bias is None else bias.numpy().astype(kind),
        scalar(2.0**-shift), scalar(-(1 << (bits - 1))), scalar((1 << (bits - 1)) - 1),
        noise, out.numpy().reshape(shape),
    )  # fmt: skip
    return out


def pruned(error: Tensor, random: Tensor, factor: int, most: int) -> Tensor | None:
    """`signals.pruned_words`, None where the loops do not apply. `most`: the largest threshold."""
    found = loops()
    if found is None or not applies(error, 8) or error.dtype != torch.int8:
        return None
    out = torch.empty_like(error)
    found.prune(error.view(-1).numpy(), random.numpy(), factor, most, out.view(-1).numpy())
    return out


def masked(output: Tensor, error: Tensor, top: int) -> bool:
    """Zero the errors in place where the output is not from 1 to `top` - 1; whether the loops apply."""
    found = loops()
    bytes_ = output.dtype == error.dtype == torch.int8
    if found is None or not bytes_ or not output.is_contiguous() or not applies(error, 8):
        return False
    found.mask(output.view(-1).numpy(), error.view(-1).numpy(), top)
    return True
