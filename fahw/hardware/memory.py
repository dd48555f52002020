"""On-chip memories as a chip file describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fahw.config.schema import Frozen
from fahw.hardware.part import Count, Device, Factor, Name, NotNegative, Positive, Sourced, Tensor

MemoryKind = Literal["sram", "rom", "register", "prng"]
Level = Literal["register", "local", "global"]
LEVELS: tuple[Level, ...] = ("register", "local", "global")
"""Levels of memory from the array outwards; DRAM lies behind the last."""


class MemoryEnergy(Frozen):
    """Numbers given outright instead of estimated: per access of `width_bits`, and for the whole memory."""

    read_pj: NotNegative
    write_pj: NotNegative
    leak_mw: NotNegative
    area_mm2: NotNegative
    uncertainty: Factor = 1.0
    """The true value lies between the number divided and multiplied by this factor."""


class Memory(Sourced):
    """An on-chip memory of equal banks. Energy per access is a bank's; leakage and area are the sum of the banks'.

    A tensor may have a home at several levels: the array reads the innermost, what does not fit there lies in the next.
    """

    name: Name
    kind: MemoryKind = "sram"
    """`rom` holds fixed feedback weights, `prng` regenerates them, `register` is a register file."""
    level: Level = "local"
    holds: tuple[Tensor, ...] = Field(min_length=1)
    size_kib: Positive | Literal["fit"] | None = None
    """`fit`: as many whole banks as what the memory must hold."""
    bank_kib: Positive | None = None
    width_bits: Annotated[int, Field(ge=8, le=1024)]
    """Bits of one access."""
    read_bits_per_cycle: Count
    write_bits_per_cycle: Count = 1
    latency_cycles: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    shared_port: bool = False
    """Reads and writes wait for each other (one port and one bank); otherwise they meet in different banks."""
    power_gated: bool = False
    """Banks that hold nothing do not leak."""
    device: Device = "lop"
    """Transistor type of the SRAM estimate."""
    leakage_device: Device | None = None
    """Transistor type of the leakage estimate where it differs (low-leakage cells in a fast periphery)."""
    energy: MemoryEnergy | None = None
    pj_per_bit: NotNegative | None = None
    """Of a `prng`: energy of one generated bit."""
    area_mm2: NotNegative | None = None
    """Of a `prng`."""
    uncertainty: Factor = 4.0
    """Of a `prng`: the true energy lies between the number divided and multiplied by this factor."""

    @property
    def kib(self) -> float:
        """Capacity, KiB; 0 for a generator and, before it is fitted, for a memory of size `fit`."""
        return self.size_kib if isinstance(self.size_kib, float | int) else 0.0

    @property
    def bank(self) -> float:
        """Capacity of a bank, KiB: the whole memory where no banks are given."""
        return self.bank_kib or self.kib

    @property
    def writable(self) -> bool:
        """Whether training can write the memory."""
        return self.kind not in ("rom", "prng")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Memory:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.kind in ("rom", "prng") and self.holds != ("feedback",):
            yield f"a {self.kind} can hold feedback and nothing else (got {', '.join(self.holds)})"
        if self.kind == "prng":
            if self.pj_per_bit is None or self.area_mm2 is None:
                yield "a prng needs pj_per_bit and area_mm2"
            if self.size_kib is not None or self.bank_kib is not None:
                yield "a prng has no size_kib and no bank_kib"
        elif self.size_kib is None:
            yield "size_kib is missing: a number, or `fit`"
        elif self.size_kib == "fit" and self.bank_kib is None:
            yield "size_kib: fit needs bank_kib, of which whole ones are taken"
        elif self.kind != "register" and self.bank_kib is None and self.energy is None:
            yield "bank_kib is missing"


class TransposedAccess(Sourced):
    """What it takes to read a memory by rows and by columns: overheads of a `transposable` memory, 0.33 for 33 %."""

    read_overhead: NotNegative
    write_overhead: NotNegative
    area_overhead: NotNegative
    leak_overhead: NotNegative
    accumulate_dataflow: Literal["ws", "is"] = "ws"
    """Dataflow of `error` under the form `accumulate`: one that consumes the rows as they are stored."""
