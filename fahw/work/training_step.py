"""One training step of a network under a rule on a chip, as tasks. See docs/model.md for every equation.

    input -> forward(1) -> ... -> forward(L) -> loss -> error(L) -> ... -> error(2)
    gradient(l) after the error at l's output; update(l) after gradient(l); transport(l) after update(l)

Under a direct rule every error(l) waits for the loss alone. Micro-batches go through the phases one after the other and
meet in the update. On a mesh a layer's tasks run on its core, or in shares on several; results go where they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from fahw.activity import Activity
from fahw.errors import ConfigError, Problem, suggestion
from fahw.hardware.chip import Chip
from fahw.hardware.part import Form
from fahw.layers.layer import INPUT
from fahw.network.error_path import check_learning, roles_of
from fahw.network.graph import Network
from fahw.rules.rule import Rule
from fahw.work import learned_feedback, tensor_sizes, transport
from fahw.work.context import StepContext
from fahw.work.core_contents import CoreContents, placed_on
from fahw.work.counts.plan_record import PlanRecord
from fahw.work.counts.record import Count, Task, TaskId, Work, task_id
from fahw.work.layer_gemms import error_form
from fahw.work.mesh import Part, parts_of
from fahw.work.phases.error import error_task
from fahw.work.phases.forward import LOSS, RECOMPUTE, forward_task, input_task, loss_task
from fahw.work.phases.gradient import gradient_task
from fahw.work.phases.recompute import ids_of_way_back, recompute_tasks, waiting_for_recomputed, way_back
from fahw.work.phases.update import update_task
from fahw.work.plan.measured import with_products
from fahw.work.plan.order.short_lives import with_short_lives
from fahw.work.plan.others import CountingPlan
from fahw.work.plan.pricing import Pricing, price_book
from fahw.work.plan.records import plan_record
from fahw.work.plan.rivals import differ_in_sizes, is_same_on
from fahw.work.plan.search import known_plan, planned, remember
from fahw.work.plan.sizes import bits_of_all
from fahw.work.plan.step_plan import StepPlan
from fahw.work.plan.tensors.kept_tensors import KeptTensor, kept_tensors

MOST_TASKS = 20_000
"""The most tasks of a step. Each is simulated, and compared with those that it may meet at a port: more take minutes
and gigabytes."""
MOST_FLOWS = 100_000
"""The most flows of all tasks of a step through ports and links: on a mesh a message takes every link of its way."""
_MOST_INFERENCES = 4
"""Networks whose inference is remembered of each chip and batch."""
NONE = "none"
"""Transport of a rule that moves nothing."""


def form_of(chip: Chip, rule: Rule, transport_form: str | None, network: Network | None = None) -> Form | None:
    """The form of transport for a rule: the chip's first where none is asked for, None where the rule moves nothing, as
    no layer of `network` sends an error down."""
    reads_weight = rule.reads_weight and (network is None or bool(roles_of(network, rule).sends))
    form = next((form for form in chip.transport if transport_form in (None, form)), None)
    if not chip.transport and reads_weight:
        message = f"{rule.name} uses the forward weights, and the chip has no form of transport (`transport: []`)"
        raise ConfigError(Problem(chip.name, message, "transport"))
    if not chip.transport and transport_form is None:
        return None
    if form is None and (reads_weight or transport_form != NONE):
        advice = suggestion(str(transport_form), chip.transport)
        message = (
            f"no transport '{transport_form}' on this chip{advice}; its forms: {', '.join(chip.transport) or NONE}"
        )
        raise ConfigError(Problem(chip.name, message, "transport"))
    return form if reads_weight else None


def training_step(
    chip: Chip, network: Network, rule: Rule, batch_size: int, form: Form | None, activity: Activity | None = None,
    pricing: Callable[[Chip], Pricing] | None = None, rival: Work | None = None,
) -> Work:  # fmt: skip
    """The work of one step. Raises ConfigError with advice where the chip cannot host the rule or the network.

    `activity`: measured shares of zeros and changes, by layer; the chip file's assumed ones where absent. `pricing`:
    the prices of a chip, which the search for the best mapping needs (`mapping: best`). `rival`: the work of the same
    step on a chip with other sizes of memories, of which the search takes what it can.
    """
    if batch_size < 1:
        raise ConfigError(Problem("batch_size", f"must be at least 1 (got {batch_size})"))
    if missing := [layer.name for layer in network.weighted if activity and layer.name not in activity.layers]:
        raise ConfigError(Problem("activity", f"measured on another network: nothing of {', '.join(missing)}"))
    check_learning(network, rule)
    parts = parts_of(chip, network, rule.path == "direct")
    _check_tasks(chip, sum(map(len, parts.values())), batch_size)
    contents = CoreContents(chip, network, rule, batch_size, form, parts, activity)
    chip = contents.sized_chip
    sites, placements = placed_on(contents, chip)
    step, counted = contents.context(chip, sites), None
    if chip.mapping == "best":
        assert pricing is not None, "a search needs prices"
        if contents.fits_writable:
            chip = contents.fitted_chip(bits_of_all(step, *_counted(step, pricing)))
            step = contents.context(chip, placed_on(contents, chip)[0])
        step, counted = _with_plan(step, pricing, rival)
        placements = [*contents.all_rom_placements, *_plan_of(step).placements]
    tasks = tuple(_checked_tasks(step, _still_so(step, counted)))
    if step.plan is not None and step.plan.waits:
        tasks = with_short_lives(tasks, step, counted.tensors if counted else kept_tensors(step))
    stored = sum(bits["feedback"] for bits in contents.bits.values()) + sum(contents.rom_bits.values())
    same = partial(is_same_on, step=step, pricing=pricing, counted=counted.plan if counted else None)
    return Work(
        chip, tasks, tuple(placements), stored, _one_time(step), _padding_macs(step, tasks),
        partial(_inference, step, pricing), partial(_record, step), same, counted,
    )  # fmt: skip


def _check_tasks(chip: Chip, parts: int, batch_size: int) -> None:
    """Raise ConfigError where a step can have more than `MOST_TASKS` tasks, before any is made."""
    micro_batches = -(-batch_size // chip.together(batch_size))
    phases = 3 + (chip.recompute > 1)
    tasks = micro_batches * (2 + phases * parts) + 3 * parts
    if tasks > MOST_TASKS:
        message = (
            f"{micro_batches:,} micro-batches through {parts:,} layers or parts of layers take up to {tasks:,} tasks"
        )
        advice = "a larger micro_batch or a smaller batch has fewer" if micro_batches > 1 else "fewer layers or cores"
        raise ConfigError(
            Problem(chip.name, f"{message}; at most {MOST_TASKS:,} are simulated: {advice}", "micro_batch")
        )


def _checked_tasks(step: StepContext, known: Mapping[TaskId, Task] | None = None) -> list[Task]:
    """The tasks of the step, of which some may be known. Raises ConfigError as soon as they have more flows than are
    simulated."""
    tasks, flows = list[Task](), 0
    for task in _tasks(step, known or {}):
        tasks.append(task)
        flows += len(task.loads) + len(task.drains)
        if flows > MOST_FLOWS:
            message = f"its tasks use ports and links more than {MOST_FLOWS:,} times a step: take a smaller mesh"
            raise ConfigError(
                Problem(step.chip.name, f"{message}, fewer cores for a layer, or a larger micro_batch", "mesh")
            )
    return list(waiting_for_recomputed(step, tasks))


class _Counted(NamedTuple):
    """The tasks of a step as they are counted without a plan, what it keeps, and what they were counted under."""

    tasks: tuple[Task, ...]
    tensors: tuple[KeptTensor, ...]
    plan: CountingPlan


def _counted(step: StepContext, pricing: Callable[[Chip], Pricing]) -> _Counted:
    counted = CountingPlan(step.chip, price_book(pricing(step.chip), step.chip))
    tasks = tuple(_checked_tasks(step.under(counted)))
    counted.products[:] = counted.product_tasks(step)
    return _Counted(tasks, kept_tensors(step), counted)


def _counted_before(chip: Chip, rival: Work | None, pricing: Callable[[Chip], Pricing]) -> _Counted | None:
    """What was counted for a rival, where it is the same on this chip."""
    if rival is None or not isinstance(rival.counted, _Counted) or not differ_in_sizes(rival.chip, chip):
        return None
    return rival.counted._replace(plan=rival.counted.plan.on(chip, price_book(pricing(chip), chip)))


def _with_plan(
    step: StepContext, pricing: Callable[[Chip], Pricing], rival: Work | None = None
) -> tuple[StepContext, _Counted | None]:
    """The step with the best plan found for what it keeps, and what the search began with; None where the plan is
    known."""
    if (plan := known_plan(step)) is not None:
        return step.under(plan), None
    counted = _counted_before(step.chip, rival, pricing) or _counted(step, pricing)
    step = with_products(planned(step, *counted), counted.plan.products)
    remember(step)
    return step, counted


def _record(step: StepContext) -> PlanRecord | None:
    """The decisions of a step, where it has a plan."""
    return plan_record(step) if step.plan is not None else None


def _plan_of(step: StepContext) -> StepPlan:
    assert step.plan is not None, "a search found it"
    return step.plan


def _still_so(step: StepContext, counted: _Counted | None) -> dict[TaskId, Task]:
    """The tasks without products that were counted before, while all was there, and find all there under the plan."""
    if counted is None or step.chip.recompute > 1:
        return {}
    away = {
        task
        for (_, task), shares in _plan_of(step).shares.items()
        for found in (shares, shares.anywhere or shares)
        if any(share != 1 for kinds in (found.operands, found.reads, found.writes) for share in kinds.values())
    }
    return {
        task.id: task for task in counted.tasks if not task.macs and task_id(task.phase, task.layer) not in away
    }  # fmt: skip


def _tasks(step: StepContext, known: Mapping[TaskId, Task]) -> Iterable[Task]:
    layers = step.network.weighted
    # Where errors do not wait for each other, the first layers go first: the next step's forward waits for them.
    order = layers if step.rule.path == "direct" else layers[::-1]
    ordered_parts = [part for layer in order for part in step.parts[layer.name]]
    for micro in range(len(step.micro_batch_sizes)):
        samples = known.get(task_id("forward", INPUT, micro))
        yield samples or input_task(step.during(task_id("forward", INPUT)), micro)
        for layer in layers:
            for part in step.parts[layer.name]:
                yield forward_task(step.during(task_id("forward", part.name)), part, micro)
        if not step.trains:
            continue
        yield known.get(task_id("error", LOSS, micro)) or loss_task(step.during(task_id("error", LOSS)), micro)
        yield from _way_back(step, micro)
    for part in filter(step.learns, ordered_parts):
        name = task_id("update", part.name)
        yield known.get(name) or update_task(step.during(name), part)
    for part in filter(step.sends_error, (part for layer in reversed(layers) for part in step.parts[layer.name])):
        if not step.learns(part):
            continue
        if step.has_weight_copy:
            name = task_id("transport", part.name)
            yield known.get(name) or transport.transport_task(step.during(name), part)
        yield from learned_feedback.feedback_learning_tasks(step, part)


def _way_back(step: StepContext, micro: int) -> Iterable[Task]:
    """The tasks of errors and gradients of one micro-batch, segment by segment, and before them what is computed
    again."""
    before = [task_id("error", LOSS, micro)]
    for names, again in way_back(step):
        yield from recompute_tasks(step, again, before, micro)
        parts = [part for name in names for part in step.parts[name]]
        for part in filter(step.sends_error, parts):
            yield error_task(step.during(task_id("error", part.name)), part, micro)
        for part in filter(step.learns, parts):
            yield gradient_task(step.during(task_id("gradient", part.name)), part, micro)
        before = ids_of_way_back(step, names, micro) or before


def _one_time(step: StepContext) -> tuple[Count, ...]:
    """Counts of writing the rule's own feedback weights once before training, where their memory is written."""
    rule, width = step.rule, step.bits("feedback")
    fixed = step.chip.fixed_home
    if fixed is None or not fixed.writable:
        return ()
    counts: list[Count] = []
    for part in (part for shares in step.parts.values() for part in shares):
        values = tensor_sizes.feedback_values(step.network, step.graph, step.rule, part)
        site = step.sites[part.error_core]
        bits = tensor_sizes.fixed_bits(step.network, rule, part.whole, width) + rule.learned_bits(width)
        if values and bits:
            counts += site.accesses.write(site.fixed_home("error"), "feedback", [(1, values)], bits).counts
    return _merged(counts)


