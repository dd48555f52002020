"""What it costs more if a tensor is not on the chip when tasks read or write it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fahw.work.counts.record import TaskId
from fahw.work.plan.measured import Measured, ProductTask
from fahw.work.plan.others import OtherKey
from fahw.work.plan.tensors.lives import KeptTensor, Use

_REPEATED = ("forward", "recompute", "error", "gradient")
"""Phases that run for every micro-batch."""


@dataclass(frozen=True)
class AccessPrices:
    """Prices of the reads and writes of a step's tensors. `away_pj`: what accesses other than to operands cost more per
    step if nothing of what they are to is on the chip."""

    tensors: tuple[KeptTensor, ...]
    tasks: tuple[ProductTask, ...]
    away_pj: Mapping[OtherKey, float]
    micro_batches: int

    def runs(self, task: TaskId) -> int:
        """How often a task runs in a step."""
        one = self.micro_batches if task[0] in _REPEATED else 1
        return self._times.get(task, one)

    @cached_property
    def _times(self) -> dict[TaskId, int]:
        return {task.task: task.times for task in self.tasks}

    @cached_property
    def _operand_bits(self) -> dict[tuple[TaskId, str], int]:
        """Bits of all operands of one kind that a task reads."""
        bits = defaultdict[tuple[TaskId, str], int](int)
        for tensor in self.tensors:
            for use in tensor.reads:
                if use.is_operand:
                    bits[use.task, tensor.tensor] += tensor.bits
        return bits

    @cached_property
    def _other_bits(self) -> dict[OtherKey, int]:
        """Bits of all tensors of one kind on a core that a task reads beside operands, or writes."""
        bits = defaultdict[OtherKey, int](int)
        for tensor in self.tensors:
            for use in tensor.reads:
                if not use.is_operand:
                    bits[tensor.core, use.task, "read", tensor.tensor] += tensor.bits
            for task in tensor.writes:
                bits[tensor.core, task, "write", tensor.tensor] += tensor.bits
        return bits

    def read_pj(self, tensor: KeptTensor, use: Use, found: Measured) -> float:
        """What a read of a whole tensor costs more per step if it is not there."""
        if use.is_operand:
            share = tensor.bits / max(1, self._operand_bits[use.task, tensor.tensor])
            return found.absent_pj.get((use.task, tensor.tensor), 0.0) * share * self.runs(use.task)
        return self._other_pj(tensor, use.task, "read")

    def writes_pj(self, tensor: KeptTensor) -> float:
        """What the writes of a whole tensor cost more per step if it goes to DRAM."""
        return 0.0 if tensor.from_dram else sum(self._other_pj(tensor, task, "write") for task in tensor.writes)

    def _other_pj(self, tensor: KeptTensor, task: TaskId, action: str) -> float:
        """A tensor's part of what a task's accesses to its kind cost more."""
        key = tensor.core, task, action, tensor.tensor
        return self.away_pj.get(key, 0.0) * tensor.bits / max(1, self._other_bits[key])
