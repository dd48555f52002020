"""Timings that a process has made before: many points of a sweep differ in energies only and share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from fahw.chip import clock
from fahw.chip.clock import Timing
from fahw.work.counts.record import Task

_UNTIMED = ("counts", "payload_bits", "macs")
"""What a task says about energy and sums; all else can decide when it runs."""
_timed = attrgetter(*(field.name for field in fields(Task) if field.name not in _UNTIMED))
_MOST = 400
_known: dict[Any, Timing] = {}


def time_step(tasks: Sequence[Task], tiles: int, steps_in_flight: int) -> Timing:
    """`clock.time_step`, remembered for tasks that are the same in all that decides about time."""
    key = (tuple(map(_timed, tasks)), tiles, steps_in_flight)
    found = _known.get(key)
    if found is None:
        found = clock.time_step(tasks, tiles, steps_in_flight)
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = found
    return found
