"""The steady state of consecutive training steps: when a simulation repeats itself, and the time between its steps."""

from __future__ import annotations

from typing import Any

from fahw.chip.timing.bursts import BUFFERS
from fahw.chip.timing.engine import Job, Part, Simulation


class SteadyState:
    """What a simulation looked like at the ends of its steps; `period`: of how many steps it repeats itself, 0 until
    that is found."""

    def __init__(self) -> None:
        self.period = 0
        self._first: dict[Any, int] = {}

    def is_reached(self, simulation: Simulation) -> bool:
        """Whether all that decides what comes next was before as it is now that a step has ended, but for the time that
        has passed: from there on everything happens again and again."""
        ended = len(simulation.progress.ends)
        if len(simulation.progress.unfinished) >= ended + simulation.in_flight:
            self.period = ended - self._first.setdefault(_state(simulation), ended)
        return self.period > 0

    def interval(self, simulation: Simulation, busiest: int) -> float:
        """Mean gap between the ends of steps over a whole period; over the later half of them where none is found.

        It is never less than `busiest`, the cycles per step that the busiest part works.
        """
        ends = simulation.progress.ends
        period = self.period or max(1, len(ends) // 2)
        if len(ends) <= period:
            return float(ends[0])
        return max((ends[-1] - ends[-1 - period]) / period, busiest)


def _state(simulation: Simulation) -> Any:
    """All that decides what comes next: times from now, steps from the last that ended. Since when a port is free makes
    no difference."""
    now, progress = simulation.calendar.now, simulation.progress
    ended = len(progress.ends)
    pending = tuple(
        (
            cycle - now,
            action.__name__,
            i,
            subject.name if isinstance(subject, Part) else _job_state(subject, now, ended),
        )
        for cycle, action, subject, i in simulation.calendar.pending()
    )
    parts = tuple(
        (part.free, *((job.step - ended, job.index) for _, job in sorted(part.queue)))
        for part in simulation.parts.values()
    )
    ports = tuple(max(0, free - now) for free in simulation.port_free.values())
    steps = tuple((*progress.awaited[step], *progress.done[step]) for step in range(ended, len(progress.unfinished)))
    return pending, parts, ports, steps


def _job_state(job: Job, now: int, ended: int) -> Any:
    """What is known of the bursts of a task; of those drained only the last ones matter."""
    computing = tuple(cycle - now for cycle in job.computed_at[len(job.drained_at) :])
    drained = len(job.drained_at), *(cycle - now for cycle in job.drained_at[-BUFFERS:])
    times = job.computed - now, job.first_loaded - now, job.loaded - now
    return job.step - ended, job.index, *times, job.load_port, job.drain_port, drained, computing
