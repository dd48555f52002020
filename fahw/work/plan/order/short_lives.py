"""More dependencies of a step, so that what it keeps is there for a short time and room for it can be counted on.

Errors do not pile up: an error waits for the gradient of an earlier one on the same core. Micro-batches do not either:
what writes a tensor waits until all have read that of the micro-batch a `window` before. Where a step waits for the
update of the one before, the next samples come in while the last reader of the old ones runs; and under layer-by-layer
rules, whose gradients come in the opposite order of the way forward, no tensor is begun before the old one has gone.
Nor is any where the first layers do not learn, as then no update would hold up the next step.

None of these makes a circle: errors and gradients wait along an order in which they can be computed, and all else for
earlier micro-batches or steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from fahw.layers.layer import INPUT
from fahw.work.context import StepContext
from fahw.work.counts.record import Task, TaskId, task_id
from fahw.work.phases.forward import LOSS
from fahw.work.plan.order.precedence import Precedence, of_micro_batches, of_steps, sorted_tasks
from fahw.work.plan.tensors.lives import KeptTensor

_AHEAD = 3
"""An error waits for the gradient of the error so many before it on its core. With 2, arrays wait for the last results
of a task before the next may begin: on shipped chips that takes up to 6 % more time, 3 takes less than 1.3 %."""

_Waits = dict[TaskId, dict[TaskId, None]]


def window(step: StepContext) -> int:
    """How many instances of a tensor may be there together: of steps, or of the micro-batches of one, as many as steps
    may be in flight. Where layers lie on several cores, one is under way for each core, and one more comes in."""
    batches, steps = len(step.micro_batch_sizes), step.chip.steps_in_flight
    cores = {part.core for shares in step.parts.values() for part in shares}
    return steps if batches == 1 else min(batches, max(steps, len(cores) + 1 if len(cores) > 1 else 1))


def with_short_lives(tasks: Iterable[Task], step: StepContext, tensors: Sequence[KeptTensor]) -> tuple[Task, ...]:
    """The tasks of a step with more dependencies, each behind those that it waits for."""
    ordered = sorted_tasks(tasks)
    waits = _error_waits(ordered, step)
    ordered = sorted_tasks(_waiting(task, waits, {}) for task in ordered)
    if len(step.micro_batch_sizes) > 1:
        waits, waits_before = _batch_waits(ordered, step, tensors)
        return sorted_tasks(_waiting(task, waits, waits_before) for task in ordered)
    if step.chip.steps_in_flight > 1:
        waits_before = {} if step.chip.update_delay else _step_waits(ordered, step, tensors)
        for name, others in _forward_waits(ordered, step).items():
            waits_before.setdefault(name, {}).update(others)
        return tuple(_waiting(task, {}, waits_before) for task in ordered)
    return ordered


def _waiting(task: Task, waits: _Waits, waits_before: _Waits) -> Task:
    """The task, waiting for some more."""
    more, more_before = waits.get(task.id), waits_before.get(task.id)
    if not (more or more_before):
        return task
    after, before = dict.fromkeys(task.after) | (more or {}), dict.fromkeys(task.after_previous) | (more_before or {})
    return replace(task, after=tuple(after), after_previous=tuple(before))


def _of(task: TaskId, micro: int) -> TaskId:
    """The same task of another micro-batch."""
    return task_id(task[0], task[1], micro)


def _error_waits(tasks: Sequence[Task], step: StepContext) -> _Waits:
    """The gradients that error tasks wait for, so that few errors lie on a core unread. The output error of a direct
    rule does not count: all wait for it, and read it."""
    place = {task.id: number for number, task in enumerate(tasks)}
    awaited = {task.id: task.after for task in tasks}
    made: dict[int, dict[TaskId, list[TaskId]]] = {}
    for part in (part for shares in step.parts.values() for part in shares if step.learns(part)):
        gradient = task_id("gradient", part.name)
        maker = max((name for name in awaited[gradient] if name[0] == "error"), key=place.__getitem__)
        if step.rule.path == "layerwise" or maker != task_id("error", LOSS):
            made.setdefault(part.core, {}).setdefault(maker, []).append(gradient)
    waits: _Waits = {}
    for gradients in made.values():
        makers = sorted(gradients, key=place.__getitem__)
        for earlier, maker in zip(makers, makers[_AHEAD:], strict=False):
            for micro in step.micro_batches:
                others = [_of(task, micro) for task in gradients[earlier]]
                waits.setdefault(_of(maker, micro), {}).update(dict.fromkeys(others))
    return waits


def _batch_waits(tasks: Sequence[Task], step: StepContext, tensors: Sequence[KeptTensor]) -> tuple[_Waits, _Waits]:
    """The readers of earlier micro-batches that writers wait for: of the same step, and of the step before."""
    number, ahead = len(step.micro_batch_sizes), window(step)
    waits: _Waits = {}
    waits_before: _Waits = {}
    names, order = of_micro_batches(tasks, number, ahead)
    for writer, readers in _last_readers(names, order, tensors).items():
        for micro in step.micro_batches:
            group = waits if micro >= ahead else waits_before
            awaited = [_of(reader, (micro - ahead) % number) for reader in readers]
            group.setdefault(_of(writer, micro), {}).update(dict.fromkeys(awaited))
    return waits, waits_before


def _step_waits(tasks: Sequence[Task], step: StepContext, tensors: Sequence[KeptTensor]) -> _Waits:
    """The tasks of the step before that writers wait for."""
    names, order = [task.id for task in tasks], of_steps(tasks, 1)
    waits: _Waits = {}
    if step.rule.path == "layerwise":
        readers = _last_readers(names, order, tensors)
        waits = {writer: dict.fromkeys(others) for writer, others in readers.items()}
    samples, awaited = task_id("forward", INPUT), {task.id: task.after for task in tasks}
    values = [tensor for tensor in tensors if tensor.tensor == "activation" and samples in tensor.writes]
    last = _last_readers(names, order, values).get(samples, [])
    waits[samples] = dict.fromkeys(name for reader in last for name in awaited[reader])
    return waits


def _forward_waits(tasks: Sequence[Task], step: StepContext) -> _Waits:
    """The tasks of the step before that the first forward tasks wait for, where these learn nothing, so that no update
    holds them up: the last ones that have products. The samples wait for the last ones of the way forward."""
    frozen = {part.name for shares in step.parts.values() for part in shares if not step.learns(part)}
    order, products = of_steps(tasks, 1), [number for number, task in enumerate(tasks) if task.macs and task.every == 1]
    group = sum(1 << number for number in products)
    first = [number for number in products if not order.before[0][number] & group]
    if not all(tasks[number].layer in frozen for number in first):
        return {}
    forward = sum(1 << number for number in products if tasks[number].phase == "forward")
    last, samples = (dict.fromkeys(tasks[number].id for number in _last(some, order)) for some in (group, forward))
    return {task_id("forward", INPUT): samples} | {tasks[number].id: dict(last) for number in first}


def _last_readers(
    names: Sequence[TaskId], order: Precedence, tensors: Iterable[KeptTensor]
) -> Mapping[TaskId, list[TaskId]]:
    """By task that writes something for others of its instance, those that use it and come before no other that
    does."""
    index = {name: number for number, name in enumerate(names)}
    users: dict[TaskId, int] = {}
    for tensor in tensors:
        uses = {*tensor.writes, *(use.task for use in tensor.reads)}
        if tensor.persistent or not uses <= index.keys():
            continue
        group = sum(1 << index[task] for task in uses)
        for writer in tensor.writes:
            users[writer] = users.get(writer, 0) | group
    return {writer: [names[number] for number in _last(group, order)] for writer, group in users.items()}


def _last(group: int, order: Precedence) -> Iterator[int]:
    """Yield the tasks of a set after which no other of them comes; none has a lower number than those it follows."""
    while group:
        number = group.bit_length() - 1
        yield number
        group &= ~(order.before[0][number] | 1 << number)
