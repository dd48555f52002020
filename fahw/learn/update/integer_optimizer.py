"""The update on integers, of all parameters of a network side by side, by any optimizer.

Velocities, masters and forward words of all layers lie in one array each, so that a pass over memory is one call
however many layers there are; only what depends on a layer's scales is done tensor by tensor. The arrays are worked
through in blocks, which bounds the scratch memory; blocks that stay in the cache cost more in calls than they save.
Where there are compiled loops, momentum is one loop per tensor instead.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

from fahw.formats.fixed_point import MU_BITS, draws_random, random_bytes
from fahw.formats.precision import RoundingModes
from fahw.learn.kernels.compiled import loops
from fahw.learn.kernels.device import CPU
from fahw.learn.state.parameters import FlatArrays, Gradient
from fahw.learn.state.rounding_losses import RoundingLosses
from fahw.learn.state.scales import Scales
from fahw.learn.update.block_update import BlockUpdate, Noise, Scratch
from fahw.learn.update.optimizer import OptimizerSettings
from fahw.learn.update.update_constants import Constants, UpdateFormats, shared
from fahw.prng import Lfsr

_BLOCK = 1 << 20
"""Elements of the arrays that are worked on at a time."""


class IntegerOptimizer:
    """Moves the integers of a network; momentum becomes a constant of 8 fraction bits.

    `reach`: by layer, the largest magnitudes in the accumulators of its weight and bias gradients.
    """

    def __init__(
        self, settings: OptimizerSettings, modes: RoundingModes, random: Lfsr, scales: dict[str, Scales],
        reach: dict[str, tuple[int, int]],
    ) -> None:  # fmt: skip
        self._formats, self._random = UpdateFormats(settings, modes, scales, reach), random
        self.losses: RoundingLosses | None = None
        """What counts the losses of rounding, if anything does."""
        self._rate: float | None = None
        self._constants: dict[tuple[str, bool], Constants] = {}
        self._scratch = Scratch()

    def update(self, arrays: FlatArrays, gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Move the arrays in place, as step `step`, counted from 0, does."""
        if rate != self._rate:
            self._rate, self._constants = rate, self._formats.constants(rate)
        noise, compiled = self._draw(arrays), loops()
        if compiled is not None and self._loops_apply(arrays):
            self._by_loop(compiled, arrays, gradients, noise)
            return
        for start, block in arrays.cut(_BLOCK):
            constants = shared([self._constants[each.layer, each.is_bias] for each in block.slices])
            block_noise = noise.cut(start, len(block.master))
            BlockUpdate(self._formats, constants, block, block_noise, self._scratch, self.losses).run(gradients, step)

    def _draw(self, arrays: FlatArrays) -> Noise:
        """The random bytes for all gradients, then for all sums with states, all decays and all masters."""
        f, modes, size = self._formats, self._formats.modes, len(arrays.master)
        blends = f.settings.optimizer.blends
        uses = (
            draws_random(modes.gradient, f.gradient_bits),
            *[draws_random(modes.update, f.state_bits)] * blends,
            modes.update == "stochastic" and f.settings.weight_decay > 0,
            modes.update == "stochastic",  # what is subtracted from the master is rounded whatever its width
        )
        random = random_bytes(self._random, size * sum(uses), arrays.master.device)
        parts = iter(torch.split(random, size))
        gradient, *states, decay, master = (next(parts) if each else None for each in uses)
        return Noise(gradient, tuple(states), decay, master)

    def _loops_apply(self, arrays: FlatArrays) -> bool:
        """Whether the compiled loops compute this update, which count no losses."""
        f, settings = self._formats, self._formats.settings
        momentum = settings.name == "momentum" and not settings.weight_decay and settings.clip is None
        rounded = f.modes.gradient == "nearest" and f.modes.update != "floor"
        wide = min(f.gradient_bits, f.state_bits, f.master_bits, f.weight_bits) > 1 and f.weight_bits <= 8
        return momentum and rounded and wide and f.align >= 0 and self.losses is None and arrays.master.device == CPU

    def _by_loop(self, compiled: ModuleType, arrays: FlatArrays, gradients: dict[str, Gradient], noise: Noise) -> None:
        """Move the arrays by momentum, in one loop per tensor."""
        f = self._formats
        bits = f.gradient_bits, f.state_bits, f.master_bits, f.weight_bits
        stored = [x.numpy() for x in (arrays.states[0], arrays.master, arrays.words)]
        random = [None if x is None else x.numpy() for x in (noise.gradient, noise.states[0], noise.master)]
        for each in arrays.slices:
            formats, constants = f.tensor(each.layer, each.is_bias), self._constants[each.layer, each.is_bias]
            part, sums = each.part, each.gradient(gradients)
            types = constants.gradient, constants.velocity, constants.master
            kind = "float64" if torch.float64 in types else "float32"
            real: type[np.floating[Any]] = getattr(np, kind)
            factors = (
                2.0**-formats.gradient_shift, 2.0 ** (formats.align - MU_BITS), f.momentum * 2.0**-MU_BITS,
                constants.rates[0], 2.0**-f.word_shift,
            )  # fmt: skip
            limits = ((1 << width - 1) - 1 for width in bits)
            compiled.momentum[kind](
                sums.reshape(-1).numpy(), *[x[part] for x in stored],
                *[None if x is None else x[part] for x in random],
                tuple(map(real, factors)), tuple(map(real, limits)),
            )  # fmt: skip
