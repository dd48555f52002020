"""What it is worth, and what room it takes, to keep the tensors of a step on the chip; and the plan that follows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fahw.hardware.memory import Memory
from fahw.mapping.lifetimes import Choice
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.tensors.lives import KeptTensor, Use
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.moments import Moments
from fahw.work.plan.pricing import PriceBook
from fahw.work.plan.step_plan import StepPlan

_Bits = npt.NDArray[np.float64]
_REPEATED = ("forward", "error", "gradient")
"""Phases that run for every micro-batch."""


@dataclass(frozen=True)
class Kept:
    """The share of a tensor, 0 to 1, that is on the chip at each of its reads, and that is never written to DRAM."""

    reads: tuple[float, ...]
    written: float


@dataclass(frozen=True)
class Keeping:
    """The tensors of a step with their lives, the tasks with products beside them, and prices."""

    step: StepContext
    tensors: tuple[KeptTensor, ...]
    moments: Moments
    book: PriceBook
    tasks: tuple[ProductTask, ...]

    def nothing_kept(self, reserve: int) -> StepPlan:
        """The plan in which all comes from DRAM, and tiles take at most `reserve` bits of a memory, or half of it."""
        room = {
            task.task: tuple((memory.name, float(min(reserve, memory.kib * 4096))) for memory in self._memories)
            for task in self.tasks
        }
        nothing = tuple(Kept((0.0,) * len(tensor.reads), 0.0) for tensor in self.tensors)
        return StepPlan(self.step.chip, self.book, self._shares(nothing), room)

    @cached_property
    def _homes(self) -> tuple[Memory, ...]:
        homes = []
        for tensor in self.tensors:
            memory = self.step.chip.home(tensor.tensor)
            assert memory is not None, "the chip was checked before"
            homes.append(memory)
        return tuple(homes)

    @cached_property
    def _times(self) -> dict[TaskId, int]:
        return {task.task: task.times for task in self.tasks}

    def _runs(self, task: TaskId) -> int:
        """How often a task runs in a step."""
        one = len(self.step.micro_batch_sizes) if task[0] in _REPEATED else 1
        return self._times.get(task, one)

    @cached_property
    def _operand_bits(self) -> dict[tuple[TaskId, str], int]:
        """Bits of all operands of one kind that a task reads."""
        bits = defaultdict[tuple[TaskId, str], int](int)
        for tensor in self.tensors:
            for use in tensor.reads:
                if use.is_operand:
                    bits[use.task, tensor.tensor] += tensor.bits
        return bits

    def _read_pj(self, number: int, use: Use, found: Measured) -> float:
        """What a read of a whole tensor costs more per step if it is not there."""
        tensor = self.tensors[number]
        if use.is_operand:
            share = tensor.bits / max(1, self._operand_bits[use.task, tensor.tensor])
            return found.absent_pj.get((use.task, tensor.tensor), 0.0) * share * self._runs(use.task)
        per_bit = self.book.fetch_pj_per_bit(self._homes[number], tensor.tensor, "read")
        return per_bit * tensor.bits * self._runs(use.task)

    def _writes_pj(self, number: int) -> float:
        """What the writes of a whole tensor cost more per step if it goes to DRAM."""
        tensor = self.tensors[number]
        if tensor.from_dram:
            return 0.0
        per_bit = self.book.fetch_pj_per_bit(self._homes[number], tensor.tensor, "write")
        return per_bit * tensor.bits * sum(map(self._runs, tensor.writes))

    @cached_property
    def _ways(self) -> tuple[tuple[int, int], ...]:
        """All ways to keep a tensor: its number, and how many of its reads find it there."""
        ways = []
        for number, tensor in enumerate(self.tensors):
            if tensor.bits:
                reads = len(tensor.reads)
                ways += [(number, reads)] if tensor.persistent else [(number, read) for read in range(1, reads + 1)]
        return tuple(ways)

    @cached_property
    def _open(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The moments at which each way takes room, with copies."""
        always = tuple((moment, 1) for moment in range(len(self.moments.tasks)))
        found = []
        for number, reads in self._ways:
            tensor = self.tensors[number]
            found.append(always if tensor.persistent else tuple(self.moments.room(tensor, reads).items()))
        return tuple(found)

    def choices(self, found: Measured) -> list[Choice]:
        """All ways to keep tensors, with what each saves per step."""
        choices = []
        for (number, reads), moments in zip(self._ways, self._open, strict=True):
            tensor = self.tensors[number]
            gain = sum(self._read_pj(number, use, found) for use in tensor.reads[:reads])
            if reads == len(tensor.reads):
                gain += self._writes_pj(number)
            memory = f"{tensor.core}:{self._homes[number].name}"
            choices.append(Choice(number, memory, float(tensor.bits), gain, moments))
        return choices

    @cached_property
    def _places(self) -> tuple[tuple[int, Memory], ...]:
        """The memories of all cores that hold anything."""
        cores = sorted({tensor.core for tensor in self.tensors} | {task.core for task in self.tasks})
        return tuple((core, memory) for core in cores for memory in self._memories)

    @cached_property
    def _memories(self) -> tuple[Memory, ...]:
        return tuple(memory for memory in self.step.chip.memories if memory.writable)

    @cached_property
    def _groups(self) -> dict[tuple[int, str], list[tuple[ProductTask, int]]]:
        """The tasks with products of each array, with their moments."""
        groups: dict[tuple[int, str], list[tuple[ProductTask, int]]] = {}
        for task in self.tasks:
            groups.setdefault((task.core, task.array), []).append((task, self.moments.of_task[task.task]))
        return groups

    @cached_property
    def _together(self) -> npt.NDArray[np.bool_]:
        """Which moments may be at the same time, each with itself."""
        number = len(self.moments.tasks)
        together = np.eye(number, dtype=bool)
        for moment in range(number):
            together[moment, list(self.moments.concurrent(moment))] = True
        return together

    def _tile_room(self, core: int, memory: Memory, found: Measured) -> _Bits:
        """Bits that tiles take of a memory at every moment: of all arrays that may be at work then."""
        total = np.zeros(len(self.moments.tasks))
        for (own, _), tasks in self._groups.items():
            if own == core:
                room = np.zeros(len(total))
                for task, moment in tasks:
                    room[moment] = max(room[moment], found.room.get((task.task, memory.name), 0.0))
                total += np.where(self._together, room[None, :], 0.0).max(axis=1)
        return total

    def capacity(self, found: Measured) -> dict[str, list[float]]:
        """Bits that tiles leave free, by memory and moment."""
        return {
            f"{core}:{memory.name}": np.maximum(memory.kib * 8192 - self._tile_room(core, memory, found), 0.0).tolist()
            for core, memory in self._places
        }

    def kept(self, shares: Sequence[float]) -> tuple[Kept, ...]:
        """What is on the chip at each read, from the share of each way."""
        reads = [[0.0] * len(tensor.reads) for tensor in self.tensors]
        written = [0.0] * len(self.tensors)
        for (number, until), share in zip(self._ways, shares, strict=True):
            for read in range(until):
                reads[number][read] += share
            if until == len(reads[number]):
                written[number] = share
        return tuple(Kept(tuple(there), whole) for there, whole in zip(reads, written, strict=True))

    def plan(self, shares: Sequence[float], found: Measured, grown: bool) -> StepPlan:
        """The plan that keeps these shares. Room for tiles is what they took, and where `grown` what is left free."""
        room = self._grown_room(shares, found) if grown else self._taken_room(found)
        return StepPlan(self.step.chip, self.book, self._shares(self.kept(shares)), room)

    def keeps_all(self, shares: Sequence[float]) -> bool:
        """Whether all tensors stay to the end."""
        return all(there.written == 1 for there, tensor in zip(self.kept(shares), self.tensors, strict=True))

    def _taken_room(self, found: Measured) -> dict[TaskId, tuple[tuple[str, float], ...]]:
        return {
            task.task: tuple(
                (memory.name, found.room.get((task.task, memory.name), 0.0))
                for memory in self._memories
            )
            for task in self.tasks
        }

    def _shares(self, kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
        """Means over the tensors of a kind that a task uses alike."""
        sums: dict[tuple[int, TaskId], tuple[_Means, _Means, _Means]] = {}
        for tensor, there in zip(self.tensors, kept, strict=True):
            for use, share in zip(tensor.reads, there.reads, strict=True):
                operands, reads, _ = sums.setdefault((tensor.core, use.task), (_Means(), _Means(), _Means()))
                (operands if use.is_operand else reads).add(tensor.tensor, tensor.bits, share)
            for task in tensor.writes:
                written = 1.0 if tensor.from_dram else there.written
                sums.setdefault((tensor.core, task), (_Means(), _Means(), _Means()))[2].add(
                    tensor.tensor, tensor.bits, written
                )
        return {key: TaskShares(*(means.found() for means in three)) for key, three in sums.items()}

    def _grown_room(self, shares: Sequence[float], found: Measured) -> dict[TaskId, tuple[tuple[str, float], ...]]:
        """Bits for tiles, by task and memory: what they took, and what is free whatever else runs at the time."""
        live = {f"{core}:{memory.name}": np.zeros(len(self.moments.tasks)) for core, memory in self._places}
        for (number, _), moments, share in zip(self._ways, self._open, shares, strict=True):
            if share:
                tensor, at = self.tensors[number], np.array(moments)
                live[f"{tensor.core}:{self._homes[number].name}"][at[:, 0]] += at[:, 1] * (tensor.bits * share)
        room: dict[TaskId, list[tuple[str, float]]] = {task.task: [] for task in self.tasks}
        for core, memory in self._places:
            taken = self._tile_room(core, memory, found) + live[f"{core}:{memory.name}"]
            for task, bits in self._grown(core, memory, memory.kib * 8192 - taken, found):
                room[task].append((memory.name, bits))
        return {task: tuple(limits) for task, limits in room.items()}

    def _grown(
        self, core: int, memory: Memory, free: _Bits, found: Measured
    ) -> Iterator[tuple[TaskId, float]]:  # fmt: skip
        """The room of each task of a core, with its part of what is free at all moments that it may be at."""
        groups = [tasks for (own, _), tasks in self._groups.items() if own == core]
        least = np.where(self._together, np.maximum(free, 0.0)[None, :], np.inf).min(axis=1)
        alone = self._together.sum(axis=1) == 1
        for task, moment in (pair for tasks in groups for pair in tasks):
            more = least[moment] / (1 if alone[moment] else len(groups))
            yield task.task, found.room.get((task.task, memory.name), 0.0) + more

    def others_pj(self, shares: Sequence[float], found: Measured) -> float:
        """What reads other than of operands, and writes, cost more per step for what is not there."""
        total = 0.0
        for number, (tensor, there) in enumerate(zip(self.tensors, self.kept(shares), strict=True)):
            for use, share in zip(tensor.reads, there.reads, strict=True):
                if not use.is_operand and share < 1:
                    total += (1 - share) * self._read_pj(number, use, found)
            if there.written < 1:
                total += (1 - there.written) * self._writes_pj(number)
        return total


class _Means:
    """Means of shares by kind, weighted by bits."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, kind: str, bits: int, share: float) -> None:
        """Add a tensor."""
        total, kept = self._sums.get(kind, (0.0, 0.0))
        self._sums[kind] = total + bits, kept + bits * share

    def found(self) -> Mapping[str, float]:
        """The means; 1 exactly where all is there."""
        return {kind: kept / total if kept < total else 1.0 for kind, (total, kept) in self._sums.items() if total}
