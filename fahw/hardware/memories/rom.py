"""ROM: a mask ROM that holds a rule's own feedback weights, made with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from fahw.hardware.memories.sram import Banked
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, Entry, Part
from fahw.technology.sram import access_constant

READ_SHARE, LEAK_SHARE, AREA_SHARE = 0.6, 0.2, 0.35
"""Assumed: a mask ROM bank relative to an SRAM bank of its size. One transistor per bit in place of six: a third of the
area, short bit lines for the read, and leakage of the periphery alone. It is written once, when it is made."""
FACTOR = 3.0


class Rom(Banked):
    """A read-only memory; `read_bits_per_cycle` is all that its port does."""

    writable: ClassVar[bool] = False
    leak_share: ClassVar[float] = LEAK_SHARE
    area_share: ClassVar[float] = AREA_SHARE

    kind: Literal["rom"]

    def _bank_access(self, process: Technology, action: str) -> Constant:
        estimate = self.bank_estimate(process)
        source = f"{estimate.source}; a ROM's read {READ_SHARE:g} of it (assumed)"
        own = Part("ROM read over SRAM read", 1.0, 1 / FACTOR, FACTOR)
        return replace(access_constant(estimate, "read").times(READ_SHARE, own), source=source, factor=FACTOR)

    def _estimated_leakage(self, process: Technology) -> Constant:
        own = Part("ROM leakage over SRAM leakage", 1.0, 1 / FACTOR, FACTOR)
        return super()._estimated_leakage(process).times(1.0, own)

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """The shares of an SRAM bank."""
        for name, share in (("read", READ_SHARE), ("leak", LEAK_SHARE), ("area", AREA_SHARE)):
            source = "assumed, see fahw/hardware/memories/rom.py"
            yield Entry(f"rom bank, {name}", share, "of an SRAM's", None, FACTOR, source)
