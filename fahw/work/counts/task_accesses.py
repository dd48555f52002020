"""Accesses of one task: which share of each tensor is in its memory then, as the plan of a step says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.work.counts.accesses import SHARE_PARTS, Accesses


@dataclass(frozen=True)
class TaskShares:
    """Shares of tensors, by kind, that are on the chip when a task uses them: read as operands of its product, read
    otherwise, and written. A kind that is not named is there wholly."""

    operands: Mapping[str, float] = field(default_factory=dict)
    reads: Mapping[str, float] = field(default_factory=dict)
    writes: Mapping[str, float] = field(default_factory=dict)
    anywhere: TaskShares | None = None
    """Where kinds have two homes, the shares in either; absent, they are those in the innermost."""


class TaskAccesses(Accesses):
    """Reads and writes of one task on a core."""

    def __init__(self, chip: Chip, prefix: str, shares: TaskShares, is_operand: bool = False) -> None:
        super().__init__(chip, (), prefix)
        self._shares, self._is_operand = shares, is_operand

    @cached_property
    def of_operands(self) -> Accesses:
        """Accesses to the operands of the task's product."""
        return TaskAccesses(self._chip, self._prefix, self._shares, True)

    def _share(self, shares: TaskShares, action: str, tensor: str) -> float:
        by_kind = shares.writes if action == "write" else shares.operands if self._is_operand else shares.reads
        return by_kind.get(tensor, 1.0)

    def overflow_share(self, tensor: str) -> float:
        """The share of `tensor`, 0 to 1, that is not in its innermost home when it is read."""
        return 1 - self._share(self._shares, "read", tensor)

    def _outside(self, action: str, memory: Memory, stored: str) -> Sequence[tuple[Memory | None, int, int]]:
        if not memory.writable:
            return ()
        outside = round((1 - self._share(self._shares, action, stored)) * SHARE_PARTS)
        if not outside:
            return ()
        outer, anywhere = self._outer_home(stored), self._shares.anywhere
        if outer is None or anywhere is None:
            return [(None, outside, SHARE_PARTS)]
        away = min(outside, round((1 - self._share(anywhere, action, stored)) * SHARE_PARTS))
        parts: list[tuple[Memory | None, int]] = [(outer, outside - away), (None, away)]
        return [(place, part, SHARE_PARTS) for place, part in parts if part]
