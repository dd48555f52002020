"""What the search decided for a step: forms of errors, room for tiles, and which share of what stays on the chip."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass, field, replace

from fahw.hardware.array import Array
from fahw.hardware.arrays.systolic import Folded
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.record import TaskId
from fahw.work.counts.site import Site
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from fahw.work.error_forms import ErrorFormName
from fahw.work.plan.pricing import PriceBook
from fahw.work.plan.tiles import Surroundings, Unfolding, laid_out, tiled_product

ALL_THERE = TaskShares()


@dataclass(frozen=True)
class StepPlan:
    """The decisions of one step. `shares`: by core and task; a task that is not named finds all that it needs there.
    `room`: bits for tiles, by task and memory. `forms`: of the errors of parts."""

    chip: Chip
    book: PriceBook
    shares: Table[tuple[int, TaskId], TaskShares] = field(default_factory=dict)
    room: Table[TaskId, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    forms: Table[str, ErrorFormName] = field(default_factory=dict)

    def site(self, site: Site, task: TaskId) -> Site:
        """A core as a task finds it."""
        shares = self.task_shares(site.core, task)
        return replace(site, accesses=TaskAccesses(self.chip, site.prefix, shares))

    def task_shares(self, core: int, task: TaskId) -> TaskShares:
        """Which share of what a task uses on a core is there."""
        return self.shares.get((core, task), ALL_THERE)

    def laid_out(
        self, gemm: Gemm, unfolding: Unfolding | None, array: Array, psum: Memory, core: int, task: TaskId
    ) -> Gemm:  # fmt: skip
        """A task's product in its best tiles; one whose array fixes what moves stays as it is.

        Raises ConfigError where no tile fits its memory.
        """
        if not isinstance(gemm.mapping, Folded):
            return gemm
        around = Surroundings(self.task_shares(core, task).operands, self.room.get(task, ()))
        return laid_out(gemm, tiled_product(gemm, unfolding, array, psum, self.chip, self.book, around), array)
