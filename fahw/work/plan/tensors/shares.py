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
    sums: dict[tuple[int, TaskId], tuple[_Means, _Means, _Means]] = {}
    for tensor, there in zip(tensors, kept, strict=True):
        for use, share in zip(tensor.reads, there.reads, strict=True):
            operands, reads, _ = sums.setdefault((tensor.core, use.task), (_Means(), _Means(), _Means()))
            (operands if use.is_operand else reads).add(tensor.tensor, tensor.bits, share)
        for task in tensor.writes:
            written = 1.0 if tensor.from_dram else there.written
            sums.setdefault((tensor.core, task), (_Means(), _Means(), _Means()))[2].add(
                tensor.tensor, tensor.bits, written
            )
    return {key: TaskShares(*(means.found() for means in three)) for key, three in sums.items()}


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
