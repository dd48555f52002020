"""Records of what a search decided for a step: of its products, of what stays on the chip, and of what is shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fahw.hardware.memory import LEVELS
from fahw.mapping.mapper import MappedProduct
from fahw.mapping.nest import PARTS, Nest
from fahw.mapping.tiled import TiledMapping
from fahw.work.context import StepContext
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.plan_record import FusedRecord, OuterRecord, PlanRecord, ProductRecord, TensorRecord
from fahw.work.counts.record import Placement, task_text
from fahw.work.mesh import core_prefix
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import Measured, ProductTask, product_tasks
from fahw.work.plan.step_plan import StepPlan


def plan_record(step: StepContext) -> PlanRecord:
    """The decisions of a step that has a plan."""
    assert step.plan is not None, "there is a plan"
    plan = step.plan
    return PlanRecord(step.chip.mapping_objective, plan.waits, tuple(_products(step)), plan.tensors, plan.errors)


def _products(step: StepContext) -> Iterator[ProductRecord]:
    numbers: dict[tuple[str, str, int], int] = {}
    for task in product_tasks(step):
        sizes = step.micro_batch_sizes if task.times > 1 else step.micro_batch_sizes[:1]
        for samples in dict.fromkeys(sizes):
            place = task.part.name, task.task[0], samples
            for gemm in task.products(step.during(task.task), task.part, samples):
                number = numbers[place] = numbers.get(place, -1) + 1
                if isinstance(gemm.mapping, TiledMapping):
                    times = sizes.count(samples)
                    yield _record(step, task, gemm, gemm.mapping, number, times)


def _record(
    step: StepContext, task: ProductTask, gemm: Gemm, mapping: TiledMapping, number: int, times: int
) -> ProductRecord:
    assert step.plan is not None, "there is a plan"
    mapped, groups = mapping.mapped, gemm.repeats
    tiling = mapped.tiling
    left, right = (values * groups for values in mapped.reads)
    return ProductRecord(
        task.part.name, task.task[0], number, step.plan.forms.get(task.part.name) if task.forms else None,
        mapping.sizes, groups, times, tiling.dataflow, tiling.tile, "".join(tiling.nest.order), _held(tiling.nest),
        tiling.nest.blocks, (left, right), (mapped.fetched[0] * groups, mapped.fetched[1] * groups),
        mapped.partial_sums * groups, mapped.spilled_sums * groups, mapped.accumulated * groups,
        mapped.array_cycles * groups, mapped.energy_pj * groups, mapping.room, _outer_record(mapped, groups),
    )  # fmt: skip


def _outer_record(mapped: MappedProduct, groups: int) -> OuterRecord | None:
    tiling, counts = mapped.tiling.outer, mapped.outer
    if tiling is None or counts is None:
        return None
    left, right = (values * groups for values in counts.fetched)
    return OuterRecord(
        tiling.tile, "".join(tiling.nest.order), _held(tiling.nest), (left, right), counts.spilled_sums * groups
    )


def _held(nest: Nest) -> tuple[str, ...]:
    return tuple(name for name, holds in zip(PARTS, nest.holds, strict=True) if holds)


def with_records(plan: StepPlan, keeping: Keeping, shares: Sequence[float], found: Measured) -> StepPlan:
    """The plan with the forms that were found, and with records of what these shares keep."""
    tensors, placements = tuple(_tensors(keeping, shares)), tuple(_placements(keeping, shares, found))
    return replace(plan, forms=found.forms, placements=placements, tensors=tensors, errors=tuple(_errors(keeping)))


def _tensors(keeping: Keeping, shares: Sequence[float]) -> Iterator[TensorRecord]:
    """What these shares keep, for people to read."""
    for number, (tensor, there) in enumerate(zip(keeping.tensors, keeping.kept(shares), strict=True)):
        readers = tuple(task_text(use.task) for use in tensor.reads)
        memory, outer = (*(home.name for home in keeping.homes[number]), None)[:2]
        assert memory is not None, "every tensor has a home"
        yield TensorRecord(
            tensor.name, tensor.tensor, tensor.core, memory, tensor.bits, readers, there.reads, outer, there.outer_reads
        )


def _errors(keeping: Keeping) -> Iterator[FusedRecord]:
    """The errors of which two tasks share the tiles."""
    for error in keeping.errors:
        first, second = error.tasks
        name = keeping.tensors[error.number].name
        yield FusedRecord(name, error.core, (task_text(first), task_text(second)), error.samples)


def _placements(keeping: Keeping, shares: Sequence[float], found: Measured) -> Iterator[Placement]:
    """What each memory would have to hold at the moment that asks for most, and what of it is further out then: in the
    outer home, which comes behind it, or in DRAM; of sums the most that wait at once."""
    asked, kept = keeping.by_kind(keeping.everything), keeping.by_kind(shares)
    nothing, levels = np.zeros(len(keeping.moments.tasks)), {memory.name: memory.level for memory in keeping.memories}
    behind: dict[tuple[int, str], list[tuple[str, float, float]]] = {}
    for core, memory in sorted(keeping.places, key=lambda place: LEVELS.index(levels[place[1].name])):
        name = f"{core_prefix(keeping.step.chip, core)}{memory.name}"
        kinds = {
            kind: bits
            for (own, place, kind), bits in asked.items()
            if (own, place) == (core, memory.name) and keeping.outer_home(kind) != memory
        }
        handed_on = float(kinds.pop("psum", nothing).max())
        moment = int(sum(kinds.values(), start=nothing).argmax())
        for kind, bits in kinds.items():
            resident = min(bits[moment], kept[core, memory.name, kind][moment])
            yield Placement(name, kind, round(bits[moment]), round(bits[moment] - resident))
            outer = keeping.outer_home(kind)
            if outer is not None and bits[moment] > resident:
                there = kept.get((core, outer.name, kind), nothing)[moment]
                behind.setdefault((core, outer.name), []).append((kind, bits[moment] - resident, there))
        for kind, rest, there in behind.get((core, memory.name), ()):
            yield Placement(name, kind, round(rest), round(max(0.0, rest - there)))
        own = (task.task for task in keeping.tasks if task.core == core)
        waiting = handed_on + max((found.sums_room.get((task, memory.name), 0.0) for task in own), default=0.0)
        if waiting:
            yield Placement(name, "psum", round(waiting), 0)
