"""An error at a layer's output that two tasks share tile by tile, in sub-batches of some samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fahw.work.counts.record import TaskId
from fahw.work.plan.moments import Moments

Bits = npt.NDArray[np.float64]
"""Bits at every moment."""


@dataclass(frozen=True)
class FusedError:
    """An error, by the number of its tensor, and the tasks that share its tiles on a core: its error task, which reads
    it, or makes it where `is_made`, and the gradient task that reads it. `samples`: of a sub-batch. `room`: bits of the
    tiles, and of the sums that one sub-batch leaves for the next, by memory and kind of tensor."""

    number: int
    core: int
    tasks: tuple[TaskId, TaskId]
    is_made: bool
    samples: int
    room: tuple[tuple[str, str, float], ...]


def tiles_room(errors: Iterable[FusedError], moments: Moments) -> dict[tuple[int, str, str], Bits]:
    """Bits at every moment of what tasks hand on in tiles, by core, memory and kind of tensor."""
    room: dict[tuple[int, str, str], Bits] = {}
    for error in errors:
        at = np.array(list(moments.between(error.tasks, error.tasks).items()))
        for memory, kind, bits in error.room:
            there = room.setdefault((error.core, memory, kind), np.zeros(len(moments.tasks)))
            there[at[:, 0]] += at[:, 1] * bits
    return room
