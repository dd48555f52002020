"""The calendar of a simulation: which calls are made in which cycle, and in which order within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

import simpy

Action = Callable[[Any, int], None]
"""What is called: with what it is about (a job or a part) and the number of a burst."""


class Calendar:
    """Calls to come; `now` is the cycle of the call that is being made.

    SimPy keeps the time: one timeout at a time wakes the calendar in the next cycle that has calls. Those of a cycle
    are made in the order of their priority, equal ones in the order in which they were added, together with what they
    add themselves. A call for a cycle that has passed is made next, as of its own cycle.
    """

    def __init__(self) -> None:
        self.now = 0
        self._environment = simpy.Environment()
        self._timeout = self._environment.timeout(0)
        self._calls: list[tuple[int, int, int, Action, Any, int]] = []
        self._numbers = count()

    def add(self, cycle: int, priority: int, action: Action, subject: Any, i: int = 0) -> None:
        """Add the call `action(subject, i)`; the lowest priority is first."""
        heappush(self._calls, (cycle, priority, next(self._numbers), action, subject, i))

    def run(self) -> None:
        """Make all calls, from cycle 0 on, and those that they add, until none is left."""
        self._timeout.callbacks.append(self._wake)
        self._environment.run()

    def clear(self) -> None:
        """Drop all calls."""
        self._calls.clear()

    def pending(self) -> Iterator[tuple[int, Action, Any, int]]:
        """Cycle, action, subject and number of every call to come, in order."""
        for cycle, _, _, action, subject, i in sorted(self._calls):
            yield cycle, action, subject, i

    def _wake(self, timeout: simpy.Event) -> None:
        """Make the calls of this cycle, and of those that have passed; wake again for the next."""
        cycle = int(self._environment.now)
        calls = self._calls
        while calls and calls[0][0] <= cycle:
            self.now, _priority, _number, action, subject, i = heappop(calls)
            action(subject, i)
        if calls:
            timeout.callbacks = [self._wake]  # the same timeout again: there are millions in a study
            self._environment.schedule(timeout, delay=calls[0][0] - cycle)
