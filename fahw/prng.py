"""The random numbers of the chip: integers in, integers out, the same on any machine.

`Lfsr` is the rounding generator: one long linear-feedback shift register whose bits all stochastic roundings consume
in order. `row_codes` is the feedback generator: a short register per row of a feedback matrix, seeded by layer and
row, so that the numbers do not depend on how the matrix is tiled. `derive` makes independent seeds from one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LENGTH, TAP = 1279, 418
"""The rounding LFSR's primitive trinomial x^1279 + x^418 + 1. Source: Zierler 1969, trinomials of Mersenne degree."""

_DOUBLINGS = 7  # the recurrence is run at 2^7 times its lags, see Lfsr
_REFILL_BYTES = 1 << 20


def derive(seed: int, *parts: int | str) -> int:
    """A 64-bit seed for one purpose: the same parts give the same seed, others an unrelated one."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def lfsr_bits(seed: int) -> Iterator[int]:
    """The rounding LFSR bit by bit: the slow, obvious definition of what `Lfsr` yields in bulk."""
    state = _seed_bits(seed).tolist()
    while True:
        yield state[0]
        state.append(state[0] ^ state[LENGTH - TAP])
        del state[0]


class Lfsr:
    """The rounding LFSR, a byte (8 bits, first bit lowest) at a time.

    Squaring the feedback polynomial doubles its lags, so b[n] = b[n-1279] ^ b[n-418] implies the same for whole bytes
    at 2^k times the lags: bulk generation is one XOR of two long blocks, and still the single register's bit stream.
    """

    STATE_BYTES = LENGTH << _DOUBLINGS
    """The bytes of a state, `(STATE_BYTES,)`."""

    def __init__(self, seed: int) -> None:
        self._lag, self._block = self.STATE_BYTES, TAP << _DOUBLINGS
        self._buffer = np.empty(self._lag + _REFILL_BYTES, np.uint8)
        self._buffer[: self._lag] = _first_bytes(seed, self._lag)
        self._next, self._end = 0, self._lag

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes, shape `(count,)`: a view that the next call may overwrite."""
        if self._next + count > self._end:
            self._refill(count)
        start = self._next
        self._next += count
        return self._buffer[start : self._next]

    def state(self) -> tuple[NDArray[np.uint8], int]:
        """The state that `restore` continues from: the last bytes made, and how many of them are not used yet."""
        return self._buffer[self._end - self._lag : self._end].copy(), self._end - self._next

    def restore(self, state: tuple[NDArray[np.uint8], int]) -> None:
        """Continue from a `state` taken when at most one register's length of bytes was left unused."""
        history, unused = state
        self._buffer[: self._lag] = history
        self._next, self._end = self._lag - unused, self._lag

    def _refill(self, count: int) -> None:
        """Move what the recurrence still needs to the front and extend it until `count` bytes lie ahead."""
        first_needed = min(self._next, self._end - self._lag)
        needed = self._end - first_needed
        if needed + count > len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty(needed + count, np.uint8)])
        self._buffer[:needed] = self._buffer[first_needed : self._end].copy()
        self._next, self._end = self._next - first_needed, needed
        while self._next + count > self._end:
            stop = min(self._end + self._block, len(self._buffer))
            _extend(self._buffer, self._end, stop, self._lag, self._block)
            self._end = stop


def _extend(out: NDArray[np.uint8], start: int, stop: int, lag: int, tap: int) -> None:
    np.bitwise_xor(out[start - lag : stop - lag], out[start - tap : stop - tap], out=out[start:stop])


def _seed_bits(seed: int) -> NDArray[np.uint8]:
    digest = hashlib.shake_256(f"lfsr/{seed}".encode()).digest((LENGTH + 7) // 8)
    return np.unpackbits(np.frombuffer(digest, np.uint8), bitorder="little")[:LENGTH]


def _first_bytes(seed: int, count: int) -> NDArray[np.uint8]:
    """The first `count` bytes: bit by bit for one register length of bytes, then at ever longer lags."""
    bits = np.empty(8 * LENGTH, np.uint8)
    bits[:LENGTH] = _seed_bits(seed)
    for start in range(LENGTH, len(bits), TAP):
        _extend(bits, start, min(start + TAP, len(bits)), LENGTH, TAP)
    out = np.empty(count, np.uint8)
    out[:LENGTH] = np.packbits(bits, bitorder="little")
    end, scale = LENGTH, 1
    while end < count:
        if end >= 2 * LENGTH * scale:
            scale *= 2
        stop = min(end + TAP * scale, count)
        _extend(out, end, stop, LENGTH * scale, TAP * scale)
        end = stop
    return out


def row_seeds(seed: int, rows: int, draw: int = 0) -> NDArray[np.uint32]:
    """Start value of each row's register, shape `(rows,)`, never 0; `draw` counts the redraws of a matrix."""
    base = derive(seed, "rows", draw) & 0xFFFFFFFF
    hashed = (np.arange(rows, dtype=np.uint64) * 0x9E3779B1 + base).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # MurmurHash3's finaliser
        hashed ^= hashed >> np.uint32(shift)
        hashed *= np.uint32(factor)
    hashed ^= hashed >> np.uint32(16)
    return np.where(hashed == 0, np.uint32(0x6D2B79F5), hashed)


def field_bits(bits: int) -> int:
    """Bits of a register's word that a code of `bits` (1 to 16) bits is the low end of: 1, 2, 4, 8 or 16."""
    return 1 << (bits - 1).bit_length()


def row_codes(seeds: NDArray[np.uint32], columns: int, bits: int) -> NDArray[np.uint16]:
    """Feedback codes of `bits` (1 to 16) bits each, shape `(rows, columns)`.

    A row's register is a 32-bit xorshift (13, 17, 5), which is linear over GF(2) like any LFSR. Every step yields a
    word of 32 / `field_bits` fields, lowest first; a code is the low end of its field. Source: Marsaglia 2003.
    """
    width = field_bits(bits)
    words = np.empty((-(-columns * width // 32), len(seeds)), np.uint32)
    state = seeds.copy()
    for word in words:
        state ^= state << np.uint32(13)
        state ^= state >> np.uint32(17)
        state ^= state << np.uint32(5)
        word[:] = state
    offsets = np.arange(0, 32, width, dtype=np.uint32)
    fields = (words.T[:, :, None] >> offsets) & np.uint32((1 << bits) - 1)
    return fields.reshape(len(seeds), -1)[:, :columns].astype(np.uint16)
