"""Cycles of a training step: the latency of one, and the time between steps in steady state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from fahw.chip.timing.bursts import Burst, bursts_of, busy_cycles, cut
from fahw.chip.timing.engine import Simulation
from fahw.chip.timing.recording import Span
from fahw.chip.timing.steady_state import SteadyState
from fahw.work.counts.record import Task, TaskId

_MOST_STEPS = 40
"""Steps after which a simulation ends that has not repeated itself."""
_UNTIMED = ("counts", "payload_bits", "macs")
"""What a task says about energy and sums; all else can decide when it runs."""
_timed = attrgetter(*(field.name for field in fields(Task) if field.name not in _UNTIMED))
_MOST_TIMINGS = 400
_timings: dict[Any, Timing] = {}


@dataclass(frozen=True)
class Timing:
    """`cycles`: first start to last end of one isolated step. `interval_cycles`: steady state between steps.

    `busy`: cycles per step that a part works; `stalls`: cycles per isolated step that it holds a task but waits, by the
    port that it waits for.
    """

    cycles: int
    interval_cycles: float
    busy: dict[str, int]
    stalls: dict[tuple[str, str], int]
    spans: tuple[Span, ...]


def time_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int, exact: bool = False) -> Timing:
    """Latency of an isolated step and the steady-state interval between steps, with busy times and stalls.

    What `simulate_step` returns is remembered: many points of a sweep differ in energies only and share one timing.
    """
    key = (tuple(map(_timed, tasks)), tiles, steps_in_flight, exact)
    timing = _timings.get(key)
    if timing is None:
        timing = simulate_step(tasks, tiles, steps_in_flight, exact)
        if len(_timings) >= _MOST_TIMINGS:
            _timings.clear()
        _timings[key] = timing
    return timing


def simulate_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int, exact: bool = False) -> Timing:
    """Latency of an isolated step and the steady-state interval between steps, with busy times and stalls.

    Tasks that run once in k steps are in the isolated step; the interval and the busy times are the means of a steady
    state with them (weight 1) and one without (k - 1). `exact` simulates fold by fold: the slow reference. Raises
    RuntimeError where tasks wait for each other.
    """
    timing = _simulate(tasks, tiles, steps_in_flight, exact)
    every = max((task.every for task in tasks), default=1)
    if every == 1:
        return timing
    rest = _simulate(_without(tasks), tiles, steps_in_flight, exact)
    interval = ((every - 1) * rest.interval_cycles + timing.interval_cycles) / every
    busy = {part: ((every - 1) * rest.busy.get(part, 0) + n) // every for part, n in timing.busy.items()}
    return replace(timing, interval_cycles=interval, busy=busy)


def _without(tasks: Sequence[Task]) -> list[Task]:
    """The tasks of a step in which those that run once in several steps do not run."""
    rare = {task.id for task in tasks if task.every > 1}
    return [
        replace(
            task, after=tuple(name for name in task.after if name not in rare),
            after_previous=tuple(name for name in task.after_previous if name not in rare),
        )
        for task in tasks
        if task.id not in rare
    ]  # fmt: skip


def _simulate(tasks: Sequence[Task], tiles: int, steps_in_flight: int, exact: bool) -> Timing:
    folds = {task.id: bursts_of(task, task.folds) for task in tasks} if exact else None
    bursts_by_count: dict[tuple[TaskId, int], tuple[Burst, ...]] = {}
    single = Simulation(tasks, folds or cut(tasks, tiles, 1, bursts_by_count), 1)
    single.run(1)
    many = Simulation(tasks, folds or cut(tasks, tiles, steps_in_flight, bursts_by_count), steps_in_flight)
    steady = SteadyState()
    many.run(_MOST_STEPS, steady.is_reached)
    busy = busy_cycles(tasks)
    isolated, cycles = single.recording, single.progress.ends[0]
    # steps that overlap badly run one after the other instead
    interval = min(steady.interval(many, max(busy.values(), default=0)), float(cycles))
    return Timing(cycles, interval, busy, dict(isolated.stalls), tuple(isolated.spans))
