"""One step of an optimizer on a block of integers, in passes over memory that are exact in floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fahw.formats.fixed_point import MU_BITS, RANDOM_BITS, round_, saturate_
from fahw.formats.number import fixed_format
from fahw.learn.state.parameters import FlatArrays, Gradient
from fahw.learn.state.rounding_losses import RoundingLosses, count_stagnated
from fahw.learn.update.optimizer import clip_word, root
from fahw.learn.update.update_constants import Constants, UpdateFormats, gradient_unit


@dataclass(frozen=True, eq=False)
class Noise:
    """Random bytes, one an element, for the roundings of an update; None where one takes none. `states`: for the sums
    of states and gradients, in the order in which the optimizer asks for them."""

    gradient: Tensor | None
    states: tuple[Tensor | None, ...]
    decay: Tensor | None
    master: Tensor | None

    def cut(self, start: int, size: int) -> Noise:
        """The bytes of a block."""

        def part(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[start : start + size]

        return Noise(part(self.gradient), tuple(map(part, self.states)), part(self.decay), part(self.master))


class Scratch:
    """Memory that one block after the other uses; it is not saved with a training."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, torch.dtype], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_arrays": {}}

    def like(self, x: Tensor, use: str, dtype: torch.dtype) -> Tensor:
        """An array as long as `x`, on its device; the next call for the same use yields the same memory."""
        array = self._arrays.get((use, dtype))
        if array is None or len(array) < len(x):
            array = self._arrays[use, dtype] = torch.empty_like(x, dtype=dtype)
        return array[: len(x)]


class BlockUpdate:
    """The update of one block, and the `Unit` in whose operations its optimizer computes the direction."""

    def __init__(
        self, formats: UpdateFormats, constants: Constants, block: FlatArrays, noise: Noise, scratch: Scratch,
        losses: RoundingLosses | None,
    ) -> None:  # fmt: skip
        self._formats, self._constants, self._block = formats, constants, block
        self._noise, self._state_noise = noise, iter(noise.states)
        self._scratch, self._losses = scratch, losses
        self.momentum, self.second_moment = formats.settings.momentum, formats.settings.second_moment

    def run(self, gradients: dict[str, Gradient], step: int) -> None:
        """Move states, masters and forward words in place, as step `step`, counted from 0, does."""
        block, bits = self._block, self._formats.weight_bits
        direction = self._direction(self._gradient(gradients), step)
        if self._constants.decay:
            self._decay()
        self._move(direction)
        x = torch.mul(block.master, 2.0**-self._formats.word_shift, out=self._buffer("product", torch.float32))
        block.words.copy_(saturate_(x if bits == 1 else x.round_(), bits))

    def blend(self, state: Tensor, gradient: Tensor, keep: bool = False) -> Tensor:
        """The new state, round((state * momentum + gradient * 2^align) / 2^8), where the state lies unless it is to
        `keep`."""
        f, dtype, noise = self._formats, self._constants.velocity, next(self._state_noise)
        v = self._buffer("state", dtype).copy_(state) if keep else state.to(dtype)  # in float32 the state itself
        v.mul_(f.momentum * 2.0**-MU_BITS).add_(gradient.to(dtype), alpha=2.0 ** (max(0, f.align) - MU_BITS))
        rounded = v if f.state_bits == 1 else round_(v, f.modes.update, self._noise_as(noise, dtype))
        return saturate_(rounded, f.state_bits)

    def sign(self, gradient: Tensor) -> Tensor:
        """The sign: -1, 0 or 1."""
        return gradient.sign()

    def real(self, gradient: Tensor) -> Tensor:
        """The mean gradients of the batch in float32."""
        x = torch.empty_like(gradient, dtype=torch.float32)
        for each in self._block.slices:
            unit = gradient_unit(self._formats.tensor(each.layer, each.is_bias).gradient, self._formats.settings)
            x[each.part].copy_(gradient[each.part]).mul_(unit)
        return x

    def root(self, x: Tensor) -> Tensor:
        """The square root of floats."""
        return root(x)

    def _gradient(self, gradients: dict[str, Gradient]) -> Tensor:
        """The block's gradients, rounded from their accumulators."""
        f, dtype = self._formats, self._constants.gradient
        g = self._buffer("gradient", dtype)
        for each in self._block.slices:
            part, sums = g[each.part], each.gradient(gradients)
            if part.numel() == sums.numel():
                part.view(sums.shape).copy_(sums)
            else:
                part.copy_(sums.reshape(-1)[each.first : each.first + part.numel()])
            part.mul_(2.0 ** -f.tensor(each.layer, each.is_bias).gradient_shift)
        rounded = (
            g if f.gradient_bits == 1 else round_(g, f.modes.gradient, self._noise_as(self._noise.gradient, dtype))
        )
        saturate_(rounded, f.gradient_bits)
        if f.settings.clip is not None:
            for each in self._block.slices:
                form = f.tensor(each.layer, each.is_bias).gradient
                limit = clip_word(f.settings.clip, f.settings.batch_size, form)
                g[each.part].clamp_(-limit, limit)
        return g

    def _direction(self, g: Tensor, step: int) -> Tensor:
        """Where the optimizer sends the block; its states are updated in place."""
        optimizer, align = self._formats.settings.optimizer, self._formats.align
        if optimizer.blends and align < 0:
            g.mul_(2.0**align).floor_()
        states = list(self._block.states)
        result, new = optimizer.direction(self, g, states, step)
        for state, value in zip(states, new, strict=True):
            if value is not state:
                state.copy_(value)
        direction: Tensor = result
        return direction

    def _decay(self) -> None:
        """master -= round(master * rate * decay), of weights."""
        block, dtype = self._block, self._constants.decayed
        x = self._buffer("product", dtype)
        for each in block.slices:
            torch.mul(block.master[each.part], 0 if each.is_bias else self._constants.decay, out=x[each.part])
        round_(x, self._formats.modes.update, self._noise_as(self._noise.decay, dtype))
        self._subtract(x)

    def _move(self, direction: Tensor) -> None:
        """master -= round(direction * rate)."""
        dtype = self._constants.master
        x, direction = self._buffer("product", dtype), direction.to(dtype)
        for each, factor in zip(self._block.slices, self._constants.rates, strict=True):
            torch.mul(direction[each.part], factor, out=x[each.part])
        if self._losses is not None:
            self._count_losses(self._losses, x)
        round_(x, self._formats.modes.update, self._noise_as(self._noise.master, dtype))
        self._subtract(x)

    def _count_losses(self, losses: RoundingLosses, x: Tensor) -> None:
        """Count what rounding loses of changes in units of the master, before they are rounded."""
        f = self._formats
        for each in self._block.slices:
            units, form = x[each.part].double(), fixed_format(f.master_bits)
            stagnation = count_stagnated(units, f.modes.update, RANDOM_BITS)
            exact = self._block.master[each.part].double() - units
            losses.changed(each.layer, "bias" if each.is_bias else "master", exact, form, 1.0, stagnation)

    def _subtract(self, x: Tensor) -> None:
        """Subtract whole units from the masters, which saturate."""
        master, bits = self._block.master, self._formats.master_bits
        if x.dtype == torch.float32:
            saturate_(master.sub_(x), bits)
        else:
            master.copy_(saturate_(master.to(x.dtype).sub_(x), bits))

    def _noise_as(self, random: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Random bytes as floats."""
        return None if random is None else self._buffer("noise", dtype).copy_(random)

    def _buffer(self, use: str, dtype: torch.dtype) -> Tensor:
        return self._scratch.like(self._block.master, use, dtype)
