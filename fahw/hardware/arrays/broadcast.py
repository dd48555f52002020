"""Broadcast arrays: outputs stay in place as in `os`, and operands reach all elements at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fahw.hardware.arrays.systolic import OutputStationary


@dataclass(frozen=True)
class Broadcast(OutputStationary):
    """`broadcast`: work is laid out as `os` does, with wires in place of shift registers: no fill and no drain."""

    name: ClassVar[str] = "broadcast"
    skips_zeros: ClassVar[bool] = True

    def _cycles_of(self, rows: int, cols: int) -> int:
        return self.k

    def moved_bits(self, left_bits: int, right_bits: int) -> int:
        return 0
