"""The calendar of the simulation: order of calls, calls for cycles that have passed, and what is left when it ends."""

import gc
import weakref

import pytest

from fahw.chip.timing.bursts import cut
from fahw.chip.timing.engine import Simulation
from fahw.chip.timing.event_calendar import Calendar
from fahw.work.counts.record import Task


def noting(calendar, made):
    """An action that notes the cycle and what was called."""
    return lambda subject, i: made.append((calendar.now, subject, i))


def test_calls_of_a_cycle_go_by_priority_and_then_in_the_order_of_adding():
    """Whatever the order in which cycles were added."""
    calendar, made = Calendar(), []
    note = noting(calendar, made)
    for cycle, priority, subject in ((5, 1, "e"), (2, 7, "c"), (2, 3, "a"), (2, 3, "b"), (0, 9, "0"), (2, 8, "d")):
        calendar.add(cycle, priority, note, subject)
    calendar.run()
    assert made == [(0, "0", 0), (2, "a", 0), (2, "b", 0), (2, "c", 0), (2, "d", 0), (5, "e", 0)]


def test_what_a_call_adds_to_its_own_cycle_takes_its_place_there():
    """A call of higher priority goes before those that were there first."""
    calendar, made = Calendar(), []
    note = noting(calendar, made)

    def add(subject, i):
        note(subject, i)
        calendar.add(4, 2, note, "added", 1)

    calendar.add(4, 1, add, "adds")
    calendar.add(4, 3, note, "later")
    calendar.run()
    assert made == [(4, "adds", 0), (4, "added", 1), (4, "later", 0)]


def test_a_call_for_a_cycle_that_has_passed_is_next_and_in_its_own_cycle():
    """It comes before all others, and what it adds counts from there."""
    calendar, made = Calendar(), []
    note = noting(calendar, made)

    def late(subject, i):
        note(subject, i)
        calendar.add(calendar.now + 1, 9, note, "between")
        calendar.add(calendar.now + 10, 9, note, "ahead")

    calendar.add(8, 1, lambda subject, i: calendar.add(3, 9, late, "late"), "adds")
    calendar.add(8, 2, note, "waits")
    calendar.run()
    assert made == [(3, "late", 0), (4, "between", 0), (8, "waits", 0), (13, "ahead", 0)]


def test_pending_calls_are_in_order_and_can_be_dropped():
    """After `clear` nothing more is called, in this cycle or in another."""
    calendar, made = Calendar(), []
    note = noting(calendar, made)

    def stop(subject, i):
        assert [(cycle, of) for cycle, _, of, _ in calendar.pending()] == [(1, "same"), (6, "b"), (9, "a")]
        calendar.clear()

    for cycle, priority, action, subject in (
        (9, 1, note, "a"),
        (1, 0, stop, ""),
        (6, 2, note, "b"),
        (1, 5, note, "same"),
    ):
        calendar.add(cycle, priority, action, subject)
    calendar.run()
    assert made == []
    assert list(calendar.pending()) == []


@pytest.mark.parametrize("steps", [1, 3])
def test_a_simulation_that_has_ended_needs_no_garbage_collector(steps):
    """Steps that were under way are dropped, and nothing refers to itself."""
    tasks = [Task("forward", str(i), "x", 3, 10, (), (), (), (), ()) for i in range(5)]
    gc.disable()
    try:
        simulation = Simulation(tasks, cut(tasks, 4, 2), 2)
        simulation.run(9, lambda simulation: len(simulation.progress.ends) == steps)
        assert len(simulation.progress.unfinished) > len(simulation.progress.ends)
        gone = weakref.ref(simulation)
        del simulation
        assert gone() is None
    finally:
        gc.enable()
