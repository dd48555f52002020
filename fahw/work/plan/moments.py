"""When a tensor may take room, whatever the timing: at which tasks, and in how many copies.

A moment is a task of one micro-batch or of the step; what lies there while it runs takes room then. A tensor may be
there unless the task always ends before its writing begins, or all that read it always end before the task begins, in
every micro-batch and step that may be under way. Only dependencies count, never cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

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
    the step: one, unless there are more than `MOST_MOMENTS` tasks. `of_task`: the moment of each task."""

    def __init__(self, instances: Instances, parts: Sequence[str]) -> None:
        """`parts`: what runs each task of the instances."""
        self._instances, self._parts, names = instances, parts, instances.names
        self._index = {name: number for number, name in enumerate(names)}
        self._size = size = -(-len(names) // MOST_MOMENTS)
        self.tasks = tuple(names[start : start + size] for start in range(0, len(names), size))
        self.of_task = {name: number // size for number, name in enumerate(names)}

    def room(self, tensor: KeptTensor, reads: int | None = None) -> dict[int, int]:
        """The moments at which a tensor may be there, with the number of its copies; everywhere, once, where it is
        persistent. `reads`: it is kept until so many of its reads have ended, all where absent."""
        if tensor.persistent:
            return dict.fromkeys(range(len(self.tasks)), 1)
        return self.open(tensor.writes, [use.task for use in tensor.reads[:reads]])

    def open(self, writes: Iterable[TaskId], reads: Iterable[TaskId]) -> dict[int, int]:
        """The moments at which what `writes` write may be there until `reads` have read it, with the number of
        copies."""
        begins = [self._index[name] for name in writes]
        ends = {*begins, *(self._index[name] for name in reads)}
        sets = self._instances.copies(begins, sorted(ends))
        if self._size == 1:
            return _counted([_members(group) for group in sets])
        return _coarse(sets, self._size)

    def concurrent(self, moment: int) -> frozenset[int]:
        """The moments with a task that may run, on another array or core, while one of this moment does."""
        found = set[int]()
        for name in self.tasks[moment]:
            task = self._index[name]
            others = _members(self._instances.meets(task))
            found.update(other // self._size for other in others if self._parts[other] != self._parts[task])
        return frozenset(found)


def open_moments(tasks: Sequence[Task], step: StepContext) -> Moments:
    """The moments of a step of these tasks."""
    ordered, number = sorted_tasks(tasks), len(step.micro_batch_sizes)
    instances = instances_of(ordered, number, window(step), step.chip.steps_in_flight)
    part_of = {task.id: task.part for task in ordered}
    return Moments(instances, [part_of[name] for name in instances.names])


def _members(group: int) -> Iterator[int]:
    """Yield the numbers in a set."""
    while group:
        lowest = group & -group
        yield lowest.bit_length() - 1
        group ^= lowest


def _counted(groups: Iterable[Iterable[int]]) -> dict[int, int]:
    """How many groups have each number, lowest first."""
    counted = Counter(number for group in groups for number in group)
    return {number: counted[number] for number in sorted(counted)}


def _coarse(sets: Sequence[int], size: int) -> dict[int, int]:
    """The most copies during any of `size` tasks that are one moment."""
    found: dict[int, int] = {}
    for task, copies in _counted(map(_members, sets)).items():
        found[task // size] = max(found.get(task // size, 0), copies)
    return found
