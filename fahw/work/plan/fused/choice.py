"""Which errors are worth sharing tile by tile, and in sub-batches of how many samples, by what their two tasks cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from fahw.errors import ConfigError
from fahw.work.counts.task_accesses import TaskShares
from fahw.work.plan.fused.error import FusedError
from fahw.work.plan.fused.fusing import Shareable, shareable, sub_batch_sizes
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, measured
from fahw.work.plan.pricing import dram_cycles
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.shares import Kept


class _Saving(NamedTuple):
    amount: float
    error: FusedError


def worth_sharing(keeping: Keeping, shares: Sequence[float], products: Measured) -> tuple[FusedError, ...]:
    """The errors that cost less if their tasks share tiles, where these `shares` of tensors stay; of those that have a
    task in common the one that saves most."""
    roomy = replace(keeping.plan(shares, products, grown=True), forms=products.forms)
    kept = keeping.kept(shares)
    savings: list[_Saving] = []
    for found in shareable(keeping):
        there = kept[found.number]
        if found.number not in keeping.given and min(*there.reads, there.written) < 1 and _is_open(keeping, found):
            savings += _savings(keeping, roomy, found, there)
    taken, chosen = set[object](), list[FusedError]()
    for saving in sorted(savings, key=lambda saving: -saving.amount):
        if taken.isdisjoint(saving.error.tasks):
            taken.update(saving.error.tasks)
            chosen.append(saving.error)
    return tuple(chosen)


def _is_open(keeping: Keeping, found: Shareable) -> bool:
    """Whether no product of the tasks is pinned, and neither shares tiles yet."""
    pinned = {key[0] for key in keeping.tilings} | {task for error in keeping.errors for task in error.tasks}
    return pinned.isdisjoint(found.tasks)


def _savings(keeping: Keeping, plan: StepPlan, found: Shareable, there: Kept) -> Iterator[_Saving]:
    """What sharing an error saves at its best number of samples, if anything. `there`: shares of it."""
    tasks, tensor = (found.error, found.gradient), keeping.tensors[found.number]
    reads, written = there.anywhere.reads, there.anywhere.written
    try:
        apart = measured(keeping.step, plan, tasks)
    except ConfigError:
        return
    before = _cost(keeping, apart) + (1 - written) * _written(keeping, found)
    best: _Saving | None = None
    for samples in sub_batch_sizes(keeping.step.micro_batch_sizes):
        error = found.in_sub_batches(keeping, samples)
        try:
            shared = measured(keeping.step, _sharing(plan, found, error, tensor.bits * there.written), tasks)
        except ConfigError:
            continue
        after = _cost(keeping, shared)
        if not found.is_made:
            after += (1 - reads[-1]) * _staged(keeping, found) + (1 - written) * _written(keeping, found)
        if best is not None and before - after < best.amount:
            break
        best = _Saving(before - after, error)
    if best is not None and best.amount > 0:
        yield best


def _sharing(plan: StepPlan, found: Shareable, error: FusedError, freed: float) -> StepPlan:
    """The plan for the two tasks alone, which find the error there: of their room the tiles take some, and bits that
    are `freed` add to it."""
    shares, room = dict(plan.shares), dict(plan.room)
    more = {error.room[0][0]: freed} if found.is_made else {}
    for task in (found.error, found.gradient):
        if task is found.gradient or not found.is_made:
            before = shares.get((task.core, task.task), TaskShares())
            shares[task.core, task.task] = _with_error_there(before)
        left = {memory: bits + more.get(memory, 0.0) for memory, bits in room[task.task]}
        for memory, _, bits in error.room:
            left[memory] -= bits
        room[task.task] = tuple(left.items())
    return replace(plan, shares=shares, room=room, fused=dict.fromkeys(found.tasks, error.samples))


def _with_error_there(shares: TaskShares) -> TaskShares:
    """The same with all of the error there that is an operand."""
    operands = {kind: share for kind, share in shares.operands.items() if kind != "error"}
    anywhere = _with_error_there(shares.anywhere) if shares.anywhere else None
    return replace(shares, operands=operands, anywhere=anywhere)


def _staged(keeping: Keeping, found: Shareable) -> float:
    """What it costs per step to bring the error once: energy, or cycles where these are to be least."""
    tensor, chip = keeping.tensors[found.number], keeping.step.chip
    if chip.mapping_objective == "latency":
        return dram_cycles(keeping.step.chip, tensor.bits) * found.error.times
    memory = chip.home("error")
    assert memory is not None, "the chip was checked before"
    return keeping.book.fetch_pj_per_bit(memory, "error", "read") * tensor.bits * found.error.times


def _written(keeping: Keeping, found: Shareable) -> float:
    """What it costs per step to write the error to DRAM; no cycles, as in the costs of a plan."""
    return 0.0 if keeping.step.chip.mapping_objective == "latency" else keeping.worth.writes_pj(found.number)


def _cost(keeping: Keeping, found: Measured) -> float:
    return found.cycles if keeping.step.chip.mapping_objective == "latency" else found.energy_pj
