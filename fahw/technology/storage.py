"""Small storage: register files, and scratchpads inside processing elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from fahw.errors import ConfigError, Problem
from fahw.technology.constant import Constant, parts_of_sum
from fahw.technology.logic_units import LogicProcess, registers
from fahw.technology.operations import ACCELERGY, logic_constant
from fahw.technology.sram import access_constant, sram_estimate

REGISTER_FILE_FACTOR = 2.0
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
    source = f"{ACCELERGY}, register files of 64 and 128 x 16 bits: {entries} entries"
    return logic_constant(per_bit * bits, node_nm, source, factor=REGISTER_FILE_FACTOR, name="register file")


@dataclass(frozen=True)
class Scratchpad:
    """A small memory inside a processing element: energy of an access, static power, area."""

    access: Constant
    leak_mw: float
    area_mm2: float


def scratchpad(bits: int, entries: int, process: LogicProcess, device: str = "lop") -> Scratchpad:
    """A pad of `entries` of `bits`: a register file or an SRAM, whichever takes less energy (that of a read and a write
    together, halved). Below 1 KiB the SRAM's law is extrapolated."""
    file = register_file_pj(bits, entries, process.node_nm)
    estimate = sram_estimate(bits * entries / 8, max(bits, 8), process.node_nm, device, process.temp_c)
    bank = estimate.bank
    value = (bank.read_pj + bank.write_pj) / 2
    if value >= file.value:
        unit = registers(bits * entries, process)
        return Scratchpad(file, unit.leak_mw, unit.area_mm2)
    source, factor = f"{estimate.source}; {entries} words", estimate.energy_factor
    halves = [(0.5, access_constant(estimate, action)) for action in ("read", "write")]
    access = Constant(value, source, "sram", factor, parts=parts_of_sum(halves))
    return Scratchpad(access, bank.leak_mw, bank.area_mm2)
