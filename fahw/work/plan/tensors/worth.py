"""What it costs if tensors are not in their innermost homes where tasks use them, and what it saves to keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fahw.hardware.memory import Memory
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.others import Away, OtherKey
from fahw.work.plan.tensors.lives import KeptTensor, Use, operand_bits, other_bits
from fahw.work.plan.tensors.shares import Kept

_REPEATED = ("forward", "recompute", "error", "gradient")
"""Phases that run for every micro-batch."""


class Way(NamedTuple):
    """A way to keep a tensor: its number, how many of its reads find it there, and the level of the home that it lies
    in, the innermost first."""

    tensor: int
    reads: int
    level: int


def ways_to_keep(tensors: Sequence[KeptTensor], homes: Sequence[Sequence[Memory]]) -> Iterator[Way]:
    """Yield all ways to keep each tensor in each of its homes."""
    for number, tensor in enumerate(tensors):
        reads = len(tensor.reads)
        for level in range(len(homes[number])) if tensor.bits else ():
            for read in range(reads if tensor.persistent else 1, reads + 1):
                yield Way(number, read, level)


class Saved(NamedTuple):
    """What it saves to keep a tensor, in pJ: at `first`, by each of its reads, and if it stays to the `last`."""

    first: float
    reads: Sequence[float]
    last: float

    def until(self, reads: int) -> float:
        """What it saves that so many reads find it."""
        saved = sum(self.reads[:reads]) + (self.last if reads == len(self.reads) else 0.0)
        return saved + self.first if self.first else saved


@dataclass(frozen=True)
class Worth:
    """The costs of a step's tensors: see `Keeping` for what they are made of."""

    step: StepContext
    tensors: tuple[KeptTensor, ...]
    tasks: tuple[ProductTask, ...]
    away_pj: Mapping[OtherKey, Away]

    @cached_property
    def _times(self) -> dict[TaskId, int]:
        return {task.task: task.times for task in self.tasks}

    def runs(self, task: TaskId) -> int:
        """How often a task runs in a step."""
        one = len(self.step.micro_batch_sizes) if task[0] in _REPEATED else 1
        return self._times.get(task, one)

    @cached_property
    def _operand_bits(self) -> Mapping[tuple[TaskId, str], int]:
        return operand_bits(self.tensors)

    @cached_property
    def _other_bits(self) -> Mapping[OtherKey, int]:
        return other_bits(self.tensors)

    @cached_property
    def _operands(self) -> dict[tuple[int, TaskId], tuple[tuple[TaskId, str], float, int]]:
        """By tensor and task that reads it as an operand: the costs that it has a part of, what part, how often."""
        return {
            (number, use.task): (
                (use.task, tensor.tensor), tensor.bits / max(1, self._operand_bits[use.task, tensor.tensor]),
                self.runs(use.task),
            )
            for number, tensor in enumerate(self.tensors)
            for use in tensor.reads
            if use.is_operand
        }  # fmt: skip

    def read_pj(self, number: int, use: Use, found: Measured, in_outer: bool = False) -> float:
        """What a read of a whole tensor costs more per step if it is not there; or in its outer home."""
        if use.is_operand:
            key, share, runs = self._operands[number, use.task]
            return (found.outer_pj if in_outer else found.absent_pj).get(key, 0.0) * share * runs
        return self._other_pj(number, use.task, "read", in_outer)

    def writes_pj(self, number: int, in_outer: bool = False) -> float:
        """What the writes of a whole tensor cost more per step if it goes to DRAM, or to its outer home."""
        tensor = self.tensors[number]
        if tensor.from_dram and not in_outer:
            return 0.0
        return sum(self._other_pj(number, task, "write", in_outer) for task in tensor.writes)

    @cached_property
    def _others(self) -> dict[tuple[int, TaskId, str, bool], float]:
        """Costs of accesses other than to operands, which are the same whatever is kept."""
        return {}

    def _other_pj(self, number: int, task: TaskId, action: str, in_outer: bool = False) -> float:
        """A tensor's part of what a task's accesses to its kind cost more."""
        place = number, task, action, in_outer
        if place not in self._others:
            tensor = self.tensors[number]
            key = tensor.core, task, action, tensor.tensor
            away = self.away_pj.get(key, Away())
            total = (away.outer if in_outer else away.dram) * tensor.bits
            self._others[place] = total / max(1, self._other_bits[key])
        return self._others[place]

    def saved(self, number: int, found: Measured, in_outer: bool) -> Saved:
        """What it saves per step to keep a tensor. What lies in an outer home is written there, and read from there."""
        tensor = self.tensors[number]
        reads = [self.read_pj(number, use, found) for use in tensor.reads]
        if not in_outer:
            return Saved(0.0, reads, self.writes_pj(number))
        less = [self.read_pj(number, use, found, True) for use in tensor.reads]
        pairs = zip(reads, less, strict=True)
        return Saved(-self.writes_pj(number, True), [read - moved for read, moved in pairs], self.writes_pj(number))

    def others_pj(self, kept: Sequence[Kept], found: Measured) -> float:
        """What reads other than of operands, and writes, cost more per step for what is not in its innermost home."""
        total = 0.0
        for number, (tensor, there) in enumerate(zip(self.tensors, kept, strict=True)):
            anywhere = there.anywhere
            for use, share in zip(tensor.reads, anywhere.reads, strict=True):
                if not use.is_operand and share < 1:
                    total += (1 - share) * self.read_pj(number, use, found)
            if anywhere.written < 1:
                total += (1 - anywhere.written) * self.writes_pj(number)
            if there.outer_reads:
                total += self._outer_pj(number, there, found)
        return total

    def _outer_pj(self, number: int, there: Kept, found: Measured) -> float:
        """What the same cost for what is in an outer home."""
        total = there.outer_reads[0] * self.writes_pj(number, True)
        for use, share in zip(self.tensors[number].reads, there.outer_reads, strict=True):
            if not use.is_operand and share:
                total += share * self.read_pj(number, use, found, True)
        return total
