"""Energy, leakage and area of a chip's memories and DRAM, each kind by its own law, unless the chip file gives
numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

from fahw.hardware.chip import Chip
from fahw.hardware.dram import Dram
from fahw.hardware.energy_table import STATIC
from fahw.hardware.memory import Memory
from fahw.hardware.process import Technology, UnitEnergy
from fahw.technology.constant import Constant
from fahw.technology.dram import dram_type
from fahw.technology.operations import register_area_mm2, register_leak_mw
from fahw.technology.sram import Estimate, sram_estimate
from fahw.technology.storage import ROM_FACTOR, ROM_SHARES, register_file_pj


def access_energy(chip: Chip, memory: Memory, action: str) -> Constant:
    """Energy of one access of `width_bits`, or of one generated bit."""
    given_energy = memory.energy
    if given_energy is not None:
        value = given_energy.read_pj if action == "read" else given_energy.write_pj
        return Constant(value, memory.source or "assumed", "sram", given_energy.uncertainty, given=True)
    if memory.kind == "prng":
        value = memory.pj_per_bit or 0.0
        return Constant(value, memory.source or "assumed", "generator", memory.uncertainty, given=True)
    if memory.kind == "register":
        entries = max(1, int(memory.kib * 8192) // memory.width_bits)
        return register_file_pj(memory.width_bits, entries, chip.technology.node_nm)
    estimate = _bank_estimate(chip.technology, memory, memory.device)
    if memory.kind == "rom":
        source = f"{estimate.source}; a ROM's read {ROM_SHARES['read_pj']:g} of it (assumed)"
        return Constant(estimate.bank.read_pj * ROM_SHARES["read_pj"], source, "sram", ROM_FACTOR)
    value = estimate.bank.read_pj if action == "read" else estimate.bank.write_pj
    return Constant(value, estimate.source, "sram", estimate.energy_factor)


def leak_mw(chip: Chip, memory: Memory, used_kib: float | None = None) -> Constant:
    """Static power of a whole memory; of the banks that `used_kib` takes where those that hold nothing are gated."""
    for energy in chip.energies:
        if (energy.component, energy.action) == (memory.name, STATIC):
            return given_constant(energy, "leakage", chip.clock_mhz * 1e-3)  # pJ per cycle x MHz = uW
    share = 1.0
    if memory.power_gated and used_kib is not None and memory.kib:
        share = min(1.0, ceil(used_kib / memory.bank) * memory.bank / memory.kib)
    if memory.energy is not None:
        given_energy = memory.energy
        return Constant(
            given_energy.leak_mw * share, memory.source or "assumed", "leakage", given_energy.uncertainty, given=True
        )
    if memory.kind == "prng":
        return Constant(0.0, "within the energy per bit", "leakage", 1.0)
    if memory.kind == "register":
        leak = register_leak_mw(int(memory.kib * 8192))
        return replace(leak, value=leak.value * share)
    device = memory.leakage_device or memory.device
    estimate = _bank_estimate(chip.technology, memory, device)
    share *= ROM_SHARES["leak_mw"] if memory.kind == "rom" else 1.0
    value = estimate.bank.leak_mw * memory.kib / memory.bank * share
    temperature = f" at {chip.technology.temp_c:g} C" if chip.technology.temp_c is not None else ""
    return Constant(value, f"{estimate.source}, {device} cells{temperature}", "leakage", estimate.leakage_factor)


def area_mm2(chip: Chip, memory: Memory, size_kib: float) -> float:
    """Area of a memory of this kind with `size_kib` of capacity, whole banks."""
    if memory.kind == "prng":
        return memory.area_mm2 or 0.0
    if memory.energy is not None:
        return memory.energy.area_mm2 * size_kib / memory.kib
    if memory.kind == "register":
        return register_area_mm2(int(size_kib * 8192), chip.technology.node_nm)
    bank = _bank_estimate(chip.technology, memory, memory.device).bank.area_mm2
    return bank * ceil(size_kib / memory.bank) * (ROM_SHARES["area_mm2"] if memory.kind == "rom" else 1.0)


def dram_constant(dram: Dram, action: str) -> Constant:
    """Energy of one bit (`read`, `write`) or one row (`activate`), or static power in mW (`background`,
    `powerdown`)."""
    kind = dram_type(dram.kind)
    given_value = {
        "read": dram.read_pj_per_bit, "write": dram.write_pj_per_bit, "activate": dram.activate_pj,
        "background": dram.background_mw,
        "powerdown": dram.background_mw if dram.powerdown_mw is None else dram.powerdown_mw,
    }[action]  # fmt: skip
    if given_value is not None:
        return Constant(given_value, dram.source or "assumed", "dram", dram.uncertainty, given=True)
    table_value = {
        "read": kind.read_pj_per_bit, "write": kind.write_pj_per_bit, "activate": kind.activate_pj,
        "background": kind.active_standby_mw,
        "powerdown": kind.active_standby_mw if kind.powerdown_mw is None else kind.powerdown_mw,
    }[action]  # fmt: skip
    return Constant(table_value, f"{kind.title}: {kind.source}", "dram", kind.uncertainty)


def given_constant(energy: UnitEnergy, kind: str, scale: float = 1.0) -> Constant:
    """The constant that a chip file or its energy table gives; `scale` brings it to the unit that is wanted."""
    return Constant(energy.pj * scale, energy.source or energy.assumed or "given", kind, energy.uncertainty, given=True)


def _bank_estimate(technology: Technology, memory: Memory, device: str) -> Estimate:
    return _cached_estimate(memory.bank * 1024, memory.width_bits, technology.node_nm, device, technology.temp_c)


@lru_cache(maxsize=4096)
def _cached_estimate(size_bytes: float, width_bits: int, node_nm: int, device: str, temp_c: float | None) -> Estimate:
    return sram_estimate(size_bytes, width_bits, node_nm, device, temp_c)
