"""What the search decided for a step: forms of errors, room for tiles, and which share of what stays on the chip."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass, field, replace
from functools import cached_property

from fahw.errors import ConfigError, Problem
from fahw.hardware.array import Array
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.mapping.mapper import Tiling
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.plan_record import FusedRecord, TensorRecord
from fahw.work.counts.record import Placement, TaskId
from fahw.work.counts.site import Site
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from fahw.work.error_forms import ErrorFormName
from fahw.work.plan.pricing import PriceBook
from fahw.work.plan.tensors.outer_tiles import Surroundings
from fahw.work.plan.tiles import Unfolding, UntiledProduct, can_be_tiled, laid_out, narrowed

ALL_THERE = TaskShares()
ProductKey = tuple[TaskId, int, tuple[int, int, int]]
"""A product of a step: its task, its number among the task's, and M, N and K."""
LaidKey = tuple[TaskId, int, tuple[int, int, int], int]
"""The same, and how often it runs."""


@dataclass(frozen=True)
class StepPlan:
    """The decisions of one step. `shares`: by core and task; a task that is not named finds all that it needs there.
    `room`: bits for tiles, by task and memory. `forms`: of the errors of parts. `tilings`: of products whose mapping is
    pinned. `fused`: samples of a sub-batch, by tasks that share the tiles of an error. `tensors`: what is kept, and
    `errors`: of which the tiles are shared, for people to read."""

    chip: Chip
    book: PriceBook
    shares: Table[tuple[int, TaskId], TaskShares] = field(default_factory=dict)
    room: Table[TaskId, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    forms: Table[str, ErrorFormName] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    """What memories hold of one micro-batch, and what of it goes to DRAM."""
    tilings: Table[ProductKey, Tiling] = field(default_factory=dict)
    fused: Table[TaskId, int] = field(default_factory=dict)
    tensors: tuple[TensorRecord, ...] = ()
    errors: tuple[FusedRecord, ...] = ()
    one_level: bool = False
    """Whether homes behind the innermost ones stay empty."""
    narrowing: int = 0
    """What choices of mappings are left out (`tiles.NARROWER`)."""
    waits: bool = False
    """Whether tasks wait for room (`order/short_lives.py`)."""
    is_whole: bool = False
    """Whether all stays on the chip, and no product is cut or would be in more room."""
    laid: Table[LaidKey, Gemm] = field(default_factory=dict, compare=False, repr=False)
    """Products in their tiles, as far as the search found them."""

    @cached_property
    def anywhere(self) -> StepPlan:
        """The same plan where tiles have any room."""
        return replace(self, room={})

    def site(self, site: Site, task: TaskId) -> Site:
        """A core as a task finds it."""
        shares = self.task_shares(site.core, task)
        return site.with_accesses(TaskAccesses(self.chip, site.prefix, shares))

    def task_shares(self, core: int, task: TaskId) -> TaskShares:
        """Which share of what a task uses on a core is there."""
        return self.shares.get((core, task), ALL_THERE)

    def around(self, core: int, task: TaskId, room: tuple[tuple[str, float], ...]) -> Surroundings:
        """What a task's products find, with so much room for tiles."""
        shares = self.task_shares(core, task)
        return Surroundings(shares.operands, (shares.anywhere or shares).operands, room, self.one_level)

    def laid_out(
        self, gemm: Gemm, number: int, unfolding: Unfolding | None, array: Array, psum: Memory | None, core: int,
        task: TaskId,
    ) -> Gemm:  # fmt: skip
        """A task's product in its best tiles, or in those that are pinned; one whose array fixes what moves stays as it
        is. `number`: its own among the task's.

        Raises ConfigError where no tile fits its memory, or the pinned one does not.
        """
        known = self.laid.get((task, number, gemm.mapping.sizes, gemm.repeats))
        if known is not None:
            return known
        return self.tiled(UntiledProduct(gemm, number, unfolding, array, psum, core, self.chip, self.book), task)

    def tiled(self, untiled: UntiledProduct, task: TaskId) -> Gemm:
        """The same of a product that is known."""
        gemm = untiled.gemm
        if not can_be_tiled(gemm.mapping):
            return gemm
        tiling = self.tilings.get((task, untiled.number, gemm.mapping.sizes))
        room = self.room.get(task, ()) if tiling is None else all_room(self.chip)
        product = narrowed(untiled.around(self.around(untiled.core, task, room)), self.narrowing)
        try:
            return laid_out(gemm, product, untiled.array, tiling)
        except ConfigError as error:
            raise ConfigError(self._without_room(gemm, task, problem) for problem in error.problems) from None

    def _without_room(self, gemm: Gemm, task: TaskId, problem: Problem) -> Problem:
        """Why no tile of a product fits, with its name and what its parts are."""
        left, right = (
            " and ".join(dict.fromkeys(stream.stored or stream.tensor for stream in operand.streams)) or "generated"
            for operand in gemm.operands
        )
        parts = f"left: {left}, right: {right}, results: partial sums of {gemm.result}"
        message = f"{problem.place}: {task[0]} of {task[1]}: {problem.message} ({parts})"
        return Problem(self.chip.name, message, "memories")


@dataclass(frozen=True)
class NotingPlan(StepPlan):
    """A plan that maps nothing, and notes what it is asked to map."""

    noted: list[UntiledProduct] = field(default_factory=list)

    def laid_out(
        self, gemm: Gemm, number: int, unfolding: Unfolding | None, array: Array, psum: Memory | None, core: int,
        task: TaskId,
    ) -> Gemm:  # fmt: skip
        """The product as it is."""
        self.noted.append(UntiledProduct(gemm, number, unfolding, array, psum, core, self.chip, self.book))
        return gemm


def all_room(chip: Chip) -> tuple[tuple[str, float], ...]:
    """Bits of every memory of a chip, as room for tiles."""
    return tuple((memory.name, memory.kib * 8192) for memory in chip.memories)
