"""Which tasks of consecutive training steps may run: dependencies within a step and on the step before."""

from __future__ import annotations

from collections.abc import Sequence

from fahw.work.counts.record import Task


class Progress:
    """How far steps of the same tasks have come; a task is known by its step and its index among the tasks.

    By step and task, `awaited`: how many tasks it still waits for, and `done`: whether it has ended; by step,
    `unfinished`: how many of its tasks have not. `ends`: last cycles of the steps that have ended, in their order.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        index = {task.id: i for i, task in enumerate(tasks)}
        self._size = len(tasks)
        self._after = [[index[name] for name in task.after] for task in tasks]
        self._after_previous = [[index[name] for name in task.after_previous] for task in tasks]
        self._followers, self._next_followers = _inverse(self._after), _inverse(self._after_previous)
        self.awaited: list[list[int]] = []
        self.done: list[list[bool]] = []
        self.unfinished: list[int] = []
        self.ends: list[int] = []
        self._latest: list[int] = []

    def begin_step(self) -> list[tuple[int, int]]:
        """Begin another step; returns the tasks that may run at once."""
        step = len(self.unfinished)
        awaited = [len(others) for others in self._after]
        if step:
            done = self.done[step - 1]
            for i, others in enumerate(self._after_previous):
                awaited[i] += sum(not done[other] for other in others)
        self.awaited.append(awaited)
        self.done.append([False] * self._size)
        self.unfinished.append(self._size)
        self._latest.append(0)
        return [(step, i) for i, number in enumerate(awaited) if not number]

    def finish(self, step: int, index: int, cycle: int) -> list[tuple[int, int]]:
        """Note in which cycle a task has ended; returns those that waited for it last and may run now."""
        self.done[step][index] = True
        self.unfinished[step] -= 1
        self._latest[step] = max(self._latest[step], cycle)
        while len(self.ends) < len(self.unfinished) and not self.unfinished[len(self.ends)]:
            self.ends.append(self._latest[len(self.ends)])
        ready = []
        for following, others in ((step, self._followers[index]), (step + 1, self._next_followers[index])):
            if following < len(self.awaited):
                awaited = self.awaited[following]
                for i in others:
                    awaited[i] -= 1
                    if not awaited[i]:
                        ready.append((following, i))
        return ready


def _inverse(others: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each number those in whose lists it stands."""
    holders: list[list[int]] = [[] for _ in others]
    for i, numbers in enumerate(others):
        for number in numbers:
            holders[number].append(i)
    return holders
