"""What the products of a step cost under a plan: energy, cycles, room for tiles, and what it costs if an operand is not
there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Table
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from fahw.errors import ConfigError
from fahw.hardware.arrays.mapping import Mapping
from fahw.mapping.problem import FlowCosts
from fahw.mapping.tiled import TiledMapping
from fahw.work.context import StepContext
from fahw.work.counts.gemm import Gemm, fetched_values
from fahw.work.counts.record import TaskId, task_id
from fahw.work.counts.task_accesses import TaskAccesses, TaskShares
from fahw.work.error_forms import ErrorFormName
from fahw.work.layer_gemms import (
    error_gemms,
    forward_gemm,
    gathers_or_scatters,
    gradient_gemm,
    handed_on_sums,
    mirror_gemm,
    noise_gemm,
    outer_product_gemm,
)
from fahw.work.mesh import Part
from fahw.work.phases.forward import RECOMPUTE
from fahw.work.plan.pricing import NOWHERE
from fahw.work.plan.step_plan import LaidKey, NotingPlan, StepPlan
from fahw.work.plan.tiles import UntiledProduct

FORMS: tuple[ErrorFormName, ErrorFormName] = ("scatter", "gather")
_Products = Callable[[StepContext, Part, int], Sequence[Gemm]]


@dataclass(frozen=True)
class ProductTask:
    """A task with products: its part, the core and array that run it, how often it runs in a step, and the forms that
    its product can take, where it has a choice."""

    task: TaskId
    part: Part
    core: int
    array: str
    times: int
    products: _Products
    forms: tuple[ErrorFormName, ...] = ()
    all_untiled: dict[object, tuple[UntiledProduct, ...]] = field(default_factory=dict, compare=False, repr=False)
    """Its products, by form, samples, and those of a sub-batch where it shares tiles."""
    untiled_before: Table[object, tuple[UntiledProduct, ...]] = field(default_factory=dict, compare=False, repr=False)
    """The same on a chip with other sizes of memories, where they were searched there before."""
    known: dict[object, list[InRoom]] = field(default_factory=dict, compare=False, repr=False)
    """What was measured of it in this search, by what it finds around it but room."""

    def untiled(
        self, step: StepContext, plan: StepPlan, form: ErrorFormName | None, samples: int
    ) -> tuple[UntiledProduct, ...]:
        """Its products of so many samples, to be mapped, with the error in this form. They depend on nothing of the
        plan but whether the task shares the tiles of an error."""
        key = form, samples, plan.fused.get(self.task)
        if key not in self.all_untiled:
            before = self.untiled_before.get(key)
            there = before and tuple(product.on(plan.chip, plan.book) for product in before)
            self.all_untiled[key] = there or self._noted(step, plan, form, samples)
        return self.all_untiled[key]

    def _noted(
        self, step: StepContext, plan: StepPlan, form: ErrorFormName | None, samples: int
    ) -> tuple[UntiledProduct, ...]:
        """The products that its count asks a plan to map."""
        forms = {self.part.name: form} if form is not None else plan.forms
        noting = NotingPlan(plan.chip, plan.book, forms=forms, fused=plan.fused)
        self.products(step.under(noting).during(self.task), self.part, samples)
        return tuple(noting.noted)


@dataclass(frozen=True)
class Measured:
    """`energy_pj` and `cycles` of all products of a step. By task and kind of tensor, `absent_pj`: what an operand
    costs if it is not there at all, and `outer_pj`: if it lies in its outer home. By task and memory, `room`: bits of
    its tiles; `sums_room`: of those of sums alone. `forms`: the better ones, by part. `spills`: whether any sums go to
    DRAM, or an outer home. `is_whole`: whether no product is cut, and none would be in more room."""

    energy_pj: float = 0.0
    cycles: float = 0.0
    absent_pj: Table[tuple[TaskId, str], float] = field(default_factory=dict)
    outer_pj: Table[tuple[TaskId, str], float] = field(default_factory=dict)
    room: Table[tuple[TaskId, str], float] = field(default_factory=dict)
    sums_room: Table[tuple[TaskId, str], float] = field(default_factory=dict)
    forms: Table[str, ErrorFormName] = field(default_factory=dict)
    spills: bool = False
    is_whole: bool = False


class InRoom(NamedTuple):
    """What was measured of a task in so much room (no limit of a memory that is not named). What is best there is best
    in less where it fits, but for `depends`: outer tiles have parts of the same room."""

    room: tuple[tuple[str, float], ...]
    measured: Measured
    gemms: tuple[Gemm, ...]
    """Its products in their tiles."""
    depends: bool = False

    def holds_in(self, room: tuple[tuple[str, float], ...]) -> bool:
        """Whether the same would be measured in this room."""
        if self.depends or room == self.room:
            return room == self.room
        limits = dict(room)
        fits = all(bits <= limits.get(memory, inf) for (_, memory), bits in self.measured.room.items())
        return fits and all(limits.get(memory, inf) <= limit for memory, limit in self.room)


def product_tasks(step: StepContext) -> tuple[ProductTask, ...]:
    """The tasks of the first micro-batch, and of the step, that have products."""
    parts = [part for shares in step.parts.values() for part in shares]
    return tuple(work for part in parts for work in _tasks_of(step, part))


def _tasks_of(step: StepContext, part: Part) -> Iterator[ProductTask]:
    name, micro_batches = part.name, len(step.micro_batch_sizes)

    def task(phase: str, core: int, array: str, products: _Products, times: int = micro_batches) -> ProductTask:
        return ProductTask(task_id(phase, name), part, core, array, times, products)

    arrays = {phase: getattr(step.chip.array_of(phase), "name", "") for phase in ("forward", "error", "gradient")}
    yield task("forward", part.core, arrays["forward"], lambda s, p, n: [forward_gemm(s, p, n)])
    if part.whole.name in step.segments.again:
        yield task(RECOMPUTE, part.core, arrays["forward"], lambda s, p, n: [forward_gemm(s, p, n)])
    if step.learns(part):
        yield task("gradient", part.core, arrays["gradient"], lambda s, p, n: [gradient_gemm(s, p, n)])
    if step.sends_error(part) and not step.rule.sent.names_rows:
        forms = _forms(step, part)
        yield replace(task("error", part.error_core, arrays["error"], error_gemms), forms=forms)
    if not (step.sends_error(part) and step.learns(part)):
        return
    if step.recomputes_gradient:
        yield task("transport", part.error_core, arrays["error"], _recomputed)
    elif step.rule.learned == "mirror":
        noise = task("forward", part.core, arrays["forward"], lambda s, p, n: [noise_gemm(s, p)], 1)
        yield replace(noise, task=task_id("forward", name, micro_batches))
        yield task("transport", part.error_core, arrays["error"], lambda s, p, n: [mirror_gemm(s, p)], 1)


def _recomputed(step: StepContext, part: Part, samples: int) -> Sequence[Gemm]:
    return [outer_product_gemm(step, part, samples, "error", "feedback")]


def _forms(step: StepContext, part: Part) -> tuple[ErrorFormName, ...]:
    if not gathers_or_scatters(step, part):
        return ()
    pinned = step.chip.error_form
    return FORMS if pinned == "best" else (pinned,)


def measured(
    step: StepContext, plan: StepPlan, tasks: Sequence[ProductTask], before: Measured | None = None
) -> Measured:  # fmt: skip
    """What the products cost under the plan, each error in its better form. `before`: of an earlier plan, which says
    what an operand costs that is always there now.

    Raises ConfigError where no tile fits its memory.
    """
    absent: dict[tuple[TaskId, str], float] = dict(before.absent_pj) if before is not None else {}
    outer: dict[tuple[TaskId, str], float] = dict(before.outer_pj) if before is not None else {}
    room: dict[tuple[TaskId, str], float] = {}
    sums_room: dict[tuple[TaskId, str], float] = {}
    forms: dict[str, ErrorFormName] = {}
    energy, cycles, spills = 0.0, 0.0, False
    for task in tasks:
        found = _best_form(step, plan, task)
        energy, cycles = energy + found.energy_pj * task.times, cycles + found.cycles * task.times
        absent |= found.absent_pj
        outer |= found.outer_pj
        room |= found.room
        sums_room |= found.sums_room
        forms |= found.forms
        spills = spills or found.spills
    return Measured(energy, cycles, absent, outer, room, sums_room, forms, spills)


def _best_form(step: StepContext, plan: StepPlan, task: ProductTask) -> Measured:
    decided = plan.forms.get(task.part.name)
    forms = ((decided,) if decided in task.forms else task.forms) or (None,)
    found, problems = list[Measured](), list[ConfigError]()
    for form in forms:
        try:
            found.append(_in_form(step, plan, task, form))
        except ConfigError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    is_latency = step.chip.mapping_objective == "latency"
    return found[0] if len(found) == 1 else min(found, key=lambda one: one.cycles if is_latency else one.energy_pj)


def with_products(step: StepContext, tasks: Sequence[ProductTask]) -> StepContext:
    """The step with its products in the tiles that a search found for its plan, which need not be found again."""
    plan, laid = step.plan, dict[LaidKey, Gemm]()
    assert plan is not None, "a search found it"
    for task in tasks:
        decided = plan.forms.get(task.part.name) if task.forms else None
        for number, gemm in enumerate(_in_room(step, plan, task, decided).gemms):
            laid[task.task, number, gemm.mapping.sizes, gemm.repeats] = gemm
    return step.under(replace(plan, laid=laid))


def stay_whole(step: StepContext, plan: StepPlan, tasks: Sequence[ProductTask]) -> bool:
    """Whether no product is cut under the plan, in any form that its error can take, and none would be in more room."""
    try:
        return all(_in_form(step, plan, task, form).is_whole for task in tasks for form in task.forms or (None,))
    except ConfigError:
        return False


def _in_form(step: StepContext, plan: StepPlan, task: ProductTask, form: ErrorFormName | None) -> Measured:
    return _in_room(step, plan, task, form).measured


def _in_room(step: StepContext, plan: StepPlan, task: ProductTask, form: ErrorFormName | None) -> InRoom:
    """What a task costs with its error in a form, measured once for what it finds around it."""
    shares, room = plan.task_shares(task.core, task.task), plan.room.get(task.task, ())
    operands = tuple(shares.operands.items()), tuple((shares.anywhere or shares).operands.items()), plan.one_level
    pinned = tuple(item for item in plan.tilings.items() if item[0][0] == task.task) if plan.tilings else ()
    known = task.known.setdefault((form, plan.fused.get(task.task), plan.narrowing, operands, pinned), [])
    for item in known:
        if item.holds_in(room):
            return item
    depends = bool(plan.book.outer_homes)
    if not known and not depends:
        with suppress(ConfigError):
            known.append(InRoom((), *_measured_task(step, plan.anywhere, task, form)))
            if known[0].holds_in(room):
                return known[0]
    known.append(InRoom(room, *_measured_task(step, plan, task, form), depends))
    return known[-1]


def _measured_task(
    step: StepContext, plan: StepPlan, task: ProductTask, form: ErrorFormName | None
) -> tuple[Measured, tuple[Gemm, ...]]:
    untiled = task.untiled(step, plan, form, step.micro_batch_sizes[0])
    gemms = tuple(plan.tiled(product, task.task) for product in untiled)
    found = _measured_products(plan, task, untiled, gemms)
    if task.task in plan.fused and task.task[0] == "gradient":
        found = replace(found, energy_pj=found.energy_pj + _handed_on_pj(step, plan, task, untiled[0]))
    return found if form is None else replace(found, forms={task.part.name: form}), gemms


def _handed_on_pj(step: StepContext, plan: StepPlan, task: ProductTask, product: UntiledProduct) -> float:
    """What the sums cost that one sub-batch leaves for the next."""
    under = replace(step, plan=plan, task=task.task)
    prices = plan.book.product_prices(product.gemm, product.array, product.psum)
    return handed_on_sums(under, task.part, step.micro_batch_sizes[0]) * prices.partial_sum


def _measured_products(
    plan: StepPlan, task: ProductTask, products: Sequence[UntiledProduct], gemms: Sequence[Gemm]
) -> Measured:
    absent, outer = defaultdict[tuple[TaskId, str], float](float), defaultdict[tuple[TaskId, str], float](float)
    room, sums_room = defaultdict[tuple[TaskId, str], float](float), defaultdict[tuple[TaskId, str], float](float)
    energy, cycles, spills, is_whole = 0.0, 0.0, False, True
    for product, gemm in zip(products, gemms, strict=True):
        _add_absent(plan, task, product, gemm, absent, outer)
        mapping = gemm.mapping
        is_whole = is_whole and _stays_whole(product, mapping)
        if isinstance(mapping, TiledMapping):
            energy += mapping.mapped.energy_pj * gemm.repeats
            cycles += mapping.mapped.latency * gemm.repeats
            spills = spills or mapping.mapped.spilled_sums > 0
            for memory, bits in mapping.room.items():
                room[task.task, memory] = max(room[task.task, memory], bits)
            for memory, bits in mapping.sums_room.items():
                sums_room[task.task, memory] = max(sums_room[task.task, memory], bits)
        else:
            cycles += gemm.cycles
            energy += _missing_pj(plan, task, absent, outer)
    tables = dict(absent), dict(outer), dict(room), dict(sums_room)
    return Measured(energy, cycles, *tables, spills=spills, is_whole=is_whole)


def _stays_whole(product: UntiledProduct, mapping: Mapping) -> bool:
    """Whether a product is not cut, and would not be in more room while its operands are there."""
    is_cut = not isinstance(mapping, TiledMapping) or mapping.mapped.tiling.tile != mapping.sizes
    return not is_cut and product.is_best_whole


_Costs = dict[tuple[TaskId, str], float]
"""pJ by task and kind of tensor."""


def _missing_pj(plan: StepPlan, task: ProductTask, absent: _Costs, outer: _Costs) -> float:
    """What the operands of a task cost that are not in their innermost homes."""
    shares = plan.task_shares(task.core, task.task)
    inner, on_chip = shares.operands, (shares.anywhere or shares).operands
    energy = 0.0
    for (_, kind), from_dram in absent.items():
        away = 1 - on_chip.get(kind, 1.0)
        energy += from_dram * away + outer.get((task.task, kind), 0.0) * (1 - inner.get(kind, 1.0) - away)
    return energy


def _add_absent(
    plan: StepPlan, task: ProductTask, product: UntiledProduct, gemm: Gemm, absent: _Costs, outer: _Costs
) -> None:
    """Add what each operand of a product costs if it is not there, and if it is in its outer home alone. One that is
    there wholly says nothing."""
    shares = plan.task_shares(task.core, task.task).operands
    fetched = fetched_values(gemm, TaskAccesses(plan.chip, "", TaskShares(NOWHERE)))
    costs = gemm.mapping.costs if isinstance(gemm.mapping, TiledMapping) else FlowCosts()
    for side, streams in enumerate(product.streams):
        through = gemm.mapping.through_outer[side]
        for stream in streams:
            if shares.get(stream.stored, 1.0) < 1:
                move = fetched[side] * stream.move_pj * costs.moves[side]
                from_dram = fetched[side] * stream.fetch_pj * costs.fetches[side]
                if through is not None:
                    from_dram = move + through * gemm.repeats * stream.to_outer_pj * costs.to_outer[side]
                absent[task.task, stream.stored] += from_dram
                outer[task.task, stream.stored] += move if stream.outer else from_dram


def in_least_room(step: StepContext, plans: Sequence[StepPlan], tasks: Sequence[ProductTask]) -> StepPlan:
    """The last plan, with each task in the room of the first one that its tiles fit."""
    room = {
        task.task: next((plan for plan in plans if _fits(step, plan, task)), plans[-1]).room[task.task]
        for task in tasks
    }
    return replace(plans[-1], room=room)


def _fits(step: StepContext, plan: StepPlan, task: ProductTask) -> bool:
    try:
        measured(step, plan, [task])
    except ConfigError:
        return False
    return True
