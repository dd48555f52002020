"""What it costs if what a task reads beside its product's operands, or writes, is not on the chip: the ledger says it.

The tasks of a step are counted once with all in place, and every access a second time with nothing there. So a plan's
costs are those of its ledger, whatever part of a tensor a task touches, in whatever widths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import Burst
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.work.context import StepContext
from fahw.work.counts.accesses import Accesses, InTurn, Traffic
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.record import Count, Task, TaskId
from fahw.work.counts.site import Site
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from fahw.work.plan.measured import FORMS, ProductTask, product_tasks
from fahw.work.plan.moments import Moments
from fahw.work.plan.pricing import NEVER_PJ, PriceBook
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.room import TensorRoom
from fahw.work.plan.tiles import Unfolding, UntiledProduct

OtherKey = tuple[int, TaskId, str, str]
"""Accesses that a task makes beside those to operands: the core, the task, `read` or `write`, and the kind of tensor
that lies there."""
_Counts = tuple[Count, ...]


class Away(NamedTuple):
    """What accesses cost more, in pJ, if nothing of what they are to is on the chip, `dram`; and if all of it is, but
    in its outer home, `outer`."""

    dram: float = 0.0
    outer: float = 0.0

    def plus(self, other: Away) -> Away:
        """The sum of both."""
        return Away(self.dram + other.dram, self.outer + other.outer)

    def over(self, steps: int) -> Away:
        """What it is per step, of so many."""
        return Away(self.dram / steps, self.outer / steps)


@dataclass(frozen=True)
class CountingPlan(StepPlan):
    """A plan that maps nothing and keeps all, and notes in `noted` what is accessed otherwise than as an operand.

    What was noted, and what a search begins with and prices do not decide, can be had again for a chip whose memories
    have other sizes: `at_will` and `in_order`, when tensors may be there, and the tasks with `products`, each empty
    until it is known; and the `rooms` that tensors take.
    """

    noted: list[tuple[OtherKey, object]] = field(default_factory=list)
    """Accesses of tasks, by what they do."""
    accesses: dict[object, Seen] = field(default_factory=dict)
    further: dict[object, Further] = field(default_factory=dict)
    """What more each is if nothing is there, counted where it is asked for."""
    at_will: list[Moments] = field(default_factory=list)
    in_order: list[Moments] = field(default_factory=list)
    untiled: dict[TaskId, dict[int, UntiledProduct]] = field(default_factory=dict)
    """Products of the first micro-batch that were counted, by task and number; what they move is not."""
    products: list[ProductTask] = field(default_factory=list)
    rooms: dict[object, TensorRoom] = field(default_factory=dict)

    def on(self, chip: Chip, book: PriceBook) -> CountingPlan:
        """The same of an equal step on a chip with other sizes of memories."""
        products = [replace(task, untiled_before=task.all_untiled, all_untiled={}, known={}) for task in self.products]
        return replace(self, chip=chip, book=book, products=products)

    def product_tasks(self, step: StepContext) -> Iterator[ProductTask]:
        """Yield the tasks with products of the step that was counted, with those that were: of the first micro-batch,
        errors in the first form."""
        for task in product_tasks(step):
            if task.task in self.untiled:
                key = FORMS[0] if task.forms else None, step.micro_batch_sizes[0], None
                task.all_untiled[key] = tuple(self.untiled[task.task].values())
            yield task

    def site(self, site: Site, task: TaskId) -> Site:
        """A core whose accesses are noted as the task's."""
        return site.with_accesses(_Noted(self, site, task), counts_products=False)

    def laid_out(
        self, gemm: Gemm, number: int, unfolding: Unfolding | None, array: Array, psum: Memory | None, core: int,
        task: TaskId,
    ) -> Gemm:  # fmt: skip
        """The product as it is, noted."""
        product = UntiledProduct(gemm, number, unfolding, array, psum, core, self.chip, self.book)
        self.untiled.setdefault(task, {}).setdefault(number, product)
        return gemm

    def away_pj(self, tasks: Iterable[Task]) -> Mapping[OtherKey, Away]:
        """What was noted costs more if nothing is there, per step. `tasks`: those that were counted, of which some run
        once in several steps."""
        pricing, never = self.book.pricing, 0.0 if self.chip.dram is not None else NEVER_PJ
        prices = dict[object, Away]()
        for key, seen in self.accesses.items():
            if key not in self.further:
                self.further[key] = seen.further(self.book)
            more = self.further[key]
            prices[key] = Away(pricing.energy_pj(more.away) + never * more.values, pricing.energy_pj(more.outer))
        found = defaultdict[OtherKey, Away](Away)
        for place, access in self.noted:
            found[place] = found[place].plus(prices[access])
        every = {task.id: task.every for task in tasks}
        return {key: more.over(every.get(key[1], 1)) for key, more in found.items()}


class Further(NamedTuple):
    """What is counted more for an access if nothing of it is on the chip, `away`, or all of it in its outer home; and
    its values."""

    away: tuple[Count, ...]
    outer: tuple[Count, ...]
    values: int


class Seen(NamedTuple):
    """An access that was noted, of values in bursts, with so many counts where all is there; `is_staged`: bits that are
    brought to their innermost home alone."""

    access: tuple[str, Memory, tuple[Tensor, Tensor], tuple[Burst, ...], int, float, int | InTurn | None]
    """Action, memory, tensors, bursts, bits, factor and values."""
    counts: int = 0
    is_staged: bool = False

    def further(self, book: PriceBook) -> Further:
        """What more it is if nothing is there, and if all is in its outer home."""
        away = self._beyond(book.elsewhere)
        values = sum(times * values for times, values in self.access[3])
        return Further(away, self._beyond(book.in_outer) if book.outer_homes else away, values)

    def _beyond(self, accesses: Accesses) -> _Counts:
        """The counts of the access beyond those where all is there."""
        _, memory, (tensor, _), ((_, values), *_), *_ = self.access
        traffic = accesses.staged(memory, tensor, values) if self.is_staged else accesses._access(*self.access)
        return traffic.counts[self.counts :]


class _Noted(TaskAccesses):
    """Accesses of a task to memories in which all is there, which its plan notes."""

    def __init__(self, plan: CountingPlan, site: Site, task: TaskId) -> None:
        super().__init__(plan.chip, site.prefix, TaskShares())
        self._plan, self._place = plan, (site.core, task)

    def _note(self, action: str, tensor: str, key: object, seen: Seen) -> None:
        self._plan.accesses.setdefault(key, seen)
        self._plan.noted.append(((*self._place, action, tensor), key))

    def _access(
        self, action: str, memory: Memory, tensors: tuple[Tensor, Tensor], bursts: tuple[Burst, ...], bits: int,
        factor: float, fetched: int | InTurn | None,
    ) -> Traffic:  # fmt: skip
        access = action, memory, tensors, bursts, bits, factor, fetched
        here = super()._access(*access)
        if memory.writable and here.counts and tensors[1] != "psum":
            key = action, memory.name, tensors, bursts, bits
            self._note(action, tensors[1], key, Seen(access, len(here.counts)))
        return here

    def staged(self, memory: Memory, tensor: Tensor, bits: int) -> Traffic:
        """Nothing, as all is there."""
        access = "read", memory, (tensor, tensor), ((1, bits),), 1, 1.0, None
        self._note("read", tensor, ("staged", memory.name, tensor, bits), Seen(access, is_staged=True))
        return super().staged(memory, tensor, bits)
