"""What it costs if what a task reads beside its product's operands, or writes, is not on the chip: the ledger says it.

The tasks of a step are counted once with all in place, and every access is priced a second time with nothing there. So
a plan's costs are those of its ledger, whatever part of a tensor a task touches, in whatever widths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fahw.hardware.array import Array
from fahw.hardware.arrays.mapping import Burst
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.work.counts.accesses import InTurn, Traffic
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.record import Task, TaskId
from fahw.work.counts.site import Site
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from fahw.work.plan.pricing import AWAY, IN_OUTER, NEVER_PJ, Pricing
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tiles import Unfolding

OtherKey = tuple[int, TaskId, str, str]
"""Accesses that a task makes beside those to operands: the core, the task, `read` or `write`, and the kind of tensor
that lies there."""
_Note = Callable[[str, str, "Away"], None]


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
    """A plan that maps nothing and keeps all, and notes in `found` what accesses cost more if nothing is there."""

    found: defaultdict[OtherKey, Away] = field(default_factory=lambda: defaultdict(Away))
    prices: dict[object, Away] = field(default_factory=dict)

    def site(self, site: Site, task: TaskId) -> Site:
        """A core whose accesses are noted as the task's."""

        def note(action: str, tensor: str, more: Away) -> None:
            key = site.core, task, action, tensor
            self.found[key] = self.found[key].plus(more)

        return replace(site, accesses=_Noted(self.chip, site.prefix, self.book.pricing, note, self.prices))

    def laid_out(
        self, gemm: Gemm, number: int, unfolding: Unfolding | None, array: Array, psum: Memory | None, core: int,
        task: TaskId,
    ) -> Gemm:  # fmt: skip
        """The product as it is."""
        return gemm

    def away_pj(self, tasks: Iterable[Task]) -> Mapping[OtherKey, Away]:
        """What was noted, per step. `tasks`: those that were counted, of which some run once in several steps."""
        every = {task.id: task.every for task in tasks}
        return {key: more.over(every.get(key[1], 1)) for key, more in self.found.items()}


class _Noted(TaskAccesses):
    """Accesses to memories in which all is there, with a note of what each costs more if it is not."""

    def __init__(self, chip: Chip, prefix: str, pricing: Pricing, note: _Note, prices: dict[object, Away]) -> None:
        super().__init__(chip, prefix, TaskShares())
        self._away, self._in_outer = (TaskAccesses(chip, prefix, shares) for shares in (AWAY, IN_OUTER))
        self._two_homes = chip.has_outer_homes
        self._pricing, self._note, self._prices = pricing, note, prices

    def _access(
        self, action: str, memory: Memory, tensors: tuple[Tensor, Tensor], bursts: tuple[Burst, ...], bits: int,
        factor: float, fetched: int | InTurn | None,
    ) -> Traffic:  # fmt: skip
        access = action, memory, tensors, bursts, bits, factor, fetched
        here = super()._access(*access)
        if memory.writable and here.counts and tensors[1] != "psum":
            key = action, memory.name, tensors, bursts, bits
            if key not in self._prices:
                away, outer = (
                    self._pricing.energy_pj(accesses._access(*access).counts[len(here.counts) :])
                    for accesses in (self._away, self._in_outer if self._two_homes else self._away)
                )
                self._prices[key] = Away(away + self._never(bursts), outer)
            self._note(action, tensors[1], self._prices[key])
        return here

    def staged(self, memory: Memory, tensor: Tensor, bits: int) -> Traffic:
        """Nothing, as all is there."""
        away, outer = (
            self._pricing.energy_pj(accesses.staged(memory, tensor, bits).counts)
            for accesses in (self._away, self._in_outer)
        )
        self._note("read", tensor, Away(away + self._never([(1, bits)]), outer))
        return super().staged(memory, tensor, bits)

    def _never(self, bursts: Iterable[Burst]) -> float:
        """More than all else for each value, where there is no DRAM."""
        return 0.0 if self._chip.dram is not None else NEVER_PJ * sum(times * values for times, values in bursts)
