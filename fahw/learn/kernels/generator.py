"""The codes of `prng.row_codes`, fast enough to redraw a matrix in every step: several pieces of a row at once.

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


def lfsr_codes(seeds: NDArray[np.uint32], columns: int, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Codes of `bits` bits from one register per row, started at `seeds`, equal to those of `prng.row_codes`: shape
    `(rows, columns)`, uint8 up to 8 bits, else uint16."""
    width, compiled = field_bits(bits), loops()
    if compiled is None:
        rows = _in_pieces(seeds, -(-columns * width // (32 * _PIECES)))
    else:
        rows = np.empty((len(seeds), -(-columns * width // 32)), "<u4")
        compiled.registers(seeds, rows)
    if width < 8:
        return _small_fields(rows, width, bits)[:, :columns]
    fields = rows.view(np.uint8 if width == 8 else "<u2")[:, :columns]
    return fields if bits == width else fields & fields.dtype.type((1 << bits) - 1)


def _in_pieces(seeds: NDArray[np.uint32], steps: int) -> NDArray[np.uint32]:
    """The register words of every row, `(rows, pieces * steps)`: `steps` of each piece."""
    registers = np.ascontiguousarray(_starts(seeds, steps).T)
    words = np.empty((*registers.shape, steps), "<u4")
    shifted = np.empty_like(registers)
    for step in range(steps):
        _advance(registers, shifted)
        words[:, :, step] = registers
    return words.reshape(len(seeds), -1)


def _small_fields(rows: NDArray[np.uint32], width: int, bits: int) -> NDArray[np.uint8]:
    """The low `bits` bits of all fields of `width` bits (less than a byte) of the words, lowest field first, as
    bytes."""
    fields = np.empty((*rows.shape, 32 // width), np.uint8)
    for number in range(32 // width):
        fields[:, :, number] = (rows >> np.uint32(width * number)) & np.uint32((1 << bits) - 1)
    return fields.reshape(len(rows), -1)


def _advance(registers: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    """Advance every register by one step, in place."""
    for shift, amount in _SHIFTS:
        shift(registers, amount, out=scratch)
        np.bitwise_xor(registers, scratch, out=registers)


def _starts(seeds: NDArray[np.uint32], steps: int) -> NDArray[np.uint32]:
    """Register values before each piece, shape `(pieces, rows)`: the pieces that are ready jump ahead together."""
    registers = np.empty((_PIECES, len(seeds)), "<u4")
    registers[0], ready = seeds, 1
    while ready < _PIECES:
        tables = _jump_tables(steps * ready)
        before = registers[:ready].view(np.uint8).reshape(ready, -1, 4)  # little-endian, as the words are
        after = registers[ready : 2 * ready]
        np.take(tables[0], before[:, :, 0], out=after, mode="clip")
        for byte in (1, 2, 3):
            after ^= tables[byte][before[:, :, byte]]
        ready *= 2
    return registers


@lru_cache
def _jump_tables(steps: int) -> NDArray[np.uint32]:
    """Tables `(4, 256)` by which the register advances `steps` steps: the XOR of four entries, one per byte of its
    value."""
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
