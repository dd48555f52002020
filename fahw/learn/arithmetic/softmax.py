"""What the integer step computes of words: softmax and its loss, and the derivative of ReLU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.formats.fixed_point import Format  # fmt: skip
from fahw.formats.lookup_tables import EXP_BITS, exp_table
from fahw.formats.precision import Rounding
from fahw.formats.rounding import Noise
from fahw.learn.kernels.compiled import loops, masked

Words = NDArray[np.int64]


def softmax_error(
    logits: Tensor, labels: Tensor, bits: int, frac: int, into: Format, mode: Rounding = "nearest",
    noise: Noise | None = None,
) -> tuple[Tensor, float]:  # fmt: skip
    """Softmax from the exponential table and one integer division, less one-hot; and the summed cross-entropy in nats.

    `logits`: words `(classes, n)` of `bits` bits, `frac` of them behind the point. The error is int64 in words of
    `into`, not saturated; one bit, which keeps only the sign, is yielded with 8 fraction bits, to the nearest. `noise`:
    shaped as the logits, for stochastic rounding, which adds it to a quotient with as many more bits.
    """
    z, truth, table = logits.cpu().numpy(), labels.cpu().numpy(), exp_table(bits, frac)
    fraction, extra, random = 8 if into.bits == 1 else into.frac, 0, None
    if into.bits > 1 and mode != "nearest":
        random = np.zeros(z.shape, np.uint8)
        if mode == "stochastic":
            assert noise is not None, "stochastic rounding needs random bits"
            random, extra = noise.draws.cpu().numpy(), noise.bits
    compiled = loops()
    if compiled is not None:
        error, below, sums = np.empty(z.shape, np.int64), np.empty(len(truth), np.int64), np.empty(len(truth), np.int64)
        compiled.softmax(z, truth, table, fraction, random, extra, error, below, sums)
    else:
        error, below, sums = _softmax(z.astype(np.int64), truth, table, fraction, random, extra)
    nats = below * 2.0**-frac + np.log(sums * 2.0**-EXP_BITS)
    return torch.from_numpy(error).to(logits.device), float(nats.sum())


def _softmax(
    z: Words, truth: Words, table: Words, fraction: int, random: NDArray[np.integer] | None, extra: int
) -> tuple[Words, Words, Words]:
    """The error, how far each true logit lies below the largest, sums of the powers."""
    depth, rows = z.max(0) - z, np.arange(len(truth))
    powers = table[np.minimum(depth, len(table) - 1)]
    sums: Words = powers.sum(0)
    if random is None:
        error = ((powers << fraction) + sums // 2) // sums
    else:
        error = (powers << fraction + extra) // sums + random >> extra
    error[truth, rows] -= 1 << fraction
    return error, depth[truth, rows], sums


def relu_error(output: Tensor, error: Tensor, bits: int) -> Tensor:
    """The errors, in place, where the output is positive and below its format's top word, which stands for all that is
    larger too: a saturated output moves with nothing below it. `bits`: of the output; one and two bits have a single
    positive word, which lets errors through."""
    top = (1 << (bits - 1)) - 1 if bits > 2 else 2
    if masked(output, error, top):
        return error
    return error.mul_((output > 0).logical_and_(output < top).to(error.dtype))
