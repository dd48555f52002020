"""Loops of the integer step that go over memory once, for numba to compile: the extra `fast`.

Each computes the very integers of the passes in torch that it stands for, in the same exact float type (that of its
factors), and rounds to nearest where it is given no random bytes. Only `kernels.compiled` imports this module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numba
import numpy as np

_LANES = 16


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The loop in machine code, which is kept for later processes where that is possible."""
    fresh: Callable[..., Any] = numba.njit(loop, error_model="numpy", nogil=True)
    try:
        kept: Callable[..., Any] = numba.njit(loop, cache=True, error_model="numpy", nogil=True)
    except RuntimeError:  # no folder to keep compiled code in
        return fresh

    @wraps(loop)
    def call(*arguments: Any) -> Any:
        try:
            return kept(*arguments)
        except (OSError, EOFError):  # the folder is full, or what it holds cannot be read
            return fresh(*arguments)

    return call


def _by_type(make: Callable[[type], Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The compiled loop for each float type that is exact for some formats, by the type's name."""
    return {"float32": _compiled(make(np.float32)), "float64": _compiled(make(np.float64))}


def _requantise(real):
    byte = real(1 / 256)

    def requantise(acc, bias, factor, low, high, random, out):
        for row in range(acc.shape[0]):
            for column in range(acc.shape[1]):
                x = (real(acc[row, column]) + bias[row]) * factor
                if random is None:
                    x = np.rint(x)
                else:
                    x = np.floor(x + real(random[row, column]) * byte)
                out[row, column] = min(max(x, low), high)

    return requantise


requantise = _by_type(_requantise)
"""The loop of `compiled.requantised`: out = (acc + bias of the row) * factor, rounded and saturated. acc, random and
out: (rows, n)."""


def _momentum(real):
    byte, one = real(1 / 256), real(1)

    def momentum(acc, velocity, master, words, for_gradient, for_velocity, for_master, factors, limits):
        to_gradient, blend, keep, rate, to_word = factors
        g_limit, v_limit, m_limit, w_limit = limits
        for i in range(len(velocity)):
            g = real(acc[i]) * to_gradient
            if for_gradient is None:
                g = np.rint(g)
            else:
                g = np.floor(g + real(for_gradient[i]) * byte)
            g = min(max(g, -g_limit - one), g_limit)
            v = real(velocity[i]) * keep + g * blend
            if for_velocity is None:
                v = np.rint(v)
            else:
                v = np.floor(v + real(for_velocity[i]) * byte)
            v = min(max(v, -v_limit - one), v_limit)
            velocity[i] = v
            change = v * rate
            if for_master is None:
                change = np.rint(change)
            else:
                change = np.floor(change + real(for_master[i]) * byte)
            m = min(max(real(master[i]) - change, -m_limit - one), m_limit)
            master[i] = m
            words[i] = min(max(np.rint(m * to_word), -w_limit - one), w_limit)

    return momentum


momentum = _by_type(_momentum)
"""One step of `IntegerOptimizer` by momentum, of one tensor. for_...: random bytes; factors: of the gradient's
accumulator, the gradient, the velocity, the direction and the master; limits: of all four formats."""


@_compiled
def registers(seeds, words):
    """Fill `words`, (rows, words of a row), with the successive values of a register per row, as `prng.row_codes` draws
    them."""
    rows, steps = words.shape
    lanes = np.empty(_LANES, np.uint32)
    for first in range(0, rows, _LANES):
        count = min(_LANES, rows - first)
        for lane in range(count):
            lanes[lane] = seeds[first + lane]
        for step in range(steps):
            for lane in range(count):
                register = lanes[lane]
                register = np.uint32(register ^ (register << np.uint32(13)))  # numba shifts in 64 bits
                register = np.uint32(register ^ (register >> np.uint32(17)))
                register = np.uint32(register ^ (register << np.uint32(5)))
                lanes[lane] = register
                words[first + lane, step] = register


@_compiled
def softmax(logits, labels, table, fraction, noise, noise_bits, error, below, sums):
    """Fill `error` with the error of `tables.softmax_error`, rounded to the nearest without noise; `below` with how far
    each true logit lies below the largest, and `sums` with the sums of the powers."""
    classes, count = logits.shape
    powers = np.empty(classes, np.int64)
    for n in range(count):
        top = np.int64(logits[0, n])
        for c in range(1, classes):
            top = max(top, np.int64(logits[c, n]))
        total = np.int64(0)
        for c in range(classes):
            powers[c] = table[min(top - np.int64(logits[c, n]), len(table) - 1)]
            total += powers[c]
        for c in range(classes):
            if noise is None:
                word = ((powers[c] << fraction) + total // 2) // total
            else:
                word = ((powers[c] << (fraction + noise_bits)) // total + noise[c, n]) >> noise_bits
            if c == labels[n]:
                word -= 1 << fraction
            error[c, n] = word
        below[n] = top - np.int64(logits[labels[n], n])
        sums[n] = total


@_compiled
def prune(error, random, factor, largest_threshold, out):
    """Fill `out` with `signals.pruned_words` of `error`, words that lie one after the other."""
    total, count = np.int64(0), np.int64(0)
    for i in range(len(error)):
        size = abs(np.int64(error[i]))
        total += size
        count += size > 0
    threshold = np.int64(0)
    if count:
        threshold = min((2 * total * factor + (count << 8)) // (count << 9), largest_threshold)
    for i in range(len(error)):
        word = np.int64(error[i])
        size = abs(word)
        if size < threshold:
            up = (size << 8) > np.int64(random[i]) * threshold
            size = threshold if up else 0
        out[i] = size if word > 0 else -size


@_compiled
def mask(output, error, top):
    """Zero `error` in place as `tables.relu_error` does; the words of both lie one after the other."""
    for i in range(len(error)):
        error[i] = error[i] if 0 < output[i] < top else 0
