"""The tasks that compute again what the chip has not kept, segment by segment, and who waits for them.

The way back goes from the last segment to the first, under every rule. A segment runs again when the errors and
gradients of the one above have ended, so that of one at a time the results are there; the last waits for the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from fahw.work.context import StepContext
from fahw.work.counts.record import Task, TaskId, task_id
from fahw.work.phases.forward import RECOMPUTE, recompute_task


def way_back(step: StepContext) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The layers whose errors and gradients run together, in their order, and those that are computed again before;
    all layers, where none is."""
    if step.segments.again:
        return [(segment.layers[::-1], segment.again) for segment in reversed(step.segments.all)]
    names = tuple(layer.name for layer in step.network.weighted)
    return [(names if step.rule.path == "direct" else names[::-1], ())]


def recompute_tasks(step: StepContext, again: Sequence[str], before: Sequence[TaskId], micro: int) -> Iterator[Task]:
    """Yield the tasks that compute the layers of a segment again in one micro-batch, after those of `before`."""
    for name in again:
        after = [*before, *step.task_ids(RECOMPUTE, step.segments.read_by_forward(name), micro)]
        for part in step.parts[name]:
            yield recompute_task(step.during(task_id(RECOMPUTE, part.name)), part, micro, after)


def ids_of_way_back(step: StepContext, layers: Sequence[str], micro: int) -> list[TaskId]:
    """The ids of the tasks of errors and gradients of layers in one micro-batch."""
    roles = step.graph.roles
    errors = step.task_ids("error", [name for name in layers if name in roles.sends], micro)
    return errors + step.task_ids("gradient", [name for name in layers if name in roles.learns], micro)


def waiting_for_recomputed(step: StepContext, tasks: Iterable[Task]) -> Iterator[Task]:
    """Yield the tasks of a step; those that use what is computed again wait for it, and updates until it has read the
    old weights. The errors of a direct rule, which could run at any time, wait for those of later segments."""
    if not step.segments.again:
        yield from tasks
        return
    earlier: dict[str, Sequence[str]] = {}
    before: Sequence[str] = ()
    for names, _ in way_back(step):
        earlier |= dict.fromkeys(names, before)
        before = names if ids_of_way_back(step, names, 0) else before
    for task in tasks:
        awaited = _awaited(step, task, earlier)
        yield replace(task, after=(*task.after, *awaited)) if awaited else task


def _awaited(step: StepContext, task: Task, earlier: Mapping[str, Sequence[str]]) -> list[TaskId]:
    """The tasks that one waits for besides. `earlier`: by layer, those of the segment whose way back comes before."""
    layer, segments = step.whole_layers.get(task.layer), step.segments
    if layer is None:
        return []
    if task.phase == "error":
        ended = ids_of_way_back(step, earlier[layer.name], task.micro) if step.rule.path == "direct" else []
        return ended + step.task_ids(RECOMPUTE, segments.read_by_error(layer), task.micro)
    if task.phase == "gradient" or (task.phase == "transport" and step.recomputes_gradient):
        return step.task_ids(RECOMPUTE, segments.read_by_gradient(layer), task.micro)
    if task.phase == "update" and layer.name in segments.again:
        return [name for micro in step.micro_batches for name in step.task_ids(RECOMPUTE, [layer.name], micro)]
    return []
