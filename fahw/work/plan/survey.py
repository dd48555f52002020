"""The products of a step under all forms that its errors can take, as the mapper sees them, without mapping any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fahw.mapping.problem import TiledProduct
from fahw.work.context import StepContext
from fahw.work.error_forms import ErrorFormName
from fahw.work.plan.measured import ProductTask
from fahw.work.plan.step_plan import ProductKey, StepPlan, all_room
from fahw.work.plan.tiles import can_be_tiled


@dataclass(frozen=True)
class SeenProduct:
    """A product: where it stands in the step, its number among those of its layer and phase, the form of the error that
    it belongs to (None where there is no choice), and itself; None where its array fixes what moves."""

    layer: str
    phase: str
    number: int
    form: ErrorFormName | None
    key: ProductKey
    product: TiledProduct | None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""
        return self.key[2]


def survey(step: StepContext, plan: StepPlan, tasks: Sequence[ProductTask]) -> Iterator[SeenProduct]:
    """The products of a step, in the order of tasks; of every size of micro-batches, the first one first. `plan`: what
    is on the chip."""
    first: dict[tuple[str, str], int] = {}
    for task in tasks:
        layer, phase = task.part.name, task.task[0]
        before = first.get((layer, phase), 0)
        for form in task.forms or (None,):
            for samples in dict.fromkeys(step.micro_batch_sizes):
                for untiled in task.untiled(step, plan, form, samples):
                    gemm = untiled.gemm
                    product = None
                    if can_be_tiled(gemm.mapping):
                        product = untiled.around(plan.around(untiled.core, task.task, all_room(plan.chip)))
                    key = task.task, untiled.number, gemm.mapping.sizes
                    first[layer, phase] = max(first.get((layer, phase), 0), before + key[1] + 1)
                    yield SeenProduct(layer, phase, before + key[1], form, key, product)
