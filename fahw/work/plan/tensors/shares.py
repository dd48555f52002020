"""Which share of what a task uses is on the chip, from what is kept of each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fahw.work.counts.record import TaskId
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.tensors.lives import KeptTensor


class Kept(NamedTuple):
    """The share of a tensor, 0 to 1, that is in its innermost home at each of its reads, and that stays there to the
    end; likewise in its outer home, to which it is written at first. The rest is written to DRAM."""

    reads: tuple[float, ...]
    written: float
    outer_reads: tuple[float, ...] = ()
    outer_written: float = 0.0

    @property
    def anywhere(self) -> Kept:
        """The shares that are in either home."""
        if not self.outer_reads:
            return self
        reads = tuple(map(sum, zip(self.reads, self.outer_reads, strict=True)))
        return Kept(reads, self.written + self.outer_written)

    def not_sent(self, from_dram: bool) -> tuple[Kept, Kept]:
        """What reads find in the innermost home, and anywhere on the chip; with the share that is not sent on when it
        is written, and that is not sent to DRAM. The first is below 0 where some is sent to both other places."""
        anywhere = self.anywhere
        whole = 1.0 if from_dram else anywhere.written
        first = self.outer_reads[0] if self.outer_reads else 0.0
        return Kept(self.reads, whole - first), Kept(anywhere.reads, whole)


def kept_by_ways(
    tensors: Sequence[KeptTensor], ways: Iterable[tuple[int, int, int]], shares: Iterable[float],
    two_homes: Sequence[bool],
) -> tuple[Kept, ...]:  # fmt: skip
    """What is kept of each tensor, from the share of each way: the number of a tensor, how many of its reads find it
    there, and the level of the home. `two_homes`: of which tensors there are."""
    levels = [([0.0] * len(tensor.reads), [0.0] * len(tensor.reads)) for tensor in tensors]
    written = [[0.0, 0.0] for _ in tensors]
    for (number, until, level), share in zip(ways, shares, strict=True):
        if not share:
            continue
        reads = levels[number][level]
        for read in range(until):
            reads[read] += share
        if until == len(reads):
            written[number][level] = share
    return tuple(
        Kept(tuple(inner), whole[0], tuple(outer), whole[1]) if both else Kept(tuple(inner), whole[0])
        for (inner, outer), whole, both in zip(levels, written, two_homes, strict=True)
    )


def task_shares(tensors: Sequence[KeptTensor], kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
    """Means over the tensors of a kind that a task uses alike."""
    both = [there.not_sent(tensor.from_dram) for tensor, there in zip(tensors, kept, strict=True)]
    found = _task_means(tensors, [inner for inner, _ in both])
    if not any(there.outer_reads for there in kept):
        return found
    anywhere = _task_means(tensors, [on_chip for _, on_chip in both])
    return {key: replace(shares, anywhere=anywhere[key]) for key, shares in found.items()}


def _task_means(tensors: Sequence[KeptTensor], kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
    sums: dict[tuple[int, TaskId], tuple[_Sums, _Sums, _Sums]] = {}
    for tensor, there in zip(tensors, kept, strict=True):
        for use, share in zip(tensor.reads, there.reads, strict=True):
            place = _OPERANDS if use.is_operand else _READS
            _add(_of_task(sums, tensor, use.task)[place], tensor, share)
        for task in tensor.writes:
            _add(_of_task(sums, tensor, task)[_WRITES], tensor, there.written)
    return {
        key: TaskShares(_means(operands), _means(reads), _means(writes))
        for key, (operands, reads, writes) in sums.items()
    }


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
