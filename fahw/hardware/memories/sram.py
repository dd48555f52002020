"""SRAM: banks of CACTI 7's tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import ClassVar, Literal

from fahw.hardware.memory import Memory, Overheads
from fahw.hardware.part import Device
from fahw.hardware.process import Technology
from fahw.technology.constant import AREA_FACTOR, Constant, Entry
from fahw.technology.sram import NODES, Estimate, access_constant, sram_estimate


class Banked(Memory):
    """A memory of banks, each of which has what CACTI says of an SRAM bank, or a share of it."""

    leak_share: ClassVar[float] = 1.0
    area_share: ClassVar[float] = 1.0

    @property
    def cell_device(self) -> Device:
        """Transistor type of the SRAM's cells."""
        return self.device

    def bank_estimate(self, process: Technology) -> Estimate:
        """The SRAM bank of the memory's bank size and word."""
        size_bytes = self.bank * 1024
        return _bank(size_bytes, self.width_bits, process.node_nm, self.device, process.temp_c, self.cell_device)

    def transposed(self, process: Technology) -> Overheads:
        """A word's bytes lie skewed in banks of 8 bits each, which an access by row or by column reads all: what these
        take over one bank of the word's width. At least nothing, since an ordinary memory can be cut so too."""
        parts = ceil(self.width_bits / 8)
        whole = self.model_copy(update={"size_kib": self.bank, "bank_kib": self.bank, "energy": None})
        part = whole.model_copy(update={"size_kib": self.bank / parts, "bank_kib": self.bank / parts, "width_bits": 8})
        pairs = zip(whole._bank_numbers(process), part._bank_numbers(process), strict=True)
        return Overheads(*(max(0.0, parts * mine / other - 1) for other, mine in pairs))

    def _bank_numbers(self, process: Technology) -> tuple[float, float, float, float]:
        """Read, write, area and leakage of a memory of one bank."""
        read, write = (self._estimated_access(process, action).value for action in ("read", "write"))
        return read, write, self._estimated_area(process, self.kib), self._estimated_leakage(process).value

    def _estimated_leakage(self, process: Technology) -> Constant:
        estimate, cells = self.bank_estimate(process), self.cell_device
        value = estimate.bank.leak_mw * self.kib / self.bank * self.leak_share
        device = cells if cells == self.device else f"{cells} cells in {self.device}"
        temperature = f" at {process.temp_c:g} C" if process.temp_c is not None else ""
        source = f"{estimate.source}, {device}{temperature}"
        return Constant(value, source, "leakage", estimate.leakage_factor).named("SRAM leakage")

    def _estimated_area(self, process: Technology, size_kib: float) -> float:
        bank = self.bank_estimate(process).bank
        return bank.area_mm2 * ceil(size_kib / self.bank) * self.area_share


class Sram(Banked):
    """An SRAM."""

    kind: Literal["sram"] = "sram"

    @property
    def cell_device(self) -> Device:
        """Transistor type of the cells."""
        return self.cells or self.device

    def _estimated_access(self, process: Technology, action: str) -> Constant:
        return access_constant(self.bank_estimate(process), action)

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """Banks of three sizes at every node of the table."""
        for node in NODES:
            for kib in (8, 64, 512):
                for cells, text in (("lop", "sram lop"), ("lstp", "sram lop, lstp cells,")):
                    yield from _listed_bank(f"{text} {kib} KiB x 64", kib, node, cells)


def _listed_bank(name: str, kib: int, node: int, cells: str) -> Iterator[Entry]:
    estimate = sram_estimate(kib * 1024, 64, node, cells=cells)
    bank, source = estimate.bank, estimate.source
    yield Entry(f"{name}, read", bank.read_pj, "pJ", node, estimate.energy_factor, source)
    yield Entry(f"{name}, write", bank.write_pj, "pJ", node, estimate.energy_factor, source)
    yield Entry(f"{name}, leakage", bank.leak_mw, "mW", node, estimate.leakage_factor, source)
    yield Entry(f"{name}, area", bank.area_mm2, "mm2", node, AREA_FACTOR, source)


@lru_cache(maxsize=4096)
def _bank(size_bytes: float, width_bits: int, node_nm: int, device: str, temp_c: float | None, cells: str) -> Estimate:
    return sram_estimate(size_bytes, width_bits, node_nm, device, temp_c, cells)
