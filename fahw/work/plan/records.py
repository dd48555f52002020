"""Records of what a search decided for the products and the tensors of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fahw.mapping.nest import PARTS
from fahw.mapping.tiled import TiledMapping
from fahw.work.context import StepContext
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.plan_record import PlanRecord, ProductRecord, TensorRecord
from fahw.work.counts.record import task_text
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import ProductTask, product_tasks


def plan_record(step: StepContext) -> PlanRecord:
    """The decisions of a step that has a plan."""
    assert step.plan is not None, "there is a plan"
    return PlanRecord(step.chip.mapping_objective, step.plan.waits, tuple(_products(step)), step.plan.tensors)


def tensor_records(keeping: Keeping, shares: Sequence[float]) -> tuple[TensorRecord, ...]:
    """What the shares of ways keep."""
    return tuple(
        TensorRecord(
            tensor.name, tensor.tensor, tensor.core, memory.name, tensor.bits,
            tuple(task_text(use.task) for use in tensor.reads), there.reads,
        )
        for tensor, memory, there in zip(keeping.tensors, keeping.homes, keeping.kept(shares), strict=True)
    )  # fmt: skip


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
    hold = tuple(name for name, holds in zip(PARTS, tiling.nest.holds, strict=True) if holds)
    left, right = (values * groups for values in mapped.reads)
    return ProductRecord(
        task.part.name, task.task[0], number, step.plan.forms.get(task.part.name) if task.forms else None,
        mapping.sizes, groups, times, tiling.dataflow, tiling.tile, "".join(tiling.nest.order), hold,
        tiling.nest.blocks, (left, right), (mapped.fetched[0] * groups, mapped.fetched[1] * groups),
        mapped.partial_sums * groups, mapped.spilled_sums * groups, mapped.accumulated * groups,
        mapped.array_cycles * groups, mapped.energy_pj * groups, dict(mapped.room),
    )  # fmt: skip
