"""What a step takes of each memory where everything stays on the chip: the sizes of memories that are built to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fahw.work.context import StepContext
from fahw.work.counts.record import Task
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import measured, product_tasks
from fahw.work.plan.moments import open_moments
from fahw.work.plan.others import CountingPlan
from fahw.work.plan.pins import with_pins
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.lives import KeptTensor
from fahw.work.plan.tensors.shares import task_shares


def bits_of_all(
    step: StepContext, tasks: Sequence[Task], tensors: tuple[KeptTensor, ...], counted: CountingPlan
) -> dict[str, float]:
    """The most bits that tensors and tiles of sums take of each memory at a moment, on any core, if all of them stay
    and nothing waits for room; of those that anything lies in. `tasks`: of the same step, `counted` without a plan."""
    products, away_pj = product_tasks(step), counted.away_pj(tasks)
    keeping = with_pins(Keeping(step, tensors, open_moments(tasks, step), counted.book, products, away_pj))
    all_there = task_shares(tensors, keeping.kept(keeping.everything))
    endless = StepPlan(step.chip, counted.book, all_there, {}, tilings=keeping.tilings)
    found = measured(step, endless, keeping.tasks)
    most: dict[str, float] = {}
    for _, memory, tiles, live in keeping.taken(keeping.everything, replace(found, room=found.sums_room)):
        most[memory.name] = max(most.get(memory.name, 0.0), float((tiles + live).max()))
    return {name: bits for name, bits in most.items() if bits}
