"""Register file: flip-flops with a selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from fahw.hardware.memory import Memory
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, Entry
from fahw.technology.logic_units import leakage_constant, registers
from fahw.technology.operations import register_pj
from fahw.technology.storage import register_file_pj


class Register(Memory):
    """A register file; its whole size is one bank."""

    needs_bank: ClassVar[bool] = False

    kind: Literal["register"]

    def _estimated_access(self, process: Technology, action: str) -> Constant:
        entries = max(1, int(self.kib * 8192) // self.width_bits)
        return register_file_pj(self.width_bits, entries, process.node_nm)

    def _estimated_leakage(self, process: Technology) -> Constant:
        unit = registers(int(self.kib * 8192), process.built_for())
        return leakage_constant(unit.leak_mw, process.node_nm)

    def _estimated_area(self, process: Technology, size_kib: float) -> float:
        return registers(int(size_kib * 8192), process.built_for()).area_mm2

    @classmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """A single register, and files of three sizes."""
        constants = {"register bit": register_pj(1, node_nm)}
        constants |= {f"register file {size}x16, access": register_file_pj(16, size, node_nm) for size in (16, 64, 128)}
        for name, constant in constants.items():
            yield Entry.of(name, constant, "pJ", node_nm)
