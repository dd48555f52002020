"""On-chip memories as a chip file describes them: what all kinds share, and what each kind must answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fahw.config.schema import Frozen
from fahw.hardware.part import STATIC, Count, Device, Factor, Name, NotNegative, Positive, Sourced, Tensor
from fahw.hardware.process import Technology
from fahw.technology.constant import Constant, Entry, Part
from fahw.technology.sram import mixture_problem

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


class Overheads(NamedTuple):
    """Shares by which a transposable memory takes more than an ordinary one: 0.33 for 33 %."""

    read: float
    write: float
    area: float
    leakage: float


OVERHEAD_RANGE = (0.0, 2.0)
"""Ends of an overhead's range, relative to it. Assumed: none, as where cells are read from either side, to twice what
the estimates of two banks tell, since each is uncertain by two."""


def with_overhead(constant: Constant, factor: float, name: str) -> Constant:
    """The constant of an ordinary memory times `factor`, 1 and the overhead of this name."""
    if factor == 1:
        return constant
    return constant.times(factor, Part(f"overhead of {name}", (factor - 1) / factor, *OVERHEAD_RANGE))


class Memory(Sourced):
    """An on-chip memory of equal banks. Energy per access is a bank's and of the wires to it;
    leakage and area are the sum of the banks'.

    A tensor may have a home at several levels: the array reads the innermost, what does not fit there lies in the next.
    """

    writable: ClassVar[bool] = True
    """Whether training can write the memory; the others hold fixed feedback weights and nothing else."""
    generates: ClassVar[bool] = False
    """Whether the memory stores nothing and yields its values anew whenever they are read."""
    needs_bank: ClassVar[bool] = True
    """Whether the estimate is one of a bank, whose size the file must then give."""
    constant_kind: ClassVar[str] = "sram"
    """The kind of the constants that its energies per access move with when they are uncertain."""
    actions: ClassVar[tuple[str, ...]] = ("read", "write", STATIC)
    """The actions that have an energy."""

    name: Name
    kind: str
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
    """Transistor type of the SRAM estimate; with `cells` that of the periphery."""
    cells: Device | None = None
    """Transistor type of an SRAM's cells, where it differs from that of the periphery: lstp, with `device` lop or hp.
    Other kinds have cells of their own and take no notice: a sweep can change the kind of a memory that says it."""
    energy: MemoryEnergy | None = None

    @property
    def kib(self) -> float:
        """Capacity, KiB; 0 for a generator and, before it is fitted, for a memory of size `fit`."""
        return self.size_kib if isinstance(self.size_kib, float | int) else 0.0

    @property
    def bank(self) -> float:
        """Capacity of a bank, KiB: the whole memory where no banks are given."""
        return self.bank_kib or self.kib

    @property
    def is_read_only(self) -> bool:
        """Whether the memory stores what no training can write."""
        return not self.writable and not self.generates

    def bits_per_cycle(self, action: str, clock_mhz: float) -> float:
        """Bits that pass the port per cycle while it reads or writes."""
        return self.read_bits_per_cycle if action == "read" else self.write_bits_per_cycle

    def access_energy(self, process: Technology, action: str) -> Constant:
        """Energy of one access of `width_bits`, or of one generated bit."""
        if self.energy is None:
            return self._estimated_access(process, action)
        value = self.energy.read_pj if action == "read" else self.energy.write_pj
        return Constant(value, self._source, self.constant_kind, self.energy.uncertainty, given=True)

    def leakage(self, process: Technology, used_kib: float | None = None) -> Constant:
        """Static power of the whole memory; of the banks that `used_kib` takes where those that hold nothing are
        gated."""
        share = self._share_of_banks(used_kib) if self.power_gated and used_kib is not None else 1.0
        if self.energy is None:
            leak = self._estimated_leakage(process)
        else:
            leak = Constant(self.energy.leak_mw, self._source, "leakage", self.energy.uncertainty, given=True)
        return leak if share == 1.0 else replace(leak, value=leak.value * share)

    def area(self, process: Technology, size_kib: float) -> float:
        """Area in mm2 of a memory of this kind with `size_kib` of capacity, whole banks."""
        if self.energy is not None:
            return self.energy.area_mm2 * self._share_of_banks(size_kib)
        return self._estimated_area(process, size_kib)

    def _share_of_banks(self, size_kib: float) -> float:
        """The share of the memory's banks, 0 to 1, that hold `size_kib`; 1 where it has no size yet."""
        return min(1.0, ceil(size_kib / self.bank) * self.bank / self.kib) if self.kib else 1.0

    def transposed(self, process: Technology) -> Overheads:
        """What it takes beyond an ordinary memory of its kind to read it by rows and by columns; nothing for one whose
        selection works either way."""
        return Overheads(0.0, 0.0, 0.0, 0.0)

    @abstractmethod
    def _estimated_access(self, process: Technology, action: str) -> Constant:
        """Energy of one access, where the file gives none."""

    @abstractmethod
    def _estimated_leakage(self, process: Technology) -> Constant:
        """Static power of the whole memory, where the file gives none."""

    @abstractmethod
    def _estimated_area(self, process: Technology, size_kib: float) -> float:
        """Area in mm2 of whole banks of `size_kib` together, where the file gives none."""

    @field_validator("cells")
    @classmethod
    def _in_a_table(cls, cells: Device | None, info: ValidationInfo) -> Device | None:
        device = info.data.get("device")  # absent where it is wrong itself
        if device and (problem := mixture_problem(device, cells)):
            raise ValueError(problem)
        return cells

    @classmethod
    @abstractmethod
    def listed(cls, node_nm: int) -> Iterator[Entry]:
        """What `fahw list technology` shows of the kind, logic at `node_nm`."""

    @property
    def _source(self) -> str:
        return self.source or "assumed"

    @model_validator(mode="after")
    def _of_its_kind(self) -> Memory:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        """Why the memory cannot be of its kind."""
        if not self.writable and self.holds != ("feedback",):
            yield f"a {self.kind} can hold feedback and nothing else (got {', '.join(self.holds)})"
        if self.generates:
            if self.size_kib is not None or self.bank_kib is not None:
                yield f"a {self.kind} has no size_kib and no bank_kib"
        elif self.size_kib is None:
            yield "size_kib is missing: a number, or `fit`"
        elif self.size_kib == "fit" and self.bank_kib is None:
            yield "size_kib: fit needs bank_kib, of which whole ones are taken"
        elif self.needs_bank and self.bank_kib is None and self.energy is None:
            yield "bank_kib is missing"


class TransposedAccess(Sourced):
    """What it takes to read a memory by rows and by columns: overheads of a `transposable` memory, 0.33 for 33 %.

    Those that are not given are the bank's own: skewed storage in as many 8-bit-wide banks as a word has bytes, by the
    estimate of the memory's kind.
    """

    read_overhead: NotNegative | None = None
    write_overhead: NotNegative | None = None
    area_overhead: NotNegative | None = None
    leak_overhead: NotNegative | None = None
    accumulate_dataflow: Literal["ws", "is"] = "ws"
    """Dataflow of `error` under the form `accumulate`: one that consumes the rows as they are stored."""

    def of(self, memory: Memory, process: Technology) -> Overheads:
        """The overheads of a memory."""
        given = (self.read_overhead, self.write_overhead, self.area_overhead, self.leak_overhead)
        own = _transposed(memory, process) if None in given else Overheads(0.0, 0.0, 0.0, 0.0)
        return Overheads(*(mine if mine is not None else other for mine, other in zip(given, own, strict=True)))


@lru_cache(maxsize=256)
def _transposed(memory: Memory, process: Technology) -> Overheads:
    """Those of `Memory.transposed`, kept: energy, leakage and area ask for them."""
    return memory.transposed(process)
