"""The accumulators of integer products: they wrap at their width, and what leaves them is rounded once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fahw.formats.fixed_point import Format, carrier, draws_random, random_bytes, requantise_, word_dtype, wrap_
from fahw.formats.number import fixed_format
from fahw.formats.precision import Rounding
from fahw.learn.kernels import compiled
from fahw.learn.state.rounding_losses import RoundingLosses
from fahw.prng import Lfsr


@dataclass(eq=False)
class Accumulator:
    """Accumulators of `bits` bits. `random` is the generator that rounding consumes; `losses` counts what rounding
    loses.

    A `bound` is the largest magnitude that sums can reach, a `shift` what they are shifted right by into words.
    """

    bits: int
    random: Lfsr
    losses: RoundingLosses | None = None

    def overflows(self, bound: int) -> bool:
        """Whether sums of up to `bound` can wrap."""
        return bound >= 1 << (self.bits - 1)

    def carried(self, acc: Tensor, bound: int, shift: int = 0, mode: Rounding = "nearest") -> Tensor:
        """The sums in a float type in which they, and their rounding, are exact."""
        if acc.dtype == torch.int64:  # may have wrapped already, which the accumulator's own wrapping hides
            half = 1 << (self.bits - 1)
            acc, bound = ((acc + half) & (2 * half - 1)) - half, min(bound, half)
        return acc.to(carrier(bound, shift, mode))

    def wrapped(self, acc: Tensor, bound: int) -> Tensor:
        """The carried sums as the accumulator holds them in the end; in place."""
        return wrap_(acc, self.bits) if self.overflows(bound) else acc

    def sums(self, acc: Tensor, bound: int) -> Tensor:
        """The products as the accumulator holds them in the end, in any type."""
        return self.wrapped(self.carried(acc, bound), bound) if self.overflows(bound) else acc

    def rounded(
        self, acc: Tensor, bound: int, shift: int, into: Format, mode: Rounding, place: tuple[str, str],
        bias: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The words from products, with a bias for each row: wrapped, and rounded once."""
        if self.losses is None and not self.overflows(bound) and compiled.applies(acc, into.bits, mode):
            real = carrier(bound, shift, mode)
            return compiled.requantised(acc, bias, shift, into.bits, mode, real, self.random)
        acc = self.carried(acc, bound, shift, mode)
        if bias is not None:
            acc.add_(bias.to(acc.dtype).unsqueeze(1))
        return self.words(self.wrapped(acc, bound), shift, into, mode, place)

    def words(
        self, acc: Tensor, shift: int, into: Format, mode: Rounding, place: tuple[str, str] | None = None
    ) -> Tensor:
        """The words from one rounding, with random bytes in the order of memory; `place`: the layer and the tensor
        under which losses are counted."""
        exact = acc * 2.0**-shift if self.losses and place else None
        random = None
        if draws_random(mode, into.bits):
            random = random_bytes(self.random, acc.numel(), acc.device)
        words = requantise_(acc, shift, into.bits, mode, random).to(word_dtype(into.bits))
        if exact is not None and self.losses and place:
            self.losses.rounded(*place, exact, words, fixed_format(into.bits))
        return words
