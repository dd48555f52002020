"""Small storage: register files, and scratchpads inside processing elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from fahw.errors import ConfigError, Problem
from fahw.technology.constant import Constant, parts_of_sum
from fahw.technology.logic_units import LogicProcess, leakage_constant, registers
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
    leakage: Constant
    area_mm2: float

    @property
    def leak_mw(self) -> float:
        """Static power in mW."""
        return self.leakage.value


def scratchpad(
    bits: int, entries: int, process: LogicProcess, device: str = "lop", least_bytes: float = 0.0
) -> Scratchpad:
    """A pad of `entries` of `bits`: a register file or an SRAM, whichever takes less energy (that of a read and a write
    together, halved). Below 1 KiB the SRAM's law is extrapolated; `least_bytes`: of an SRAM, part of which is then not
    used."""
    file = register_file_pj(bits, entries, process.node_nm)
    size_bytes = max(bits * entries / 8, least_bytes)
    estimate = sram_estimate(size_bytes, max(bits, 8), process.node_nm, device, process.temp_c)
    bank = estimate.bank
    value = (bank.read_pj + bank.write_pj) / 2
    if value >= file.value:
        unit = registers(bits * entries, process)
        return Scratchpad(file, leakage_constant(unit.leak_mw, process.node_nm), unit.area_mm2)
    source, factor = f"{estimate.source}; {entries} words", estimate.energy_factor
    halves = [(0.5, access_constant(estimate, action)) for action in ("read", "write")]
    access = Constant(value, source, "sram", factor, parts=parts_of_sum(halves))
    leakage = Constant(bank.leak_mw, estimate.source, "leakage", estimate.leakage_factor).named("SRAM leakage")
    return Scratchpad(access, leakage, bank.area_mm2)
