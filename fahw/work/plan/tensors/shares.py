"""Which share of what a task uses is on the chip, from what is kept of each tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fahw.work.counts.record import TaskId
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.tensors.lives import KeptTensor


@dataclass(frozen=True)
class Kept:
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


def task_shares(tensors: Sequence[KeptTensor], kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
    """Means over the tensors of a kind that a task uses alike."""
    both = [there.not_sent(tensor.from_dram) for tensor, there in zip(tensors, kept, strict=True)]
    found = _means(tensors, [inner for inner, _ in both])
    if not any(there.outer_reads for there in kept):
        return found
    anywhere = _means(tensors, [on_chip for _, on_chip in both])
    return {key: replace(shares, anywhere=anywhere[key]) for key, shares in found.items()}


def _means(tensors: Sequence[KeptTensor], kept: Sequence[Kept]) -> dict[tuple[int, TaskId], TaskShares]:
    sums: dict[tuple[int, TaskId], tuple[_Means, _Means, _Means]] = {}
    for tensor, there in zip(tensors, kept, strict=True):
        for use, share in zip(tensor.reads, there.reads, strict=True):
            operands, reads, _ = sums.setdefault((tensor.core, use.task), (_Means(), _Means(), _Means()))
            (operands if use.is_operand else reads).add(tensor.tensor, tensor.bits, share)
        for task in tensor.writes:
            _, _, writes = sums.setdefault((tensor.core, task), (_Means(), _Means(), _Means()))
            writes.add(tensor.tensor, tensor.bits, there.written)
    return {
        key: TaskShares(operands.found(), reads.found(), writes.found())
        for key, (operands, reads, writes) in sums.items()
    }


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