def _padding_macs(step: StepContext, tasks: Iterable[Task]) -> int:
    """Multiply-accumulates with zeros of paddings, or whose results fall there; a direct rule's errors have none."""
    parts = {part.name: part for shares in step.parts.values() for part in shares}
    phases = {"forward", RECOMPUTE, "gradient"} | ({"error"} if step.rule.path == "layerwise" else set())
    return round(
        sum(
            _with_padding(step, parts[task.layer], task)
            for task in tasks
            if task.phase in phases and task.layer in parts
        )
    )


def _with_padding(step: StepContext, part: Part, task: Task) -> float:
    """Of a task's multiply-accumulates those with zeros of paddings; of a gathered error those beyond the outputs."""
    form = error_form(step, part, step.micro_batch_sizes[task.micro]) if task.phase == "error" else None
    return task.macs * part.whole.padding_share if form is None else form.border_macs


def _inference(step: StepContext, pricing: Callable[[Chip], Pricing] | None) -> tuple[Count, ...]:
    """Counts of the samples of a step in inference, on the memories of training, under a plan of its own: nothing waits
    for a way back."""
    step = step.without_training()
    if pricing is None or step.plan is None:
        return _inference_counts(step)
    step = replace(step, chip=step.chip.without_pins(), plan=None)
    if step.chip.mesh is not None:  # what layers are on a core may depend on the rule
        return _inference_counts(_with_plan(step, pricing)[0])
    known = _known_inference(step.chip, step.micro_batch_sizes, step.transposable)
    for network, activity, counts in known:
        if (network is step.network or network == step.network) and activity == step.activity:
            return counts
    counts = _inference_counts(_with_plan(step, pricing)[0])
    known[:] = [*known[-_MOST_INFERENCES + 1 :], (step.network, step.activity, counts)]
    return counts


