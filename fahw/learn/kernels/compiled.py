"""The loops that numba compiles (`fahw.learn.kernels.loops`, extra `fast`): whether they are at hand, and where they
apply.

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
    """The module of compiled loops, or None where numba is missing or FAHW_COMPILED=0 turns them off."""
    return None if os.environ.get("FAHW_COMPILED") == "0" else _loops()


@cache
def _loops() -> ModuleType | None:
    try:
        return import_module("fahw.learn.kernels.loops")
    except ImportError:  # not installed, or not for this version of numpy
        return None


def applies(source: Tensor, bits: int, mode: Rounding = "nearest") -> bool:
    """Whether the loops apply to `source`: on the processor, without gaps, not int64, into 2 to 8 bits, not by
    floor."""
    plain = source.device == CPU and source.is_contiguous() and source.dtype != torch.int64
    return plain and 1 < bits <= 8 and mode != "floor" and loops() is not None


def requantised(
    acc: Tensor, bias: Tensor | None, shift: int, bits: int, mode: Rounding, real: torch.dtype, random: Lfsr
) -> Tensor:
    """Words of `bits` bits, int8, shaped as `acc`: accumulators plus a bias for each row, over 2^shift, rounded by
    `mode` and saturated.

    `real`: the float type that holds all of it exactly. Call it only where `applies` is true.
    """
    compiled, kind = loops(), "float64" if real == torch.float64 else "float32"
    assert compiled is not None, "asked for first"
    out = torch.empty(acc.shape, dtype=torch.int8)
    shape = (1, -1) if bias is None else (len(bias), -1)
    scalar: type[np.floating[Any]] = getattr(np, kind)
    noise = random.take(acc.numel()).reshape(shape) if mode == "stochastic" else None
    compiled.requantise[kind](
        acc.numpy().reshape(shape), np.zeros(1, kind) if bias is None else bias.numpy().astype(kind),
        scalar(2.0**-shift), scalar(-(1 << (bits - 1))), scalar((1 << (bits - 1)) - 1),
        noise, out.numpy().reshape(shape),
    )  # fmt: skip
    return out


def pruned(error: Tensor, random: Tensor, factor: int, largest_threshold: int) -> Tensor | None:
    """The result of `signals.pruned_words`, or None where the loops do not apply."""
    compiled = loops()
    if compiled is None or not applies(error, 8) or error.dtype != torch.int8:
        return None
    out = torch.empty_like(error)
    compiled.prune(error.view(-1).numpy(), random.numpy(), factor, largest_threshold, out.view(-1).numpy())
    return out


def masked(output: Tensor, error: Tensor, top: int) -> bool:
    """Zero the errors in place where the output is not from 1 to `top` - 1. Returns False, with nothing changed, where
    the loops do not apply."""
    compiled = loops()
    in_bytes = output.dtype == error.dtype == torch.int8
    if compiled is None or not in_bytes or not output.is_contiguous() or not applies(error, 8):
        return False
    compiled.mask(output.view(-1).numpy(), error.view(-1).numpy(), top)
    return True
