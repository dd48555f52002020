"""What the integer step looks up: the softmax with its loss, tanh and sigmoid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fahw.learn.feedback import word_dtype
from fahw.learn.formats import EXP_BITS, Format, exp_table, sigmoid_table, tanh_table
from fahw.network import Network


def softmax_error(logits: Tensor, labels: Tensor, bits: int, frac: int, into: Format) -> tuple[Tensor, float]:
    """Softmax from the exponential table and one integer division, less one-hot; and the summed cross-entropy in nats.

    `logits`: words `(classes, n)` of `bits` bits, `frac` of them behind the point. The error is int64 in words of
    `into`, not saturated; one bit, which keeps only the sign, is yielded with 8 fraction bits.
    """
    table, rows = exp_table(bits, frac), np.arange(len(labels))
    z, truth = logits.cpu().numpy().astype(np.int64), labels.cpu().numpy()
    below = z.max(0) - z
    powers = table[np.minimum(below, len(table) - 1)]
    sums = powers.sum(0)
    fraction = 8 if into.bits == 1 else into.frac
    error = ((powers << fraction) + sums // 2) // sums
    error[truth, rows] -= 1 << fraction
    nats = below[truth, rows] * 2.0**-frac + np.log(sums * 2.0**-EXP_BITS)
    return torch.from_numpy(error).to(logits.device), float(nats.sum())


def activation_tables(network: Network, fracs: dict[str, int], bits: int, device: torch.device) -> dict[str, Tensor]:
    """By layer: a word for every word that it can read, on the device."""
    makers = {"tanh": tanh_table, "sigmoid": sigmoid_table}
    return {
        layer.name: torch.from_numpy(makers[layer.kind](bits, fracs[layer.sources[0]])).to(device, word_dtype(bits))
        for layer in network.layers
        if layer.kind in makers
    }
