"""Which tasks of a step, or of one micro-batch after another, always end before others begin: by dependencies alone.

Sets of tasks are the bits of whole numbers. An instance is a step; where a step has micro-batches it is one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

from fahw.work.counts.record import Task, TaskId

MOST_NODES = 1 << 14
"""Tasks of all instances whose order is looked at; of more, those of one instance alone."""


def sorted_tasks(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """The tasks in their order, save that each follows those of its step that it waits for.

    Raises ValueError where tasks wait for each other.
    """
    listed = tuple(tasks)
    index = {task.id: number for number, task in enumerate(listed)}
    awaited = [len(set(task.after)) for task in listed]
    followers: list[list[int]] = [[] for _ in listed]
    for number, task in enumerate(listed):
        for name in set(task.after):
            followers[index[name]].append(number)
    free = [number for number, others in enumerate(awaited) if not others]
    heapify(free)
    found = []
    while free:
        number = heappop(free)
        found.append(listed[number])
        for other in followers[number]:
            awaited[other] -= 1
            if not awaited[other]:
                heappush(free, other)
    if len(found) < len(listed):
        raise ValueError("tasks wait for each other")
    return tuple(found)


@dataclass(frozen=True)
class Waits:
    """Whom a task of an instance waits for, each with how many instances before its own that one is. `is_rare`: it does
    not run in every step, so that nothing can count on it."""

    others: tuple[tuple[int, int], ...]
    is_rare: bool = False


@dataclass(frozen=True)
class Precedence:
    """The order of the tasks of consecutive instances. `waits`: by task, which follow those of their instance that they
    wait for. `distances`: how many instances may lie between two tasks that are compared, from 0; `stride` is their
    step.

    After `before[i][task]`, a set of tasks of the instance `distances[i]` earlier, a task begins; they have ended then.
    In `after[i][task]` are those of the instance so much later that begin when a task has ended.
    """

    waits: tuple[Waits, ...]
    distances: range

    @property
    def everything(self) -> int:
        """The set of all tasks."""
        return (1 << len(self.waits)) - 1

    @cached_property
    def _nodes(self) -> list[list[int]]:
        """Whom every node waits for; a node is a task in one of the instances."""
        size, stride, nodes = len(self.waits), self.distances.step, list[list[int]]()
        for copy in range(len(self.distances)):
            for waits in self.waits:
                steps = [(number, distance // stride) for number, distance in waits.others if distance % stride == 0]
                nodes.append([(copy - back) * size + number for number, back in steps if back <= copy])
        return nodes

    @cached_property
    def before(self) -> tuple[list[int], ...]:
        """By distance and task, the tasks of an earlier instance that have ended when it begins."""
        size, sets = len(self.waits), list[int]()
        for others in self._nodes:
            found = 0
            for other in others:
                found |= 1 << other if self.waits[other % size].is_rare else sets[other] | 1 << other
            sets.append(found)
        last = len(self.distances) - 1
        return tuple(
            [sets[last * size + task] >> (last - i) * size & self.everything for task in range(size)]
            for i in range(last + 1)
        )

    @cached_property
    def after(self) -> tuple[list[int], ...]:
        """By distance and task, the tasks of a later instance that begin after it has ended."""
        size, sets = len(self.waits), [0] * len(self._nodes)
        for node in range(len(sets) - 1, -1, -1):
            own = 1 << node if self.waits[node % size].is_rare else sets[node] | 1 << node
            for other in self._nodes[node]:
                sets[other] |= own
        return tuple(
            [sets[task] >> i * size & self.everything for task in range(size)] for i in range(len(self.distances))
        )


def of_steps(tasks: Sequence[Task], steps_in_flight: int) -> Precedence:
    """The order of the tasks of consecutive steps, so many of which overlap at most."""
    index = {task.id: number for number, task in enumerate(tasks)}
    waits = tuple(
        Waits(
            (*((index[name], 0) for name in task.after), *((index[name], 1) for name in task.after_previous)),
            task.every > 1,
        )
        for task in tasks
    )
    copies = steps_in_flight if len(tasks) * steps_in_flight <= MOST_NODES else 1
    return Precedence(waits, range(copies))


def of_micro_batches(tasks: Sequence[Task], number: int, window: int) -> tuple[tuple[TaskId, ...], Precedence]:
    """The tasks that every micro-batch has (the ids of the first's), and their order in micro-batches one after the
    other: `number` of them in a step, compared with those `window` before.

    Only what holds for each micro-batch counts; those of different steps are taken to follow each other like those of
    one, which by what updates wait for they do at a greater distance.
    """
    members: dict[TaskId, dict[int, Task]] = {}
    for task in tasks:
        members.setdefault((task.phase, task.layer), {})[task.micro] = task
    names = [name for name, group in members.items() if set(range(number)) <= set(group)]
    index = {name: place for place, name in enumerate(names)}
    waits = tuple(_common_waits([members[name][micro] for micro in range(number)], index, number) for name in names)
    return tuple(names), Precedence(waits, range(0, window + 1, window))


def _common_waits(group: Sequence[Task], index: dict[TaskId, int], number: int) -> Waits:
    """Whom the tasks of one name wait for in every micro-batch of a step, with the distance."""
    common: set[tuple[int, int]] | None = None
    for micro, task in enumerate(group):
        found = {place for name in task.after if (place := _place(name, micro, index, number))}
        found |= {place for name in task.after_previous if (place := _place(name, micro + number, index, number))}
        common = found if common is None else common & found
    return Waits(tuple(sorted(common or ())), any(task.every > 1 for task in group))


def _place(name: TaskId, micro: int, index: dict[TaskId, int], number: int) -> tuple[int, int] | None:
    """A task's number, and how many micro-batches before the one called `micro` it is; None for one of the step."""
    own = micro_of(name)
    return (index[name[:2]], micro - own) if name[:2] in index and own < number else None


def micro_of(name: TaskId) -> int:
    """The number of a task's micro-batch."""
    return name[2] if len(name) == 3 else 0
