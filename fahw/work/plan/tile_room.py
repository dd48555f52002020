"""Room that tiles take of memories, moment by moment, and what of a memory is left for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.work.counts.record import TaskId
from fahw.work.plan.fused.error import Bits, FusedError
from fahw.work.plan.measured import ProductTask
from fahw.work.plan.moments import Moments

LEAST_RESERVE = 8 * 8192
"""Bits of the smallest reserve for tiles in a memory; each other one is four times as large."""
_SMALL_KIB, _LEAST_OF_SMALL = 64, 512
"""KiB of the largest memory of a chip up to which smaller reserves are tried, too, and bits of the smallest then."""
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


def has_small_memories(chip: Chip) -> bool:
    """Whether no memory of the chip is large, so that tiles are often as large as tensors."""
    return max(memory.kib for memory in chip.memories) <= _SMALL_KIB


def reserves(chip: Chip, with_small: bool) -> list[int]:
    """Bits that tiles may take of a memory: absolute numbers, so that a larger memory has all choices of a smaller; and
    half of that of activations where two arrays at once may fill it."""
    largest = _largest(chip)
    found, reserve, shared = {largest}, _LEAST_OF_SMALL if with_small else LEAST_RESERVE, chip.home("activation")
    while reserve < largest:
        found.add(reserve)
        reserve *= 4
    if len(chip.arrays) > 1 and shared is not None:
        found.add(int(shared.kib * 4096))
    return sorted(found)


def every_room(chip: Chip) -> list[int]:
    """All powers of two up to the largest memory, in bits."""
    return [1 << power for power in range(_largest(chip).bit_length() + 1)]


def _largest(chip: Chip) -> int:
    return max(int(memory.kib * 8192) for memory in chip.memories)
