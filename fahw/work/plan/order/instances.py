"""Instances of a step, or of its micro-batches, that are under way together: which of their tasks may meet.

Sets of tasks are the bits of whole numbers. A tensor's copies are told apart by their number modulo the most that there
can be: of those with the same remainder one has gone before the next is begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from typing import Protocol

from fahw.work.counts.record import Task, TaskId
from fahw.work.plan.order.precedence import Precedence, micro_of, of_micro_batches, of_steps


class Instances(Protocol):
    """What is known of the order of tasks."""

    @property
    def names(self) -> tuple[TaskId, ...]:
        """The tasks, each by the number of its bit."""

    def copies(self, writes: Sequence[int], ends: Sequence[int]) -> list[int]:
        """The tasks during which each copy of a tensor may be there: from the first of `writes` to the last of
        `ends`."""

    def most(self, writes: Sequence[int], ends: Sequence[int]) -> int:
        """The most copies of a tensor that can be there at a time."""

    def meets(self, task: int) -> int:
        """The tasks that may run while this one runs, of whatever instance."""


@dataclass(frozen=True)
class Steps:
    """Whole steps, `window` of which overlap at most: a step begins when the one so many before it has ended."""

    names: tuple[TaskId, ...]
    order: Precedence
    window: int

    def copies(self, writes: Sequence[int], ends: Sequence[int]) -> list[int]:
        """A set per step in flight: that of the task, and each of the others, earlier by some steps or later by the
        rest."""
        order, found = self.order, [_open(self.order, 0, writes, ends)]
        for earlier in range(1, self.window):
            if len(order.distances) < self.window:
                found.append(order.everything)  # too many tasks to look at several steps
            else:
                is_left = order.everything & ~_all(order.after[earlier], ends)
                found.append(is_left | order.everything & ~_all(order.before[self.window - earlier], writes))
        return found

    def most(self, writes: Sequence[int], ends: Sequence[int]) -> int:
        """As many copies as there are steps of which the last need not wait until the first has gone."""
        used, number = sum(1 << task for task in {*ends, *writes}), self.window
        while 1 < number <= len(self.order.distances) and not used & ~_all(self.order.before[number - 1], writes):
            number -= 1
        return number

    def meets(self, task: int) -> int:
        """The tasks of the steps in flight that neither precede nor follow this one."""
        order = self.order
        if len(order.distances) < self.window:
            return order.everything
        found = order.everything & ~(order.before[0][task] | order.after[0][task])
        for apart in range(1, self.window):
            found |= order.everything & ~(order.before[apart][task] & order.after[apart][task])
        return found


@dataclass(frozen=True)
class Batches:
    """Micro-batches one after the other, `number` in a step, of which `steps` overlap at most. Where tasks follow those
    of the micro-batch `window` before, there are at most so many copies of what they write. `order` knows the first
    of the names, those of each micro-batch; `later` and `sooner`: of these, the tasks of the whole step that begin
    after all micro-batches of it, and that have ended before all those of the next."""

    names: tuple[TaskId, ...]
    order: Precedence
    window: int
    in_flight: int
    later: tuple[int, ...]
    sooner: tuple[int, ...]

    @cached_property
    def everything(self) -> int:
        """The set of all tasks."""
        return (1 << len(self.names)) - 1

    def copies(self, writes: Sequence[int], ends: Sequence[int]) -> list[int]:
        """A set per micro-batch in flight: that of the task, or those `window` earlier and later; and one for each
        other, of which no order is known."""
        if not self._are_ordered(writes, ends):
            return [self.everything] * self.in_flight
        order, once = self.order, self.everything & ~self.order.everything
        once &= ~(_all(self.later, ends) & _all(self.sooner, writes))
        near = _open(order, 0, writes, ends)
        near |= order.everything & ~(_all(order.after[1], ends) & _all(order.before[1], writes))
        return [near | once, *[order.everything | once] * (self.window - 1)]

    def most(self, writes: Sequence[int], ends: Sequence[int]) -> int:
        """The number of sets that `copies` returns."""
        return self.window if self._are_ordered(writes, ends) else self.in_flight

    def _are_ordered(self, writes: Sequence[int], ends: Sequence[int]) -> bool:
        """Whether a tensor has gone before that of the micro-batch `window` later is begun."""
        known, order = len(self.order.waits), self.order
        if any(task >= known for task in (*writes, *ends)):
            return False  # of the step, not of each micro-batch
        used = sum(1 << task for task in {*ends, *writes})
        return used & ~_all(order.before[1], writes) == 0 and all(map(self._follows_itself, ends))

    def _follows_itself(self, task: int) -> bool:
        return bool(self.order.before[1][task] >> task & 1)

    def meets(self, task: int) -> int:
        """The tasks that neither precede nor follow this one in the micro-batches in flight; all, where these are
        several that know no order."""
        order = self.order
        if self.window > 1 or task >= len(order.waits) or not self._follows_itself(task):
            return self.everything
        found = self.everything & ~(order.before[0][task] | order.after[0][task])
        found |= order.everything & ~(order.before[1][task] & order.after[1][task])
        found &= ~(self.later[task] & self.sooner[task])
        return found | sum(1 << other for other in range(len(order.waits)) if not self._follows_itself(other))


def _all(sets: Sequence[int], tasks: Iterable[int]) -> int:
    """What is in the sets of all these tasks; everything where there is none."""
    return reduce(and_, [sets[task] for task in tasks], -1)


def _open(order: Precedence, distance: int, writes: Sequence[int], ends: Sequence[int]) -> int:
    """The tasks that need not end before a tensor is begun, nor begin after it has gone, in its own instance."""
    return order.everything & ~(_all(order.after[distance], ends) | _all(order.before[distance], writes))


def instances_of(tasks: Sequence[Task], number: int, window: int, steps: int) -> Instances:
    """The instances of a step's tasks, each of which follows those that it waits for. `number`: of micro-batches;
    `window`: of these that may be under way together; `steps`: likewise."""
    if number == 1:
        return Steps(tuple(task.id for task in tasks), of_steps(tasks, steps), steps)
    names, order = of_micro_batches(tasks, number, window)
    known = set(names)
    once = [task for task in tasks if (task.phase, task.layer) not in known or task.micro >= number]
    later, sooner = _after_all(once, names, order, number), _before_all(tasks, once, names, order, number)
    all_names = (*names, *(task.id for task in once))
    return Batches(all_names, order, window, steps * number, _by_task(later, len(names)), _by_task(sooner, len(names)))


def _by_task(sets: Sequence[int], size: int) -> tuple[int, ...]:
    """From the tasks of each micro-batch by task of the step, the tasks of the step, counted behind the others, by
    task of each micro-batch."""
    return tuple(
        sum(1 << size + number for number, group in enumerate(sets) if group >> task & 1) for task in range(size)
    )


def _after_all(once: Sequence[Task], names: Sequence[TaskId], order: Precedence, number: int) -> list[int]:
    """By task of a step, the tasks of each micro-batch that have ended, in all of these, when it begins."""
    found: dict[TaskId, int] = {}
    rare = {task.id for task in once if task.every > 1}
    for task in once:
        ended = 0
        awaited: Counter[TaskId] = Counter(name[:2] for name in task.after if micro_of(name) < number)
        for place, name in enumerate(names):
            if awaited[name[:2]] == number:
                ended |= order.before[0][place] | 1 << place
        for name in task.after:
            ended |= 0 if name in rare else found.get(name, 0)
        found[task.id] = ended
    return list(found.values())


def _before_all(
    tasks: Sequence[Task], once: Sequence[Task], names: Sequence[TaskId], order: Precedence, number: int
) -> list[int]:
    """By task of a step, the tasks of each micro-batch that begin, in all of the next step's, after it has ended."""
    waiting: Counter[tuple[TaskId, TaskId]] = Counter(
        (name, (task.phase, task.layer)) for task in tasks for name in set(task.after_previous) if task.micro < number
    )
    found = dict.fromkeys((task.id for task in once), 0)
    index = {name: place for place, name in enumerate(names)}
    for (awaited, name), times in waiting.items():
        if awaited in found and name in index and times == number:
            found[awaited] |= order.after[0][index[name]] | 1 << index[name]
    for task in reversed(once):
        for name in task.after if task.every == 1 else ():
            if name in found:
                found[name] |= found[task.id]
    return list(found.values())
