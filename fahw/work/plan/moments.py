"""When a tensor may take room, whatever the timing: at which tasks, and in how many copies.

A moment is a task of one micro-batch or of the step; what lies there while it runs takes room then. A tensor may be
there unless the task always ends before its writing begins, or all that read it always end before the task begins, in
every micro-batch and step that may be under way. Only dependencies count, never cycles.

Updates and transports without a product are no moments: they have no tiles, and write only what lies there for ever.
What is there while only such tasks run was there when the last other task ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fahw.work.context import StepContext
from fahw.work.counts.record import Task, TaskId
from fahw.work.plan.order.instances import Instances, instances_of
from fahw.work.plan.order.precedence import sorted_tasks
from fahw.work.plan.order.short_lives import window
from fahw.work.plan.tensors.lives import KeptTensor

MOST_MOMENTS = 512
"""Of more tasks several that follow each other are one moment: what may be there at one of them counts at it."""


class Moments:
    """The moments of a step, known by number. `tasks`: by moment, the ids of its tasks, of the first micro-batch or of
    the step: one, unless there are more than `MOST_MOMENTS`. `of_task`: the moment of each."""

    def __init__(self, instances: Instances, tasks: Sequence[Task]) -> None:
        """`tasks`: those of the instances' names."""
        self._instances, self._index = instances, {task.id: number for number, task in enumerate(tasks)}
        binding = [task.id for task in tasks if task.phase not in ("update", "transport") or task.macs]
        size = -(-len(binding) // MOST_MOMENTS)
        self.tasks = tuple(tuple(binding[start : start + size]) for start in range(0, len(binding), size))
        self.of_task = {name: number for number, group in enumerate(self.tasks) for name in group}
        self._binding = np.array([self._index[name] for name in binding])
        self._starts, self._bytes = np.arange(0, len(binding), size), len(tasks) // 8 + 1
        self._on_part: dict[str, int] = {}
        for number, task in enumerate(tasks):
            self._on_part[task.part] = self._on_part.get(task.part, 0) | 1 << number
        self._part = {task.id: task.part for task in tasks}
        self._found: dict[object, dict[int, int]] = {}

    def room(self, tensor: KeptTensor, reads: int | None = None) -> dict[int, int]:
        """The moments at which a tensor may be there, with the number of its copies; all, once, where it is persistent.
        `reads`: it is kept until so many of its reads have ended, all where absent."""
        if tensor.persistent:
            return dict.fromkeys(range(len(self.tasks)), 1)
        return self.between(tensor.writes, [use.task for use in tensor.reads[:reads]])

    def between(self, writes: Iterable[TaskId], reads: Iterable[TaskId]) -> dict[int, int]:
        """The moments at which what `writes` write may be there until `reads` have read it, with the number of
        copies."""
        key = tuple(writes), tuple(reads)
        if key not in self._found:
            self._found[key] = self._between(*key)
        return self._found[key]

    def _between(self, writes: tuple[TaskId, ...], reads: tuple[TaskId, ...]) -> dict[int, int]:
        begins = {self._index[name] for name in writes}
        writing, using = sorted(begins), sorted(begins.union(self._index[name] for name in reads))
        most = self._instances.most(writing, using)
        found: dict[int, int] = {}
        for group in self._instances.copies(writing, using):
            for moment in self._moments(group):
                found[moment] = min(most, found.get(moment, 0) + 1)
        return found

    def concurrent(self, moment: int) -> frozenset[int]:
        """The moments with a task that may run, on another array or core, while one of this moment does."""
        found = 0
        for name in self.tasks[moment]:
            found |= self._instances.meets(self._index[name]) & ~self._on_part[self._part[name]]
        return frozenset(self._moments(found))

    def _moments(self, group: int) -> list[int]:
        """The moments with a task of a set."""
        packed = np.frombuffer(group.to_bytes(self._bytes, "little"), np.uint8)
        members = np.unpackbits(packed, bitorder="little")[self._binding]
        return np.flatnonzero(np.bitwise_or.reduceat(members, self._starts)).tolist()


def open_moments(tasks: Sequence[Task], step: StepContext) -> Moments:
    """The moments of a step of these tasks."""
    ordered, number = sorted_tasks(tasks), len(step.micro_batch_sizes)
    instances = instances_of(ordered, number, window(step), step.chip.steps_in_flight)
    by_name = {task.id: task for task in ordered}
    return Moments(instances, [by_name[name] for name in instances.names])
