"""Room that tiles take of memories, moment by moment, and what of a memory is left for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fahw.hardware.memory import Memory
from fahw.work.counts.record import TaskId
from fahw.work.plan.fused.error import Bits, FusedError
from fahw.work.plan.measured import ProductTask
from fahw.work.plan.moments import Moments

Rooms = Mapping[tuple[TaskId, str], float]
"""Bits of tiles, by task and memory."""


@dataclass(frozen=True)
class TileRoom:
    """The tasks with products of a step, by array, and which of them may be at work together: those that share tiles
    are, with all that may be so with either."""

    moments: Moments
    tasks: tuple[ProductTask, ...]
    errors: tuple[FusedError, ...] = ()

    @cached_property
    def _groups(self) -> dict[tuple[int, str], list[tuple[ProductTask, int]]]:
        """The tasks with products of each array, with their moments."""
        groups: dict[tuple[int, str], list[tuple[ProductTask, int]]] = {}
        for task in self.tasks:
            groups.setdefault((task.core, task.array), []).append((task, self.moments.of_task[task.task]))
        return groups

    @cached_property
    def together(self) -> npt.NDArray[np.bool_]:
        """Which moments may be at the same time, each with itself."""
        number = len(self.moments.tasks)
        together = np.eye(number, dtype=bool)
        for moment in range(number):
            together[moment, list(self.moments.concurrent(moment))] = True
        arrays = {task.task: task.array for task in self.tasks}
        for error in self.errors:
            if len({arrays[task] for task in error.tasks}) > 1:
                both = [self.moments.of_task[task] for task in error.tasks]
                meeting = np.logical_or.reduce(together[both])
                together[both] |= meeting
                together[:, both] |= meeting[:, None]
        return together

    def taken(self, core: int, memory: Memory, rooms: Rooms) -> Bits:
        """Bits that tiles take of a memory at every moment: of all arrays that may be at work then."""
        total = np.zeros(len(self.moments.tasks))
        for (own, _), tasks in self._groups.items():
            if own == core:
                room = np.zeros(len(total))
                for task, moment in tasks:
                    bits = rooms.get((task.task, memory.name), 0.0)
                    if bits > room[moment]:
                        room[moment] = bits
                if room.any():
                    total += np.where(self.together, room[None, :], 0.0).max(axis=1)
        return total

    def grown(
        self, core: int, memory: Memory, free: Bits, rooms: Rooms
    ) -> Iterator[tuple[TaskId, float]]:  # fmt: skip
        """The room of each task of a core, with its part of what is free at all moments that it may be at."""
        groups = [tasks for (own, _), tasks in self._groups.items() if own == core]
        least = np.where(self.together, np.maximum(free, 0.0)[None, :], np.inf).min(axis=1)
        alone = self.together.sum(axis=1) == 1
        for task, moment in (pair for tasks in groups for pair in tasks):
            more = least[moment] / (1 if alone[moment] else len(groups))
            yield task.task, rooms.get((task.task, memory.name), 0.0) + more
