"""`prng.row_codes` fast enough to redraw a matrix in every step: the same codes, several pieces of a row at once.

In a compiled loop where there is one. Else: a row's register is linear over GF(2), so running it n steps is one 32 x 32
bit matrix; with it every piece of a row gets its own start value, and the pieces advance together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fahw.learn.kernels.compiled import loops
from fahw.prng import field_bits

_PIECES = 16  # a power of two
_SHIFTS = ((np.left_shift, np.uint32(13)), (np.right_shift, np.uint32(17)), (np.left_shift, np.uint32(5)))


def fast_codes(seeds: NDArray[np.uint32], columns: int, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """What `row_codes` yields, shape `(rows, columns)`; uint8 up to 8 bits, else uint16."""
    width, found = field_bits(bits), loops()
    if found is None:
        rows = _in_pieces(seeds, -(-columns * width // (32 * _PIECES)))
    else:
        rows = np.empty((len(seeds), -(-columns * width // 32)), "<u4")
        found.registers(seeds, rows)
    if width < 8:
        return _small_fields(rows, width, bits)[:, :columns]
    fields = rows.view(np.uint8 if width == 8 else "<u2")[:, :columns]
    return fields if bits == width else fields & fields.dtype.type((1 << bits) - 1)


def _in_pieces(seeds: NDArray[np.uint32], steps: int) -> NDArray[np.uint32]:
    """Words of every row, `steps` of each piece."""
    x = np.ascontiguousarray(_starts(seeds, steps).T)
    words = np.empty((*x.shape, steps), "<u4")
    shifted = np.empty_like(x)
    for step in range(steps):
        _advance(x, shifted)
        words[:, :, step] = x
    return words.reshape(len(seeds), -1)


def _small_fields(rows: NDArray[np.uint32], width: int, bits: int) -> NDArray[np.uint8]:
    """Fields of less than a byte, lowest first."""
    fields = np.empty((*rows.shape, 32 // width), np.uint8)
    for number in range(32 // width):
        fields[:, :, number] = (rows >> np.uint32(width * number)) & np.uint32((1 << bits) - 1)
    return fields.reshape(len(rows), -1)


def _advance(x: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    """One step of every register, in place."""
    for shift, amount in _SHIFTS:
        shift(x, amount, out=scratch)
        np.bitwise_xor(x, scratch, out=x)


def _starts(seeds: NDArray[np.uint32], steps: int) -> NDArray[np.uint32]:
    """Register values before each piece, shape `(pieces, rows)`: the pieces that are known jump ahead together."""
    x = np.empty((_PIECES, len(seeds)), "<u4")
    x[0], known = seeds, 1
    while known < _PIECES:
        tables = _jump_tables(steps * known)
        before = x[:known].view(np.uint8).reshape(known, -1, 4)  # little-endian, as the words are
        after = x[known : 2 * known]
        np.take(tables[0], before[:, :, 0], out=after, mode="clip")
        for byte in (1, 2, 3):
            after ^= tables[byte][before[:, :, byte]]
        known *= 2
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
