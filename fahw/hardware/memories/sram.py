"""SRAM: banks of CACTI 7's table."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import ClassVar, Literal

from fahw.hardware.memory import Memory
from fahw.hardware.process import Technology
from fahw.technology.constant import AREA_FACTOR, Constant, Entry
from fahw.technology.sram import ENERGY_FACTOR, LEAKAGE_FACTOR, NODES, SOURCE, Estimate, sram, sram_estimate


class Banked(Memory):
    """A memory of banks, each of which has what CACTI says of an SRAM bank, or a share of it."""

    leak_share: ClassVar[float] = 1.0
    area_share: ClassVar[float] = 1.0

    @property
    def leaking_device(self) -> str:
        """The type of the transistors that leak."""
        return self.leakage_device or self.device

    def bank_estimate(self, process: Technology, device: str) -> Estimate:
        """The SRAM bank of the memory's bank size and word, with transistors of type `device`."""
        return _bank(self.bank * 1024, self.width_bits, process.node_nm, device, process.temp_c)

    def _estimated_leakage(self, process: Technology) -> Constant:
        device = self.leaking_device
        estimate = self.bank_estimate(process, device)
        value = estimate.bank.leak_mw * self.kib / self.bank * self.leak_share
        temperature = f" at {process.temp_c:g} C" if process.temp_c is not None else ""
        return Constant(value, f"{estimate.source}, {device} cells{temperature}", "leakage", estimate.leakage_factor)

    def _estimated_area(self, process: Technology, size_kib: float) -> float:
        bank = self.bank_estimate(process, self.device).bank
        return bank.area_mm2 * ceil(size_kib / self.bank) * self.area_share


class Sram(Banked):
    """An SRAM."""

    kind: Literal["sram"] = "sram"

    def _estimated_access(self, process: Technology, action: str) -> Constant:
        estimate = self.bank_estimate(process, self.device)
        value = estimate.bank.read_pj if action == "read" else estimate.bank.write_pj
        return Constant(value, estimate.source, "sram", estimate.energy_factor)

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """Banks of three sizes at every node of the table."""
        for node in NODES:
            for kib in (8, 64, 512):
                bank, name = sram(kib * 1024, 64, node), f"sram lop {kib} KiB x 64"
                yield Entry(f"{name}, read", bank.read_pj, "pJ", node, ENERGY_FACTOR, SOURCE)
                yield Entry(f"{name}, write", bank.write_pj, "pJ", node, ENERGY_FACTOR, SOURCE)
                yield Entry(f"{name}, leakage", bank.leak_mw, "mW", node, LEAKAGE_FACTOR, SOURCE)
                yield Entry(f"{name}, area", bank.area_mm2, "mm2", node, AREA_FACTOR, SOURCE)


@lru_cache(maxsize=4096)
def _bank(size_bytes: float, width_bits: int, node_nm: int, device: str, temp_c: float | None) -> Estimate:
    return sram_estimate(size_bytes, width_bits, node_nm, device, temp_c)
