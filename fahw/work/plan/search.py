"""The search for a step's plan: mappings of its products and what stays on the chip, in turn, and the best of all rounds.

A mapping says how often an operand is fetched that is not there, and what room tiles take; both decide what is worth
keeping. What is kept decides what a mapping must fetch. So the two alternate, from nothing kept, for several reserves
of room for tiles; the best round is kept, as alternation alone need not come down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from fahw.errors import ConfigError, Problem
from fahw.mapping.lifetimes import best_shares
from fahw.work.context import StepContext
from fahw.work.counts.record import Task
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.tensors.lives import KeptTensor
from fahw.work.plan.measured import Measured, measured, product_tasks
from fahw.work.plan.moments import open_moments
from fahw.work.plan.pricing import Pricing, price_book
from fahw.work.plan.step_plan import StepPlan

_LEAST_RESERVE = 8 * 8192
"""Bits of the smallest reserve for tiles in a memory; each other one is four times as large."""
_ROUNDS = 2
"""Rounds at the best reserve, in which tiles take what is free."""


def planned(
    step: StepContext, tasks: Sequence[Task], tensors: tuple[KeptTensor, ...], pricing: Pricing
) -> StepContext:  # fmt: skip
    """The step with the best plan found. `tasks`: of the same step without one. `tensors`: what it keeps.

    Raises ConfigError where no tile fits its memory, or something must lie in DRAM and the chip has none.
    """
    book = price_book(pricing, step.chip)
    keeping = Keeping(step, tensors, open_moments(tasks, step), book, product_tasks(step))
    best = min(_reserved(step, keeping), key=lambda found: found.cost)
    found = min((best, *_refined(step, keeping, best)), key=lambda found: found.cost)
    return replace(step, plan=found.plan)


class _Found(NamedTuple):
    """A plan and what it costs; the products while nothing is kept, which say what room tiles take, and under it."""

    cost: float
    plan: StepPlan
    first: Measured
    products: Measured


def _reserves(step: StepContext) -> Iterator[int]:
    """Bits that tiles may take of a memory: absolute numbers, so that a larger memory has all choices of a smaller."""
    largest = max(int(memory.kib * 8192) for memory in step.chip.memories)
    reserve = _LEAST_RESERVE
    while reserve < largest / 2:
        yield reserve
        reserve *= 4
    yield reserve


def _reserved(step: StepContext, keeping: Keeping) -> list[_Found]:
    """A plan for each reserve under which tiles fit, up to the first that keeps all."""
    found: list[_Found] = []
    problems: tuple[Problem, ...] = ()
    for reserve in _reserves(step):
        try:
            first = measured(step, keeping.nothing_kept(reserve), keeping.tasks)
        except ConfigError as error:
            problems = tuple(error.problems)
            continue
        shares = best_shares(keeping.choices(first), keeping.capacity(first))
        plan = replace(keeping.plan(shares, first, grown=False), forms=first.forms)
        found.append(_costed(step, keeping, plan, shares, first, first))
        if keeping.keeps_all(shares):
            break
    if not found:
        raise ConfigError(problems)
    return found


def _refined(step: StepContext, keeping: Keeping, best: _Found) -> Iterator[_Found]:
    """More rounds at one reserve: what is kept by what the last mappings fetch, tiles in all that this leaves free."""
    products = best.products
    for _ in range(_ROUNDS):
        shares = best_shares(keeping.choices(products), keeping.capacity(best.first))
        plan = keeping.plan(shares, best.first, grown=True)
        found = _costed(step, keeping, plan, shares, best.first, products)
        products = found.products
        yield found


def _costed(
    step: StepContext, keeping: Keeping, plan: StepPlan, shares: Sequence[float], first: Measured, before: Measured
) -> _Found:  # fmt: skip
    """The plan with its products; errors whose form it leaves open are in the better one."""
    products = measured(step, plan, keeping.tasks, before)
    others, objective = keeping.others_pj(shares, products), step.chip.mapping_objective
    energy = products.energy_pj + others
    cost = {"energy": energy, "latency": products.cycles, "edp": energy * products.cycles}[objective]
    return _Found(cost, replace(plan, forms=products.forms), first, products)
