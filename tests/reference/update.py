"""The update of the slow integer step: any optimizer, one parameter tensor after the other, int64 numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fahw.formats.fixed_point import rate_constant
from fahw.formats.precision import Rounding, RoundingModes
from fahw.learn.state.scales import Scales
from fahw.network.recipe import Tuning
from fahw.optimizers import Optimizer
from fahw.prng import Lfsr
from tests.reference.words import Reals, Words, saturate, shift_nearest


@dataclass
class State:
    """One weighted layer's memories."""

    master: Words
    velocity: Words
    bias: Words
    bias_velocity: Words
    square: Reals | None = None
    bias_square: Reals | None = None


class SlowUpdate:
    """What `Reference` rounds by, and its update."""

    rounding: RoundingModes
    bits: dict[str, int]
    scales: dict[str, Scales]
    states: dict[str, State]
    tuning: Tuning
    optimizer: Optimizer
    mu: int
    batch_size: int
    random: Lfsr

    def _update(self, sums: dict[str, tuple[Words, Words]], rate: float, draw: int) -> None:
        """All gradients are rounded, then all sums with states, all decays, all masters; weights before biases."""
        modes, g_bits, rounded = self.rounding, self.bits["gradient"], {}
        for name, (weight, bias) in sums.items():
            s = self.scales[name]
            g = self._requant(weight, s.gradient_shift, g_bits, modes.gradient)
            rounded[name] = g, self._requant(bias, s.bias_gradient_shift, g_bits, modes.gradient)
        moving = {name: self.states[name] for name in sums}
        noise = [self._bytes(moving, self.bits["optimizer"]) for _ in range(self.optimizer.blends)]
        ways = {
            name: [self._way(name, is_bias, rounded[name][is_bias], noise, draw) for is_bias in (False, True)]
            for name in rounded
        }
        if self.tuning.weight_decay:
            for state in moving.values():
                constant = rate_constant(rate * self.tuning.weight_decay)
                step = self._divide(state.master * constant.mantissa, constant.shift, modes.update)
                state.master = saturate(state.master - step, self.bits["master"])
                self._divide(state.bias * 0, constant.shift, modes.update)  # its bytes are drawn all the same
        for name, state in moving.items():
            s = self.scales[name]
            state.master = self._moved(state.master, *ways[name][0], rate, s.master.frac)
            state.bias = self._moved(state.bias, *ways[name][1], rate, s.bias.frac)

    def _bytes(self, moving: dict[str, State], bits: int) -> dict[tuple[str, bool], Words]:
        """Random bytes for one value of every parameter."""
        if self.rounding.update != "stochastic" or bits == 1:
            return {}
        found = {}
        for name, state in moving.items():
            for is_bias, tensor in ((False, state.master), (True, state.bias)):
                found[name, is_bias] = self.random.take(tensor.size).astype(np.int64).reshape(tensor.shape)
        return found

    def _way(
        self, name: str, is_bias: bool, g: Words, noise: list[dict[tuple[str, bool], Words]], draw: int
    ) -> tuple[Words, int]:
        """Where the optimizer sends weights or biases, and the fraction bits of that."""
        s, state = self.scales[name], self.states[name]
        into, kept = (s.bias_gradient, s.bias_velocity) if is_bias else (s.gradient, s.velocity)
        if self.tuning.clip is not None:
            most = min(into.limit, round(self.tuning.clip * self.batch_size * 2.0**into.frac))
            g = np.clip(g, -most, most)
        names = ("bias_velocity", "bias_square") if is_bias else ("velocity", "square")
        fields = names[: self.optimizer.states]
        bytes_ = iter([found.get((name, is_bias)) for found in noise])
        unit = SlowUnit(self, into.frac - kept.frac, 2.0**-into.frac / self.batch_size, bytes_)
        way, new = self.optimizer.direction(unit, g, [getattr(state, field) for field in fields], draw)
        for field, value in zip(fields, new, strict=True):
            setattr(state, field, value)
        return way, {"gradient": into.frac, "velocity": kept.frac}.get(self.optimizer.direction_format, 0)

    def velocity(self, v: Words, g: Words, d: int, random: Words | None) -> Words:
        """round((v * momentum + g) / 2^8), g with 8 - d fraction bits more."""
        aligned = g << (8 - d) if d <= 8 else g >> (d - 8)
        bits = self.bits["optimizer"]
        acc = v * self.mu + aligned
        return saturate(acc if bits == 1 else self._divide(acc, 8, self.rounding.update, random), bits)

    def _moved(self, master: Words, way: Words, way_frac: int, rate: float, frac: int) -> Words:
        mode, bits = self.rounding.update, self.bits["master"]
        factor = (rate / self.batch_size if self.optimizer.linear else rate) * 2.0 ** (frac - way_frac)
        if self.optimizer.is_float:
            exact = way * np.float32(factor)
            if mode == "stochastic":
                exact = exact + self.random.take(way.size).astype(np.float32).reshape(way.shape) * np.float32(2**-8)
            return saturate(master - (np.rint(exact) if mode == "nearest" else np.floor(exact)).astype(np.int64), bits)
        constant = rate_constant(factor)
        return saturate(master - self._divide(way * constant.mantissa, constant.shift, mode), bits)

    def _requant(self, acc: Words, shift: int, bits: int, mode: Rounding) -> Words:
        return saturate(acc if bits == 1 else self._divide(acc, shift, mode), bits)

    def _divide(self, acc: Words, shift: int, mode: Rounding, random: Words | None = None) -> Words:
        """acc / 2^shift rounded; stochastic rounding consumes a byte per value whatever the shift, or has it given."""
        if mode == "nearest":
            return shift_nearest(acc, shift)
        r = np.zeros(acc.shape, np.int64)
        if mode == "stochastic":
            r = random if random is not None else self.random.take(acc.size).astype(np.int64).reshape(acc.shape)
        if shift <= 0:
            return acc << min(-shift, 30)
        shift = min(shift, 50)
        return (acc + (r << (shift - 8) if shift >= 8 else r >> (8 - shift))) >> shift


class SlowUnit:
    """`fahw.optimizers.Unit` on plain integers: gradients `d` fraction bits finer than states, worth `unit` each."""

    def __init__(self, reference: SlowUpdate, d: int, unit: float, random: Iterator[Words | None]) -> None:
        self._reference, self._d, self._unit, self._random = reference, d, unit, random
        self.momentum, self.second_moment = reference.tuning.momentum, reference.tuning.second_moment

    def blend(self, state: Words, gradient: Words, keep: bool = False) -> Words:
        """A new array."""
        return self._reference.velocity(state, gradient, self._d, next(self._random))

    def sign(self, gradient: Words) -> Words:
        """By numpy."""
        return np.sign(gradient)

    def real(self, gradient: Words) -> Reals:
        """In float32."""
        return gradient.astype(np.float32) * np.float32(self._unit)  # type: ignore[return-value]

    def root(self, x: Reals) -> Reals:
        """By numpy."""
        return np.sqrt(x)
