"""The search for a step's plan: mappings of its products and what stays on the chip, in turn, and the best round.

A mapping says how often an operand is fetched that is not there, and what room tiles take; both decide what is worth
keeping. What is kept decides what a mapping must fetch. So the two alternate, from nothing kept, for several reserves
of room for tiles; the best round is kept, as alternation alone need not come down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from fahw.activity import Activity
from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.part import Form
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work.context import StepContext
from fahw.work.counts.record import Task
from fahw.work.plan.fused.choice import worth_sharing
from fahw.work.plan.fused.fusing import with_fused
from fahw.work.plan.joint.search import is_small, joint_plan
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, in_least_room, measured, product_tasks, stay_whole
from fahw.work.plan.moments import open_moments
from fahw.work.plan.order.short_lives import with_short_lives
from fahw.work.plan.others import CountingPlan
from fahw.work.plan.pins import check_room, pinned_waits, with_pins
from fahw.work.plan.records import with_records
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.lives import KeptTensor
from fahw.work.plan.tile_room import LEAST_RESERVE, every_room, has_small_memories, reserves
from fahw.work.plan.tiles import narrowings

_LEAST = 0
"""The reserve of which each task has the least that it needs."""
_EQUAL = 1e-6
"""Share by which gains may differ and count as equal."""
_ROUNDS = 2
"""Rounds at a reserve, in which tiles take what is free."""
_MOST_SETTLING, _WORTH = 4, 1e-3
"""Rounds at most in which the best plan is bettered, and by what share it must get cheaper for another."""
_STARTS, _NEAR = 2, 1.1
"""Reserves at which there are more rounds, and how much dearer than the best they may be."""
_MOST_PLANS = 64
"""Chips with a rule and a batch of which plans are remembered."""
_MOST_NETWORKS = 4
"""Networks with a measured activity whose plans are remembered of each of these."""


@lru_cache(maxsize=_MOST_PLANS)
def known_plans(
    chip: Chip, rule: Rule, micro_batch_sizes: tuple[int, ...], form: Form | None, trains: bool
) -> list[tuple[Network, Activity | None, StepPlan]]:  # fmt: skip
    """The plans that were found of networks with what was measured of them; none at first. A study asks for the same
    step again and again: trained otherwise, as a rival, for a report."""
    return []


def known_plan(step: StepContext) -> StepPlan | None:
    """The plan that was found of an equal step, None where there is none."""
    for network, activity, plan in known_plans(step.chip, step.rule, step.micro_batch_sizes, step.form, step.trains):
        if (network is step.network or network == step.network) and activity == step.activity:
            return plan
    return None


def remember(step: StepContext) -> None:
    """Remember the plan of a step, and of others on its chip the latest."""
    plans = known_plans(step.chip, step.rule, step.micro_batch_sizes, step.form, step.trains)
    if step.plan is not None:
        plans[:] = [*plans[-_MOST_NETWORKS + 1 :], (step.network, step.activity, step.plan)]


def planned(
    step: StepContext, tasks: Sequence[Task], tensors: tuple[KeptTensor, ...], counted: CountingPlan
) -> StepContext:
    """The step with the best plan found. `tasks`: of the same step, `counted` without one. `tensors`: what it keeps.

    Raises ConfigError where no tile fits its memory, or something must lie in DRAM and the chip has none.
    """
    counted.products[:] = counted.products or product_tasks(step)
    counted.at_will[:] = counted.at_will or [open_moments(tasks, step)]
    products, known = tuple(counted.products), counted.rooms
    at_will = Keeping(step, tensors, counted.at_will[0], counted.book, products, {}, rooms=known)
    waits = pinned_waits(step)
    all_kept = _all_kept(step, with_pins(at_will)) if waits is None else None
    if all_kept is not None:
        return step.under(all_kept)
    at_will = replace(at_will, away_pj=counted.away_pj(tasks))
    counted.in_order[:] = counted.in_order or [open_moments(with_short_lives(tasks, step, tensors), step)]
    in_order = replace(at_will, moments=counted.in_order[0])
    found, waits = min(_in_orders(step, at_will, in_order, waits), key=lambda pair: pair[0].cost)
    plan = with_records(found.plan, found.keeping, found.shares, found.products)
    _check_dram(step, plan)
    return step.under(replace(plan, waits=waits))


def _in_orders(
    step: StepContext, at_will: Keeping, in_order: Keeping, waits: bool | None
) -> Iterator[tuple[_Found, bool]]:  # fmt: skip
    """The best plans where tasks wait for room, or do not, as is pinned or worth more; of a small step both."""
    first = _gains(step, in_order, at_will) if waits is None else waits
    for found in _best(step, with_pins(in_order if first else at_will)):
        yield found, first
    if waits is None and is_small(at_will):
        with suppress(ConfigError):
            for found in _best(step, with_pins(at_will if first else in_order)):
                yield found, not first


def _best(step: StepContext, keeping: Keeping) -> Iterator[_Found]:
    """The best plan found; where tensors have two homes, that with one of them after it, as it may be better still."""
    yield _searched(step, keeping)
    for narrowing in () if keeping.tilings else narrowings(step.chip):
        with suppress(ConfigError):
            yield _searched(step, replace(keeping, narrowing=narrowing))
    if step.chip.has_outer_homes and not keeping.is_complete:
        try:
            yield _searched(step, replace(keeping, one_level=True))
        except ConfigError:
            return  # what needs the second one


def _searched(step: StepContext, keeping: Keeping) -> _Found:
    reserved = sorted(_reserved(step, keeping), key=lambda found: found.cost)
    rounds = [(best, *_refined(step, keeping, best)) for best in _starts(reserved)]
    bests = [min(several, key=lambda found: found.cost) for several in rounds]
    settled = [_settled(step, best) for best in bests]
    found = _joint(step, min(settled, key=lambda found: found.cost))
    shared = min(_sharing(step, keeping, found), key=lambda found: found.cost, default=None)
    return min(found, _joint(step, shared), key=lambda found: found.cost) if shared else found


def _check_dram(step: StepContext, plan: StepPlan) -> None:
    """Raise ConfigError where something must lie in DRAM, and the chip has none."""
    last = {(item.memory.rpartition(":")[0], item.tensor): item for item in plan.placements}
    away = [item for item in last.values() if item.spilled_bits] if step.chip.dram is None else []
    problems = [
        Problem(
            step.chip.name,
            f"{item.tensor} needs {item.spilled_bits / 8192:.1f} KiB more of {item.memory} than there is room for, and "
            "there is no DRAM: enlarge the memory, add a dram, lower the batch or bits",
            "memories",
        )
        for item in away
    ]
    if problems:
        raise ConfigError(problems)


def _gains(step: StepContext, more: Keeping, less: Keeping) -> bool:
    """Whether more is worth keeping in the first way than in the second."""
    try:
        found = measured(step, more.nothing_kept(LEAST_RESERVE), more.tasks)
    except ConfigError:
        return True
    gains = []
    for keeping in (more, less):
        first = keeping.where_all_stays(found)
        choices, shares = keeping.choices(first), keeping.best_shares(first, first)
        gains.append(sum(choice.gain * share for choice, share in zip(choices, shares, strict=True)))
    return gains[0] > gains[1] * (1 + _EQUAL)


def _all_kept(step: StepContext, keeping: Keeping) -> StepPlan | None:
    """The plan that keeps all tensors, with tiles of sums in the rest of the memories; None where there is no room, or
    sums would go to DRAM all the same. Nothing is better: DRAM has the samples alone."""
    plan = None if keeping.is_pinned else keeping.all_kept()
    if plan is None:
        return None
    try:
        products = measured(step, plan, keeping.tasks)
    except ConfigError:
        return None
    if products.spills:
        return None
    plan = replace(plan, is_whole=stay_whole(step, plan, keeping.tasks))
    return with_records(plan, keeping, keeping.everything, products)


class _Found(NamedTuple):
    """A plan and what it costs, by the objective, and in pJ to tell equals apart; the step that it is of, and its
    shares of tensors; the products while nothing is kept, which say what room tiles take, and under it."""

    cost: tuple[float, float]
    plan: StepPlan
    keeping: Keeping
    shares: Sequence[float]
    first: Measured
    products: Measured
    reserve: int = 0
    """Bits that tiles could take of a memory at first."""


def _is_small(step: StepContext, keeping: Keeping) -> bool:
    """Whether tiles are often as large as tensors, or the step is small, so that more choices take no time."""
    return has_small_memories(step.chip) or is_small(keeping)


def _reserved(step: StepContext, keeping: Keeping) -> list[_Found]:
    """A plan for each reserve under which tiles fit and are others than in the reserve before, up to the first that
    keeps all; where there is none, one in which each task has the least that its tiles fit."""
    found: list[_Found] = []
    before: Measured | None = None
    for reserve in (*reserves(step.chip, _is_small(step, keeping)), _LEAST):
        if reserve == _LEAST and found:
            break
        try:
            nothing = keeping.nothing_kept(reserve)
            if reserve == _LEAST:
                more = [keeping.nothing_kept(room) for room in every_room(step.chip)]
                nothing = in_least_room(step, more, keeping.tasks)
            given = measured(step, nothing, keeping.tasks)
            if given == before and reserve != _LEAST:
                continue
            before, first = given, keeping.where_all_stays(given)
            check_room(keeping, given if keeping.is_complete else first)
            shares = keeping.with_given(keeping.best_shares(first, first))
            plan = replace(keeping.plan(shares, first, grown=False), forms=first.forms)
            found.append(_costed(step, keeping, plan, shares, first, first)._replace(reserve=reserve))
        except ConfigError:
            if reserve == _LEAST:
                raise
            continue
        if keeping.keeps_all(shares) or keeping.is_complete:
            break
    return found


def _starts(reserved: Sequence[_Found]) -> Iterator[_Found]:
    """The best plans that further rounds begin with: those that differ, and are not much dearer than the best."""
    costs = set[tuple[float, float]]()
    for found in reserved:
        if len(costs) < _STARTS and found.cost not in costs and found.cost[0] <= reserved[0].cost[0] * _NEAR:
            costs.add(found.cost)
            yield found


def _refined(step: StepContext, keeping: Keeping, best: _Found) -> Iterator[_Found]:
    """More rounds at one reserve: what is kept by what the last mappings fetch, tiles in all that this leaves free."""
    products, before = best.products, tuple[float, ...]()
    for _ in range(0 if keeping.is_complete else _ROUNDS):
        shares = keeping.with_given(keeping.best_shares(products, best.first))
        if shares == before:
            return  # the plan is that of the round before
        plan = keeping.plan(shares, best.first, grown=True)
        try:
            found = _costed(step, keeping, plan, shares, best.first, products)
        except ConfigError:
            return
        products, before = found.products, shares
        yield found._replace(reserve=best.reserve)


def _settled(step: StepContext, best: _Found) -> _Found:
    """The plan, bettered as long as that is worth something: what is kept in what its tiles leave, then its tiles in
    what that leaves. Neither costs more, as what is there already is one of the choices."""
    keeping = best.keeping
    is_done = keeping.is_complete or keeping.keeps_all(best.shares)
    for _ in range(0 if is_done else _MOST_SETTLING):
        shares = keeping.with_given(keeping.best_shares(best.products, best.products))
        plan = keeping.plan(shares, best.products, grown=True)
        try:
            found = _costed(step, keeping, plan, shares, best.first, best.products)
        except ConfigError:
            break
        if found.cost[0] >= best.cost[0] * (1 - _WORTH):
            break
        best = found._replace(reserve=best.reserve)
    return best


def _joint(step: StepContext, best: _Found) -> _Found:
    """The plan, or a cheaper one found by a search of mappings and lifetimes at once."""
    keeping = best.keeping
    found = None if keeping.is_complete else joint_plan(keeping, best.products, best.cost[0])
    if found is None:
        return best
    plan, shares = found
    try:
        joint = _costed(step, keeping, plan, shares, best.first, best.products)
    except ConfigError:
        return best
    return min(best, _settled(step, joint._replace(reserve=best.reserve)), key=lambda found: found.cost)


def _sharing(step: StepContext, keeping: Keeping, found: _Found) -> Iterator[_Found]:
    """More rounds in which tasks share the tiles of errors, where that is worth something."""
    errors = () if keeping.is_complete else worth_sharing(keeping, found.shares, found.products)
    if not errors:
        return
    fused = with_fused(keeping, errors)
    names = {task for error in errors for task in error.tasks}
    try:
        tasks = [task for task in keeping.tasks if task.task in names]
        alone = measured(step, fused.nothing_kept(found.reserve), tasks)
    except ConfigError:
        return
    first, products = (_with_tasks(before, alone) for before in (found.first, found.products))
    yield from _refined(step, fused, found._replace(first=first, products=products))


def _with_tasks(before: Measured, alone: Measured) -> Measured:
    """What was measured, with some tasks measured anew."""
    names = {task for task, _ in alone.absent_pj}
    absent, outer = (
        {key: energy for key, energy in of.items() if key[0] not in names} for of in (before.absent_pj, before.outer_pj)
    )
    return replace(
        before, absent_pj=absent | dict(alone.absent_pj), outer_pj=outer | dict(alone.outer_pj),
        room=dict(before.room) | dict(alone.room), sums_room=dict(before.sums_room) | dict(alone.sums_room),
    )  # fmt: skip


def _costed(
    step: StepContext, keeping: Keeping, plan: StepPlan, shares: Sequence[float], first: Measured, before: Measured
) -> _Found:  # fmt: skip
    """The plan with its products; errors whose form it leaves open are in the better one. Raises ConfigError where it
    does not fit."""
    products = measured(step, plan, keeping.tasks, before)
    check_room(keeping, products, shares)
    others, objective = keeping.others_pj(shares, products), step.chip.mapping_objective
    energy = products.energy_pj + others
    cycles = products.cycles + keeping.staged_cycles(shares)
    measures = {"energy": energy, "latency": cycles, "edp": energy * cycles}
    cost = measures[objective], energy
    return _Found(cost, replace(plan, forms=products.forms), keeping, shares, first, products)
