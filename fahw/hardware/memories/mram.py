"""Embedded MRAM: magnetic cells that keep their bits without power, and take long and much to write.

Source: NVMExplorer (Pentecost et al., HPCA 2022, arXiv 2109.01188): NVSim at 22 nm, 2 MB, words of 64 bits, low
operating power, with the best and the worst STT-MRAM cell of its survey of publications, and an SRAM. A share here is
the geometric mean of what the two cells give relative to the SRAM; that each of them is at most 1.7 off is little
beside what an SRAM bank's estimate itself is uncertain by.

    of 64 bits         SRAM    best cell   worst cell
    read, pJ          4.606         7.19         7.91
    write, pJ         2.565       45.638      295.301    64 cells of 0.6 and 4.5 pJ, and as much as a read
    leakage, mW        66.9        42.51       23.298    the periphery's alone
    area, mm2         1.387       0.2888       0.7894    14 and 75 F2 a cell
    pulse, ns             -            2          200    28 nm macro: writes of 20 ns (Dong et al., JSSC 2019)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, nextafter, sqrt
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fahw.hardware.memories.sram import Banked
from fahw.hardware.part import Count
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, Entry, parts_of_sum
from fahw.technology.sram import LEAKAGE_FACTOR, access_constant

SOURCE = "NVMExplorer (Pentecost et al., HPCA 2022), NVSim at 22 nm, between its best and its worst STT-MRAM cell"
READ_SHARE = sqrt(7.19 * 7.91) / 4.606
LEAK_SHARE = sqrt(42.51 * 23.298) / 66.9
AREA_SHARE = sqrt(0.28878 * 0.78941) / 1.387
CELL_WRITE_PJ = sqrt(0.6 * 4.5)
"""Energy of one cell's write: 1.64 pJ. Assumed to be the same at every node, since the magnet sets the current."""
WRITE_FACTOR = 3.0
"""The best and the worst cell are at a factor of 2.7 from the mean."""
PULSE_NS = 20.0


class Mram(Banked):
    """An embedded spin-transfer-torque MRAM. Its periphery leaks, as a share of what an SRAM of the same transistors
    does; its cells do not."""

    constant_kind: ClassVar[str] = "mram"
    leak_share: ClassVar[float] = LEAK_SHARE
    area_share: ClassVar[float] = AREA_SHARE

    kind: Literal["mram"]
    write_pulse_ns: Annotated[float, Field(ge=0, le=1e4)] = PULSE_NS
    """How long a word's write takes; its bank, and so the port, is busy all the while, for whole cycles."""
    words_at_once: Count = 1
    """Words that are written at a time, each in a bank of its own."""

    def bits_per_cycle(self, action: str, clock_mhz: float) -> float:
        """Bits that pass the port per cycle: written ones wait for the pulse."""
        rate = super().bits_per_cycle(action, clock_mhz)
        cycles = ceil(self.write_pulse_ns * clock_mhz / 1000)
        if action == "read" or not cycles:
            return rate
        written = self.width_bits * self.words_at_once / cycles
        return min(rate, nextafter(written, 2 * written))  # a hair more: n words take n pulses and not a cycle longer

    def _bank_access(self, process: Technology, action: str) -> Constant:
        estimate = self.bank_estimate(process)
        source = f"{SOURCE}: reads {READ_SHARE:.2f} of {estimate.source}"
        read = replace(access_constant(estimate, "read").times(READ_SHARE), source=source, kind="mram")
        if action == "read":
            return read
        cells = Constant(CELL_WRITE_PJ * self.width_bits, source, "mram", WRITE_FACTOR).named("MRAM cell write")
        source, parts = f"{source}; and {CELL_WRITE_PJ:.2f} pJ a cell", parts_of_sum([(1, read), (1, cells)])
        return Constant(read.value + cells.value, source, "mram", WRITE_FACTOR, parts=parts)

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """The shares of an SRAM bank, and what a write takes beyond a read."""
        shares = (("read", READ_SHARE, 2.0), ("leak", LEAK_SHARE, LEAKAGE_FACTOR), ("area", AREA_SHARE, 1.7))
        for name, share, factor in shares:
            yield Entry(f"mram bank, {name}", share, "of an SRAM's", None, factor, SOURCE)
        yield Entry("mram cell, write", CELL_WRITE_PJ, "pJ", None, WRITE_FACTOR, SOURCE)
        pulse = "Dong et al., JSSC 2019, 28 nm: 20 ns; 2 to 200 ns in NVMExplorer's survey"
        yield Entry("mram cell, write pulse", PULSE_NS, "ns", None, 10.0, pulse)
