"""The products of a step under all forms that its errors can take, as the mapper sees them, without mapping any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fahw.hardware.array import Array
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.memory import Memory
from fahw.mapping.problem import TiledProduct
from fahw.work.context import StepContext
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.record import TaskId
from fahw.work.error_forms import ErrorFormName
from fahw.work.plan.measured import ProductTask
from fahw.work.plan.step_plan import ProductKey, StepPlan, all_room
from fahw.work.plan.tiles import Unfolding, tiled_product


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


@dataclass(frozen=True)
class _Noting(StepPlan):
    """A plan that maps nothing, and notes what it is asked to map."""

    noted: list[tuple[ProductKey, TiledProduct | None]] = field(default_factory=list)

    def laid_out(
        self, gemm: Gemm, number: int, unfolding: Unfolding | None, array: Array, psum: Memory, core: int, task: TaskId
    ) -> Gemm:  # fmt: skip
        """The product as it is."""
        product = None
        if isinstance(gemm.mapping, Folded):
            around = self.around(core, task, all_room(self.chip))
            product = tiled_product(gemm, unfolding, array, psum, self.chip, self.book, around)
        self.noted.append(((task, number, gemm.mapping.sizes), product))
        return gemm


def survey(step: StepContext, plan: StepPlan, tasks: Sequence[ProductTask]) -> Iterator[SeenProduct]:
    """The products of a step, in the order of tasks; of every size of micro-batches, the first one first. `plan`: what
    is on the chip."""
    first: dict[tuple[str, str], int] = {}
    for task in tasks:
        layer, phase = task.part.name, task.task[0]
        before = first.get((layer, phase), 0)
        for form in task.forms or (None,):
            for samples in dict.fromkeys(step.micro_batch_sizes):
                forms = {layer: form} if form else {}
                noting = _Noting(
                    plan.chip, plan.book, plan.shares, forms=forms, fused=plan.fused, one_level=plan.one_level
                )
                task.products(replace(step, plan=noting).during(task.task), task.part, samples)
                for key, product in noting.noted:
                    first[layer, phase] = max(first.get((layer, phase), 0), before + key[1] + 1)
                    yield SeenProduct(layer, phase, before + key[1], form, key, product)
