"""The search for a step's plan: mappings of its products and what stays on the chip, in turn, and the best of all rounds.

A mapping says how often an operand is fetched that is not there, and what room tiles take; both decide what is worth
keeping. What is kept decides what a mapping must fetch. So the two alternate, from nothing kept, for several reserves
of room for tiles; the best round is kept, as alternation alone need not come down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fahw.errors import ConfigError, Problem
from fahw.mapping.lifetimes import best_shares
from fahw.work.context import StepContext
from fahw.work.counts.record import Task
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.tensors.lives import KeptTensor
from fahw.work.plan.measured import measured, product_tasks
from fahw.work.plan.moments import open_moments
from fahw.work.plan.pins import check_room, with_pins
from fahw.work.plan.pricing import Pricing, price_book
from fahw.work.plan.step_plan import StepPlan

_LEAST_RESERVE = 8 * 8192
"""Bits of the smallest reserve for tiles in a memory; others are twice, four times, ... as large."""
_ROUNDS = 2


def planned(step: StepContext, tasks: Sequence[Task], tensors: tuple[KeptTensor, ...], pricing: Pricing) -> StepContext:
    """The step with the best plan found. `tasks`: of the same step without one. `tensors`: what it keeps.

    Raises ConfigError where no tile fits its memory, or something must lie in DRAM and the chip has none.
    """
    book = price_book(pricing, step.chip)
    keeping = with_pins(Keeping(step, tensors, open_moments(tasks, step), book, product_tasks(step)))
    best: tuple[float, StepPlan] | None = None
    problems: tuple[Problem, ...] = ()
    for reserve in _reserves(step):
        try:
            for cost, plan in _rounds(step, keeping, reserve):
                if best is None or cost < best[0]:
                    best = cost, plan
        except ConfigError as error:
            problems = tuple(error.problems)
    if best is None:
        raise ConfigError(problems)
    return replace(step, plan=best[1])


def _reserves(step: StepContext) -> Iterator[int]:
    """Bits that tiles may take of a memory: absolute numbers, so that a larger memory has all choices of a smaller."""
    largest = max(int(memory.kib * 8192) for memory in step.chip.memories)
    reserve = _LEAST_RESERVE
    while reserve < largest / 2:
        yield reserve
        reserve *= 2
    yield reserve


def _rounds(step: StepContext, keeping: Keeping, reserve: int) -> Iterator[tuple[float, StepPlan]]:
    """Plans of one reserve, with what each costs."""
    first = found = measured(step, keeping.nothing_kept(reserve), keeping.tasks)
    check_room(keeping, first)
    for _ in range(_ROUNDS):
        shares = keeping.with_given(best_shares(keeping.choices(found), keeping.capacity(first)))
        plan = keeping.plan(shares, first)
        found = measured(step, plan, keeping.tasks, found)
        plan = replace(plan, forms=found.forms, tensors=keeping.records(shares))
        yield found.energy_pj + keeping.others_pj(shares, found), plan