@lru_cache(maxsize=64)
def _known_inference(
    chip: Chip, micro_batch_sizes: tuple[int, ...], transposable: bool
) -> list[tuple[Network, Activity | None, tuple[Count, ...]]]:  # fmt: skip
    """The counts of networks in inference that are known, the same under every rule; none at first."""
    return []


def _inference_counts(step: StepContext) -> tuple[Count, ...]:
    """Counts of the samples of a step that does not train."""
    counts: list[Count] = []
    for size, micro_batches in Counter(step.micro_batch_sizes).items():
        micro = step.micro_batch_sizes.index(size)
        parts = [part for layer in step.network.weighted for part in step.parts[layer.name]]
        forward = (forward_task(step.during(task_id("forward", part.name)), part, micro) for part in parts)
        for task in (input_task(step.during(task_id("forward", INPUT)), micro), *forward):
            counts += task.counts * micro_batches
    return _merged(counts)


def _merged(counts: Iterable[Count]) -> tuple[Count, ...]:
    totals: dict[tuple[str, str, str, tuple[int, ...], float], int] = {}
    for count in counts:
        address = (count.component, count.action, count.tensor, count.widths, count.factor)
        totals[address] = totals.get(address, 0) + count.count
    return tuple(
        Count(component, action, tensor, number, widths, factor)
        for (component, action, tensor, widths, factor), number in totals.items()
    )
