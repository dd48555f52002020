"""The update on integers, of all parameters of a network side by side, by any optimizer.

Velocities, masters and forward words of all layers lie in one array each, so that a pass over memory is one call
however many layers there are; only what depends on a layer's scales is done tensor by tensor. The arrays are worked
through in blocks, which bounds the scratch memory; blocks that stay in the cache cost more in calls than they save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import is_
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.formats.fixed_point import MU_BITS, RANDOM_BITS, draws_random, random_bytes, round_, saturate_, word_dtype
from fahw.formats.number import fixed_format
from fahw.formats.precision import RoundingModes
from fahw.learn.arithmetic.optimizer import Descent, clip_word, root
from fahw.learn.arithmetic.update_constants import Constants, Formats, constants, formats_of, gradient_unit, shared
from fahw.learn.kernels.compiled import loops
from fahw.learn.kernels.device import CPU
from fahw.learn.state.parameters import Gradient, Parameters
from fahw.learn.state.rounding_losses import Tally, in_vain
from fahw.learn.state.scales import Scales
from fahw.prng import Lfsr

_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Piece:
    """The part of one tensor that lies in a block: elements `source` of the tensor, `place` of the block."""

    layer: str
    is_bias: bool
    formats: Formats
    source: slice
    place: slice


@dataclass(frozen=True, eq=False)
class _Span:
    """One whole tensor in the arrays, as loops read it."""

    layer: str
    is_bias: bool
    formats: Formats
    part: slice
    velocity: NDArray[np.float32]
    master: NDArray[np.float32]
    words: NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class _Block:
    """Views of the arrays."""

    start: int
    velocity: Tensor
    square: Tensor | None
    master: Tensor
    words: Tensor
    pieces: tuple[_Piece, ...]


class Update:
    """Moves parameters in place; momentum becomes a constant of 8 fraction bits.

    `reach`: by layer, the largest magnitudes in the accumulators of its weight and bias gradients.
    """

    def __init__(
        self, descent: Descent, modes: RoundingModes, random: Lfsr, scales: dict[str, Scales],
        reach: dict[str, tuple[int, int]],
    ) -> None:  # fmt: skip
        self.descent = descent.in_words
        self._momentum = round(descent.momentum * (1 << MU_BITS))
        self._modes, self._random = modes, random
        self._formats = {name: formats_of(s, reach[name]) for name, s in scales.items()}
        s = next(iter(scales.values()))
        self._bits = s.gradient.bits, s.velocity.bits, s.master.bits, s.weight.bits
        self._word_shift = s.master.bits - s.weight.bits
        self._align = self._formats[next(iter(scales))][0].align
        self.tally: Tally | None = None
        """Where losses are noted, if anywhere."""
        self._blocks: tuple[_Block, ...] = ()
        self._stored: list[tuple[Tensor, ...]] = []
        self._rate: float | None = None
        self._plans: list[Constants] = []
        self._spans: tuple[_Span, ...] = ()
        self._span_plans: list[Constants] = []
        plain = descent.name == "momentum" and not descent.weight_decay and descent.clip is None
        rounded = modes.gradient == "nearest" and modes.update != "floor"
        self._loopable = plain and rounded and self._align >= 0 and min(self._bits) > 1 and self._bits[3] <= 8
        self._scratch: dict[tuple[torch.dtype, int], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without views of the arrays, which would come back as copies: what is read adopts the parameters again."""
        return self.__dict__ | {"_stored": [], "_spans": (), "_blocks": (), "_scratch": {}, "_rate": None}

    def update(self, parameters: dict[str, Parameters], gradients: dict[str, Gradient], rate: float, step: int) -> None:
        """Of step `step`, counted from 0."""
        self._adopt(parameters)
        if rate != self._rate:
            self._rate, self._plans = rate, [self._plan(block, rate) for block in self._blocks]
            self._span_plans = [self._constants(span.formats, rate) for span in self._spans]
        random = self._draw(sum(len(block.master) for block in self._blocks))
        found = loops()
        if found is not None and self._spans and self.tally is None:
            self._by_loop(found, gradients, random)
            return
        for block, plan in zip(self._blocks, self._plans, strict=True):
            noise = [None if r is None else r[block.start : block.start + len(block.master)] for r in random]
            g = self._gradient(block, plan.gradient, gradients, noise[0])
            direction = self._direction(block, plan, g, noise[1:-2], step)
            if plan.decay:
                self._decay(block, plan, noise[-2])
            self._displace(block, plan, direction, noise[-1])
            x = torch.mul(block.master, 2.0**-self._word_shift, out=self._buffer(1, block, torch.float32))
            bits = self._bits[3]
            block.words.copy_(saturate_(x if bits == 1 else x.round_(), bits))

    def _by_loop(self, found: ModuleType, gradients: dict[str, Gradient], random: list[Tensor | None]) -> None:
        """The same by momentum, in one loop per tensor."""
        noise = [None if r is None else r.numpy() for r in (random[0], random[1], random[-1])]
        for span, plan in zip(self._spans, self._span_plans, strict=True):
            acc = gradients[span.layer].bias if span.is_bias else gradients[span.layer].weight
            assert acc is not None, "a layer with biases has their gradient"
            kind = "float64" if torch.float64 in (plan.gradient, plan.velocity, plan.master) else "float32"
            real = getattr(np, kind)
            f = span.formats
            factors = (
                2.0**-f.gradient_shift, 2.0 ** (f.align - MU_BITS), self._momentum * 2.0**-MU_BITS, plan.rates[0],
                2.0**-self._word_shift,
            )  # fmt: skip
            limits = ((1 << bits - 1) - 1 for bits in self._bits)
            found.momentum[kind](
                acc.reshape(-1).numpy(), span.velocity, span.master, span.words,
                *(None if r is None else r[span.part] for r in noise),
                tuple(map(real, factors)), tuple(map(real, limits)),
            )  # fmt: skip

    def _gradient(
        self, block: _Block, dtype: torch.dtype, gradients: dict[str, Gradient], random: Tensor | None
    ) -> Tensor:
        """The block's gradients, rounded from their accumulators."""
        g = self._buffer(0, block, dtype)
        for piece in block.pieces:
            found = gradients[piece.layer]
            acc = found.bias if piece.is_bias else found.weight
            assert acc is not None, "a layer with biases has their gradient"
            part = g[piece.place]
            if part.numel() == acc.numel():
                part.view(acc.shape).copy_(acc)
            else:
                part.copy_(acc.reshape(-1)[piece.source])
            part.mul_(2.0**-piece.formats.gradient_shift)
        bits = self._bits[0]
        saturate_(g if bits == 1 else round_(g, self._modes.gradient, self._noise(block, random, dtype)), bits)
        if self.descent.clip is not None:
            for piece in block.pieces:
                most = clip_word(self.descent.clip, self.descent.batch_size, piece.formats.gradient)
                g[piece.place].clamp_(-most, most)
        return g

    def _direction(self, block: _Block, plan: Constants, g: Tensor, noise: list[Tensor | None], step: int) -> Tensor:
        """Where the optimizer sends the block; its states follow."""
        if self.descent.optimizer.blends and self._align < 0:
            g.mul_(2.0**self._align).floor_()
        states = [x for x in (block.velocity, block.square) if x is not None][: self.descent.optimizer.states]
        found, new = self.descent.optimizer.direction(_Words(self, block, plan, iter(noise)), g, states, step)
        for state, value in zip(states, new, strict=True):
            if value is not state:
                state.copy_(value)
        direction: Tensor = found
        return direction

    def blend(
        self, block: _Block, dtype: torch.dtype, state: Tensor, g: Tensor, random: Tensor | None, keep: bool
    ) -> Tensor:
        """v = round((v * momentum + g * 2^align) / 2^8), where the state lies unless it is to `keep`."""
        v = self._buffer(3, block, dtype).copy_(state) if keep else state.to(dtype)  # in float32 the state itself
        v.mul_(self._momentum * 2.0**-MU_BITS).add_(g.to(dtype), alpha=2.0 ** (max(0, self._align) - MU_BITS))
        bits = self._bits[1]
        return saturate_(v if bits == 1 else round_(v, self._modes.update, self._noise(block, random, dtype)), bits)

    def real(self, block: _Block, g: Tensor) -> Tensor:
        """Mean gradients of the batch in float32."""
        x = torch.empty(len(g), dtype=torch.float32, device=g.device)
        for piece in block.pieces:
            x[piece.place].copy_(g[piece.place]).mul_(gradient_unit(piece.formats.gradient, self.descent))
        return x

    def _decay(self, block: _Block, plan: Constants, random: Tensor | None) -> None:
        """master -= round(master * rate * decay), of weights."""
        x = self._buffer(1, block, plan.decayed)
        for piece in block.pieces:
            torch.mul(block.master[piece.place], 0 if piece.is_bias else plan.decay, out=x[piece.place])
        round_(x, self._modes.update, self._noise(block, random, plan.decayed))
        self._take_off(block, x)

    def _displace(self, block: _Block, plan: Constants, v: Tensor, random: Tensor | None) -> None:
        """master -= round(v * rate)."""
        x, v = self._buffer(1, block, plan.master), v.to(plan.master)
        for piece, factor in zip(block.pieces, plan.rates, strict=True):
            torch.mul(v[piece.place], factor, out=x[piece.place])
        if self.tally is not None:
            self._watch(self.tally, block, x)
        round_(x, self._modes.update, self._noise(block, random, plan.master))
        self._take_off(block, x)

    def _watch(self, tally: Tally, block: _Block, x: Tensor) -> None:
        """Changes in units of the master, before they are rounded."""
        for piece in block.pieces:
            units, form = x[piece.place].double(), fixed_format(self._bits[2])
            still = in_vain(units, self._modes.update, RANDOM_BITS)
            moved = block.master[piece.place].double() - units
            tally.changed(piece.layer, "bias" if piece.is_bias else "master", moved, form, 1.0, still)

    def _take_off(self, block: _Block, x: Tensor) -> None:
        if x.dtype == torch.float32:
            saturate_(block.master.sub_(x), self._bits[2])
        else:
            block.master.copy_(saturate_(block.master.to(x.dtype).sub_(x), self._bits[2]))

    def _draw(self, size: int) -> list[Tensor | None]:
        """Random bytes for all gradients, sums with states, decays and masters."""
        modes, bits = self._modes, self._bits
        wanted = (
            draws_random(modes.gradient, bits[0]),
            *[draws_random(modes.update, bits[1])] * self.descent.optimizer.blends,
            modes.update == "stochastic" and self.descent.weight_decay > 0,
            modes.update == "stochastic",  # what is subtracted from the master is rounded whatever its width
        )
        taken = random_bytes(self._random, size * sum(wanted), self._blocks[0].master.device)
        starts = [size * sum(wanted[:kind]) for kind in range(len(wanted))]
        return [taken[start : start + size] if w else None for w, start in zip(wanted, starts, strict=True)]

    def _noise(self, block: _Block, random: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return None if random is None else self._buffer(2, block, dtype).copy_(random)

    def _buffer(self, number: int, block: _Block, dtype: torch.dtype) -> Tensor:
        """Scratch of the block's size."""
        if (dtype, number) not in self._scratch:
            size = max(len(b.master) for b in self._blocks)
            self._scratch[dtype, number] = block.master.new_empty(size, dtype=dtype)
        return self._scratch[dtype, number][: len(block.master)]

    def _plan(self, block: _Block, rate: float) -> Constants:
        return shared([self._constants(piece.formats, rate) for piece in block.pieces])

    def _constants(self, formats: Formats, rate: float) -> Constants:
        return constants(formats, self.descent, self._momentum, self._modes, rate)

    def _adopt(self, parameters: dict[str, Parameters]) -> None:
        """Move what the parameters hold into the arrays, and let them point there."""
        if len(self._stored) == len(parameters) and all(
            all(map(is_, _tensors(p), known)) for p, known in zip(parameters.values(), self._stored, strict=True)
        ):
            return
        size = sum(p.master.numel() + (0 if p.bias is None else p.bias.numel()) for p in parameters.values())
        like = next(iter(parameters.values())).master
        velocity, master = like.new_empty(size), like.new_empty(size)
        square = like.new_empty(size) if self.descent.optimizer.states > 1 else None
        words = like.new_zeros(size, dtype=word_dtype(self._bits[3]))
        spans, start = [], 0
        for name, p in parameters.items():
            end = start + p.master.numel()
            spans.append((name, False, start, end))
            p.velocity = _moved(p.velocity, velocity[start:end])
            if square is not None and p.square is not None:
                p.square = _moved(p.square, square[start:end])
            p.master = _moved(p.master, master[start:end])
            p.weight = _moved(p.weight, words[start:end])
            start = end
            if p.bias is not None and p.bias_velocity is not None:
                end = start + p.bias.numel()
                spans.append((name, True, start, end))
                p.bias_velocity = _moved(p.bias_velocity, velocity[start:end])
                if square is not None and p.bias_square is not None:
                    p.bias_square = _moved(p.bias_square, square[start:end])
                p.bias = _moved(p.bias, master[start:end])
                start = end
        self._stored = [_tensors(p) for p in parameters.values()]
        looped = spans if self._loopable and like.device == CPU else ()
        self._spans = tuple(self._span(*span, velocity, master, words) for span in looped)
        self._scratch.clear()
        self._rate = None
        self._blocks = self._cut(spans, velocity, square, master, words)

    def _cut(
        self, spans: list[tuple[str, bool, int, int]], velocity: Tensor, square: Tensor | None, master: Tensor,
        words: Tensor,
    ) -> tuple[_Block, ...]:  # fmt: skip
        """The arrays in blocks."""
        return tuple(
            _Block(
                at, velocity[at : at + _BLOCK], None if square is None else square[at : at + _BLOCK],
                master[at : at + _BLOCK], words[at : at + _BLOCK],
                self._pieces(spans, at, min(at + _BLOCK, len(master))),
            )
            for at in range(0, len(master), _BLOCK)
        )  # fmt: skip

    def _span(
        self, name: str, is_bias: bool, start: int, end: int, velocity: Tensor, master: Tensor, words: Tensor
    ) -> _Span:
        part = slice(start, end)
        arrays = (x[part].numpy() for x in (velocity, master, words))
        return _Span(name, is_bias, self._formats[name][is_bias], part, *arrays)

    def _pieces(self, spans: list[tuple[str, bool, int, int]], start: int, end: int) -> tuple[_Piece, ...]:
        """What of the tensors, at `spans` of the arrays, lies between start and end."""
        found = []
        for name, is_bias, first, last in spans:
            low, high = max(first, start), min(last, end)
            if low < high:
                formats = self._formats[name][is_bias]
                place, source = slice(low - start, high - start), slice(low - first, high - first)
                found.append(_Piece(name, is_bias, formats, source, place))
        return tuple(found)


class _Words:
    """`Unit` of a block of words. `noise`: random bytes for the blends, in their order."""

    def __init__(self, update: Update, block: _Block, plan: Constants, noise: Iterator[Tensor | None]) -> None:
        self._update, self._block, self._plan, self._noise = update, block, plan, noise
        self.momentum, self.second_moment = update.descent.momentum, update.descent.second_moment

    def blend(self, state: Tensor, gradient: Tensor, keep: bool = False) -> Tensor:
        return self._update.blend(self._block, self._plan.velocity, state, gradient, next(self._noise), keep)

    def sign(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def real(self, gradient: Tensor) -> Tensor:
        return self._update.real(self._block, gradient)

    def root(self, x: Tensor) -> Tensor:
        return root(x)


def _tensors(p: Parameters) -> tuple[Tensor, ...]:
    found = (p.weight, p.master, p.velocity, p.bias, p.bias_velocity, p.square, p.bias_square)
    return tuple(x for x in found if x is not None)


def _moved(x: Tensor, into: Tensor) -> Tensor:
    view = into.view(x.shape)
    view.copy_(x)
    return view
