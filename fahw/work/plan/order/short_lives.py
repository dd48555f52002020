"""More dependencies of a step, so that what it keeps is there for a short time and room for it can be counted on.

Errors do not pile up: the error of a layer waits for the gradient of the one before the last that was computed on the
same core. Micro-batches do not either: what writes a tensor waits until all have read that of the micro-batch so many
before as steps may be in flight, so that there are never more copies of it. Neither makes a circle: the first follows
an order in which errors can be computed, each gradient behind its error; the second goes from later micro-batches to
earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fahw.work.context import StepContext
from fahw.work.counts.record import Task, TaskId, task_id
from fahw.work.plan.order.precedence import of_micro_batches, sorted_tasks
from fahw.work.plan.tensors.lives import KeptTensor

AHEAD = 2
"""An error waits for the gradient of the error so many before it on its core: one more may lie there unread."""

_Waits = dict[TaskId, dict[TaskId, None]]


def window(step: StepContext) -> int:
    """How many instances of a tensor may be there together: of the step's, or of the micro-batches'."""
    batches = len(step.micro_batch_sizes)
    return min(step.chip.steps_in_flight, batches) if batches > 1 else step.chip.steps_in_flight


def with_short_lives(tasks: Iterable[Task], step: StepContext, tensors: Sequence[KeptTensor]) -> tuple[Task, ...]:
    """The tasks of a step with more dependencies, each behind those that it waits for."""
    ordered = sorted_tasks(tasks)
    waits, waits_before = _error_waits(ordered, step), _Waits()
    ordered = sorted_tasks(_waiting(task, waits, waits_before) for task in ordered)
    if len(step.micro_batch_sizes) > 1:
        waits, waits_before = _batch_waits(ordered, step, tensors)
        ordered = sorted_tasks(_waiting(task, waits, waits_before) for task in ordered)
    return ordered


def _waiting(task: Task, waits: _Waits, waits_before: _Waits) -> Task:
    """The task, waiting for some more."""
    after = dict.fromkeys([*task.after, *waits.get(task.id, ())])
    before = dict.fromkeys([*task.after_previous, *waits_before.get(task.id, ())])
    return replace(task, after=tuple(after), after_previous=tuple(before))


def _of(task: TaskId, micro: int) -> TaskId:
    """The task of another micro-batch than the first."""
    return task_id(task[0], task[1], micro)


def _error_waits(tasks: Sequence[Task], step: StepContext) -> _Waits:
    """The gradients that error tasks wait for, so that few errors lie on a core unread."""
    place = {task.id: number for number, task in enumerate(tasks)}
    awaited = {task.id: task.after for task in tasks}
    made: dict[int, dict[TaskId, list[TaskId]]] = {}
    for part in (part for shares in step.parts.values() for part in shares if step.learns(part)):
        gradient = task_id("gradient", part.name)
        maker = max((name for name in awaited[gradient] if name[0] == "error"), key=place.__getitem__)
        made.setdefault(part.core, {}).setdefault(maker, []).append(gradient)
    waits = _Waits()
    for gradients in made.values():
        makers = sorted(gradients, key=place.__getitem__)
        for earlier, maker in zip(makers, makers[AHEAD:], strict=False):
            for micro in step.micro_batches:
                others = [_of(task, micro) for task in gradients[earlier]]
                waits.setdefault(_of(maker, micro), {}).update(dict.fromkeys(others))
    return waits


def _batch_waits(tasks: Sequence[Task], step: StepContext, tensors: Sequence[KeptTensor]) -> tuple[_Waits, _Waits]:
    """The readers of earlier micro-batches that writers wait for: of the same step, and of the step before."""
    number, ahead = len(step.micro_batch_sizes), window(step)
    waits, waits_before = _Waits(), _Waits()
    for writer, readers in _last_readers(tasks, step, tensors).items():
        for micro in step.micro_batches:
            group = waits if micro >= ahead else waits_before
            awaited = [_of(reader, (micro - ahead) % number) for reader in readers]
            group.setdefault(_of(writer, micro), {}).update(dict.fromkeys(awaited))
    return waits, waits_before


def _last_readers(
    tasks: Sequence[Task], step: StepContext, tensors: Sequence[KeptTensor]
) -> Mapping[TaskId, list[TaskId]]:
    """By task that writes something for others of its micro-batch, those that read it and come before no other that
    does."""
    names, order = of_micro_batches(tasks, len(step.micro_batch_sizes), window(step))
    index = {name: number for number, name in enumerate(names)}
    readers: dict[TaskId, int] = {}
    for tensor in tensors:
        uses = {*tensor.writes, *(use.task for use in tensor.reads)}
        if tensor.persistent or not uses <= index.keys():
            continue
        for writer in tensor.writes:
            readers[writer] = readers.get(writer, 0) | sum(1 << index[task] for task in uses)
    found = {}
    for writer, group in readers.items():
        numbers = [number for number in range(len(names)) if group >> number & 1]
        found[writer] = [names[number] for number in numbers if not order.after[0][number] & group]
    return found
