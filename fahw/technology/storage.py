"""Small storage: register files, and ROM banks relative to SRAM banks."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from fahw.errors import ConfigError, Problem
from fahw.technology.constant import Constant
from fahw.technology.operations import ALADDIN, logic_constant, register_area_mm2, register_leak_mw
from fahw.technology.sram import Sram, sram, sram_estimate

REGISTER_FILE_FACTOR = 2.0
ROM_SHARES = {"read_pj": 0.6, "leak_mw": 0.2, "area_mm2": 0.35}
"""Assumed: a mask ROM bank relative to an SRAM bank of its size. One transistor per bit in place of six: a third of the
area, short bit lines for the read, and leakage of the periphery alone. It is written once, when it is made."""
ROM_FACTOR = 3.0
_FILE_AT = {64: 0.35718 / 16, 128: 0.82142 / 16}  # entries: pJ per bit
_EXPONENT = log(_FILE_AT[128] / _FILE_AT[64]) / log(2)


def register_file_pj(bits: int, entries: int, node_nm: int) -> Constant:
    """Energy of one access of `bits` in a register file of `entries`.

    A single register costs 9 fJ per bit; above some 30 entries the selection counts: a power law through the files of
    64 and 128 entries of 16 bits. Raises ConfigError for fewer than one entry.
    """
    if entries < 1:
        raise ConfigError(Problem("register file", f"needs at least one entry (got {entries})"))
    per_bit = max(0.009, _FILE_AT[64] * (entries / 64) ** _EXPONENT)
    source = f"{ALADDIN}, register files of 64 and 128 x 16 bits: {entries} entries"
    return logic_constant(per_bit * bits, node_nm, source, factor=REGISTER_FILE_FACTOR)


@dataclass(frozen=True)
class Scratchpad:
    """A small memory inside a processing element: energy of an access, static power, area."""

    access: Constant
    leak_mw: float
    area_mm2: float


def scratchpad(bits: int, entries: int, node_nm: int, device: str = "lop", temp_c: float | None = None) -> Scratchpad:
    """A pad of `entries` of `bits`: a register file or an SRAM, whichever takes less energy (that of a read and a write
    together, halved). Below 1 KiB the SRAM's law is extrapolated."""
    registers = register_file_pj(bits, entries, node_nm)
    estimate = sram_estimate(bits * entries / 8, max(bits, 8), node_nm, device, temp_c)
    bank = estimate.bank
    value = (bank.read_pj + bank.write_pj) / 2
    if value >= registers.value:
        total = bits * entries
        return Scratchpad(registers, register_leak_mw(total).value, register_area_mm2(total, node_nm))
    access = Constant(value, f"{estimate.source}; {entries} words", "sram", estimate.energy_factor)
    return Scratchpad(access, bank.leak_mw, bank.area_mm2)


def rom(size_bytes: float, word_bits: int, node_nm: int, device: str = "lop") -> Sram:
    """A ROM bank: shares of the SRAM bank of the same size and word (see `ROM_SHARES`); a write costs nothing."""
    bank = sram(size_bytes, word_bits, node_nm, device)
    return Sram(
        bank.read_pj * ROM_SHARES["read_pj"], 0.0, bank.leak_mw * ROM_SHARES["leak_mw"],
        bank.area_mm2 * ROM_SHARES["area_mm2"],
    )  # fmt: skip
