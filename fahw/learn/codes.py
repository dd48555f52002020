"""`prng.row_codes` fast enough to redraw a matrix in every step: the same codes, several pieces of a row at once.

A row's register is linear over GF(2), so running it n steps is one 32 x 32 bit matrix; with it every piece of a row
gets its own start value, and the pieces advance together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_PIECES = 8
_SHIFTS = ((np.left_shift, np.uint32(13)), (np.right_shift, np.uint32(17)), (np.left_shift, np.uint32(5)))


def fast_codes(seeds: NDArray[np.uint32], columns: int, bits: int) -> NDArray[np.uint16]:
    """What `row_codes` yields, shape `(rows, columns)`; uint8 up to 8 bits, else uint16."""
    per_word = 32 // bits
    steps = -(-columns // (per_word * _PIECES))
    x = _starts(seeds, steps)
    words = np.empty((steps, *x.shape), np.uint32)
    shifted = np.empty_like(x)
    for step in range(steps):
        _advance(x, shifted)
        words[step] = x
    rows = np.ascontiguousarray(words.transpose(1, 2, 0)).reshape(len(seeds), -1)
    fields = np.empty((*rows.shape, per_word), np.uint8 if bits <= 8 else np.uint16)
    field = np.empty_like(rows)
    for number in range(per_word):
        np.right_shift(rows, np.uint32(bits * number), out=field)
        np.bitwise_and(field, np.uint32((1 << bits) - 1), out=field)
        fields[:, :, number] = field
    return fields.reshape(len(seeds), -1)[:, :columns]


def _advance(x: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    """One step of every register, in place."""
    for shift, amount in _SHIFTS:
        shift(x, amount, out=scratch)
        np.bitwise_xor(x, scratch, out=x)


def _starts(seeds: NDArray[np.uint32], steps: int) -> NDArray[np.uint32]:
    """Register values before each piece, shape `(rows, pieces)`."""
    x = np.empty((len(seeds), _PIECES), np.uint32)
    x[:, 0] = seeds
    tables = _jump_tables(steps)
    for piece in range(1, _PIECES):
        before = x[:, piece - 1]
        x[:, piece] = tables[0][before & 255]
        for byte in (1, 2, 3):
            x[:, piece] ^= tables[byte][(before >> np.uint32(8 * byte)) & 255]
    return x


@lru_cache
def _jump_tables(steps: int) -> NDArray[np.uint32]:
    """`steps` steps of the register as the XOR of four entries, one per byte of its value, shape `(4, 256)`."""
    basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
    scratch = np.empty_like(basis)
    for _ in range(steps):
        _advance(basis, scratch)
    tables = np.zeros((4, 256), np.uint32)
    for byte in range(4):
        for value in range(256):
            chosen = basis[8 * byte : 8 * byte + 8][[bool(value >> bit & 1) for bit in range(8)]]
            tables[byte, value] = np.bitwise_xor.reduce(chosen) if len(chosen) else 0
    return tables
