"""What a simulation of training steps notes: when tasks ran, what their parts waited for, what every burst did."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fahw.work.counts.record import Task


@dataclass(frozen=True)
class Span:
    """When a task ran, in cycles from the start of the first step: from `start` to `released` it held its part, at
    `end` its last results were where they belong."""

    part: str
    phase: str
    layer: str
    start: int
    end: int
    micro: int = 0
    released: int = 0
    step: int = 0


@dataclass(frozen=True)
class Event:
    """What a burst of a task did with a part or port. `kind`: load or drain (at a port), compute or wait (at its part).

    `on`: what a wait is for. A burst that computes slower than it could, because its operands come slowly, first waits
    and then computes.
    """

    part: str
    kind: str
    task: Task
    step: int
    start: int
    end: int
    on: str = ""


class Recording:
    """Spans of all tasks that ended; cycles that a part held a task but waited, by part and what it waited for; and,
    where `detailed`, events: what every part and port did, burst by burst."""

    def __init__(self, detailed: bool) -> None:
        self.detailed = detailed
        self.spans: list[Span] = []
        self.stalls: dict[tuple[str, str], int] = defaultdict(int)
        self.events: list[Event] = []

    def use(self, part: str, kind: str, task: Task, step: int, start: int, end: int) -> None:
        """Note that a burst of a task used a part or port."""
        if self.detailed:
            self.events.append(Event(part, kind, task, step, start, end))

    def wait(self, task: Task, step: int, cause: str, start: int, end: int) -> None:
        """Note that the part of a task waited."""
        self.stalls[task.part, cause] += end - start
        if self.detailed:
            self.events.append(Event(task.part, "wait", task, step, start, end, cause))
