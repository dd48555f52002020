"""SRAM: banks of CACTI 7's tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import ceil, log2, sqrt
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fahw.hardware.memory import Memory, Overheads
from fahw.hardware.part import Device
from fahw.hardware.process import Technology
from fahw.technology.constant import AREA_FACTOR, Constant, Entry, parts_of_sum
from fahw.technology.sram import NODES, Estimate, access_constant, sram_estimate, supply_v
from fahw.technology.wires import wire_pj_per_bit_mm

_MEAN_WAY = 0.75
"""Of the side of a square, from the middle of an edge to any place in it, along rows and columns: 1/4 and 1/2."""


class Banked(Memory):
    """A memory of banks, each of which has what CACTI says of an SRAM bank, or a share of it, joined by wires."""

    leak_share: ClassVar[float] = 1.0
    area_share: ClassVar[float] = 1.0

    vdd_v: Annotated[float, Field(ge=0.3, le=1.5)] | None = None
    """Supply of the memory, whose domain is its own: estimates are at CACTI's supply of the device (45 nm lop: 0.7 V);
    at another, energies go with its square and leakage in proportion."""

    @property
    def cell_device(self) -> Device:
        """Transistor type of the SRAM's cells."""
        return self.device

    def bank_estimate(self, process: Technology) -> Estimate:
        """The SRAM bank of the memory's bank size and word."""
        size_bytes, node_nm = self.bank * 1024, process.node_nm
        estimate = _bank(size_bytes, self.width_bits, node_nm, self.device, process.temp_c, self.cell_device)
        volts = self._supply_share(node_nm)
        if volts == 1:
            return estimate
        bank, source = estimate.bank, f"{estimate.source}; at {self.vdd_v:g} V"
        read_pj, write_pj = bank.read_pj * volts**2, bank.write_pj * volts**2
        bank = replace(bank, read_pj=read_pj, write_pj=write_pj, leak_mw=bank.leak_mw * volts)
        return replace(estimate, bank=bank, source=source)

    def _supply_share(self, node_nm: int) -> float:
        """The memory's supply over the one that its estimates are at."""
        return self.vdd_v / supply_v(node_nm, self.device) if self.vdd_v else 1.0

    def wires(self, process: Technology) -> Constant:
        """Energy in pJ of a word and its address between the memory's port and the bank; nothing for a single bank.

        The banks fill a square and the port is in the middle of an edge.
        """
        wire = wire_pj_per_bit_mm(process.node_nm, self.device).named("wires between banks")
        if self.kib <= self.bank:
            return wire.times(0.0)
        side_mm = sqrt(self._estimated_area(process, self.kib))
        address_bits = log2(max(1.0, self.kib * 8192 / self.width_bits))
        bit_mm = (self.width_bits + address_bits) * _MEAN_WAY * side_mm
        return wire.times(bit_mm * self._supply_share(process.node_nm) ** 2)

    @abstractmethod
    def _bank_access(self, process: Technology, action: str) -> Constant:
        """Energy of one access of the bank's own."""

    def _estimated_access(self, process: Technology, action: str) -> Constant:
        bank, wires = self._bank_access(process, action), self.wires(process)
        if not wires.value:
            return bank
        source = f"{bank.source}; {wires.value:.3g} pJ of wires to {ceil(self.kib / self.bank)} banks"
        parts = parts_of_sum([(1, bank), (1, wires)])
        return replace(bank, value=bank.value + wires.value, source=source, parts=parts)

    def transposed(self, process: Technology) -> Overheads:
        """A word's bytes lie skewed in banks of 8 bits each, which an access by row or by column reads all: what these
        take over one bank of the word's width, with the wires between banks in both. At least nothing, since an
        ordinary memory can be cut so too."""
        parts, wires_pj = ceil(self.width_bits / 8), self.wires(process).value
        whole = self.model_copy(update={"size_kib": self.bank, "bank_kib": self.bank, "energy": None})
        part = whole.model_copy(update={"size_kib": self.bank / parts, "bank_kib": self.bank / parts, "width_bits": 8})
        pairs = zip(whole._bank_numbers(process), part._bank_numbers(process), strict=True)
        joined = zip(pairs, (wires_pj, wires_pj, 0.0, 0.0), strict=True)
        return Overheads(*(max(0.0, (parts * mine + way) / (other + way) - 1) for (other, mine), way in joined))

    def _bank_numbers(self, process: Technology) -> tuple[float, float, float, float]:
        """Read, write, area and leakage of a memory of one bank."""
        read, write = (self._bank_access(process, action).value for action in ("read", "write"))
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

    def _bank_access(self, process: Technology, action: str) -> Constant:
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
