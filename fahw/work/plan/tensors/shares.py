"""Which share of what a task uses is on the chip, from what is kept of each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fahw.work.counts.record import TaskId
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.tensors.lives import KeptTensor


@dataclass(frozen=True)
class Kept:
    """The share of a tensor, 0 to 1, that is on the chip at each of its reads, and that is never written to DRAM."""

    reads: tuple[float, ...]
    written: float


def kept_by_ways(
    tensors: Sequence[KeptTensor], ways: Iterable[tuple[int, int]], shares: Iterable[float]
) -> tuple[Kept, ...]:  # fmt: skip
    """What is kept of each tensor, from the share of each way: the number of a tensor, and how many of its reads find
    it there."""
    reads = [[0.0] * len(tensor.reads) for tensor in tensors]
    written = [0.0] * len(tensors)
    for (number, until), share in zip(ways, shares, strict=True):
        for read in range(until if share else 0):
            reads[number][read] += share
        if until == len(reads[number]):
            written[number] = share
    return tuple(Kept(tuple(there), whole) for there, whole in zip(reads, written, strict=True))


def task_shares(tensors: Sequence[KeptTensor], kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
    """Means over the tensors of a kind that a task uses alike."""
    sums: dict[tuple[int, TaskId], tuple[_Sums, _Sums, _Sums]] = {}
    for tensor, there in zip(tensors, kept, strict=True):
        for use, share in zip(tensor.reads, there.reads, strict=True):
            place = _OPERANDS if use.is_operand else _READS
            _add(_of_task(sums, tensor, use.task)[place], tensor, share)
        written = 1.0 if tensor.from_dram else there.written
        for task in tensor.writes:
            _add(_of_task(sums, tensor, task)[_WRITES], tensor, written)
    return {key: TaskShares(*map(_means, three)) for key, three in sums.items()}


_Sums = dict[str, tuple[float, float]]
"""Bits of all tensors of a kind, and of what is kept of them."""
_OPERANDS, _READS, _WRITES = range(3)


def _of_task(
    sums: dict[tuple[int, TaskId], tuple[_Sums, _Sums, _Sums]], tensor: KeptTensor, task: TaskId
) -> tuple[_Sums, _Sums, _Sums]:  # fmt: skip
    """The sums of what a task uses on a tensor's core."""
    key = tensor.core, task
    if key not in sums:
        sums[key] = {}, {}, {}
    return sums[key]


def _add(sums: _Sums, tensor: KeptTensor, share: float) -> None:
    total, kept = sums.get(tensor.tensor, (0.0, 0.0))
    sums[tensor.tensor] = total + tensor.bits, kept + tensor.bits * share


def _means(sums: _Sums) -> Mapping[str, float]:
    """The means, weighted by bits; 1 exactly where all is there."""
    return {kind: kept / total if kept < total else 1.0 for kind, (total, kept) in sums.items() if total}
