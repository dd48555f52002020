"""Which errors two tasks can share tile by tile, and a step in which some are.

Layer by layer the error at a layer's output is read by two products, that of the error below and that of the gradient:
sub-batch by sub-batch it is brought once for both. Under a direct rule the product that makes it goes before the one
that reads it: sub-batch by sub-batch it is never whole, and never in DRAM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fahw.work.counts.record import TaskId
from fahw.work.layer_gemms import layer_gemm_sizes
from fahw.work.phases.error import error_task
from fahw.work.phases.gradient import gradient_task
from fahw.work.plan.fused.error import FusedError
from fahw.work.plan.keeping import Keeping
from fahw.work.plan.measured import ProductTask
from fahw.work.plan.others import Away, CountingPlan, OtherKey
from fahw.work.plan.tensors.lives import KeptTensor, Use

_BUFFERS = 2
"""Sub-batches of an error that have room at once: the next comes, or is made, while one is read."""


@dataclass(frozen=True)
class Shareable:
    """An error whose tiles two tasks can share, by the number of its tensor."""

    number: int
    error: ProductTask
    gradient: ProductTask
    is_made: bool

    @property
    def tasks(self) -> tuple[TaskId, TaskId]:
        """The error task and the gradient task."""
        return self.error.task, self.gradient.task

    def in_sub_batches(self, keeping: Keeping, samples: int) -> FusedError:
        """The error in sub-batches of so many samples."""
        step, tensor, part = keeping.step, keeping.tensors[self.number], self.gradient.part
        errors, psum = step.chip.home("error"), step.chip.home("psum")
        assert errors is not None, "the chip was checked before"
        assert psum is not None, "the chip was checked before"
        m, n, _, groups = layer_gemm_sizes(part.layer, samples)["gradient"]
        tile = _BUFFERS * tensor.bits * samples / max(step.micro_batch_sizes)
        room = (errors.name, "error", tile), (psum.name, "psum", float(m * n * groups * step.bits("accumulator")))
        return FusedError(self.number, tensor.core, self.tasks, self.is_made, samples, room)


def shareable(keeping: Keeping) -> Iterator[Shareable]:
    """The errors whose tiles two tasks can share: on one core, of a layer that is not split."""
    step, tasks = keeping.step, {task.task: task for task in keeping.tasks}
    operands = Counter(
        (use.task, tensor.tensor) for tensor in keeping.tensors for use in tensor.reads if use.is_operand
    )
    for number, tensor in enumerate(keeping.tensors):
        for found in _of_tensor(number, tensor, tasks, step.rule.path == "direct"):
            reading = [use.task for use in tensor.reads if use.is_operand]
            alone = all(operands[task, "error"] == 1 for task in found.tasks if task in reading)
            parts = [found.error.part, found.gradient.part]
            sums = step.site(found.gradient.part, "gradient").sums_home("gradient")
            is_near = {found.error.core, found.gradient.core} == {tensor.core}
            if (
                alone
                and is_near
                and sums is not None
                and all(part.count == 1 for part in parts)
                and not _mixes(keeping, found)
            ):
                yield found


def _of_tensor(
    number: int, tensor: KeptTensor, tasks: Mapping[TaskId, ProductTask], is_direct: bool
) -> Iterator[Shareable]:
    """The error that a tensor is, if its name says so, with the tasks that would share it."""
    reading = {use.task[0]: use.task for use in tensor.reads if use.is_operand}
    if tensor.tensor != "error" or "gradient" not in reading:
        return
    makers = tensor.writes if len(tensor.reads) == len(tensor.writes) == 1 else ()
    for error in makers if is_direct else [use.task for use in tensor.reads if use.is_operand]:
        if error[0] == "error" and {error, reading["gradient"]} <= tasks.keys():
            yield Shareable(number, tasks[error], tasks[reading["gradient"]], is_direct)


def _mixes(keeping: Keeping, found: Shareable) -> bool:
    """Whether what the task makes of a sample depends on others: on its way down are the statistics of a batch."""
    below = keeping.step.graph.derivative_layers[found.error.part.whole.name]
    return found.is_made and any(layer.statistics for layer in below)


def sub_batch_sizes(sizes: Sequence[int]) -> Iterator[int]:
    """Samples of sub-batches that all micro-batches can be cut into: halves, quarters and so on, the largest first."""
    size = sizes[0]
    while size % 2 == 0:
        size //= 2
        if all(other % size == 0 for other in sizes):
            yield size


def with_fused(keeping: Keeping, errors: Sequence[FusedError]) -> Keeping:
    """The step in which tasks share the tiles of these errors, as well as of those before."""
    tensors, given = list(keeping.tensors), dict(keeping.given)
    for error in errors:
        tensor = tensors[error.number]
        if error.is_made:
            given[error.number] = (1.0,) * len(tensor.reads)
        else:
            reads = (Use(use.task, use.is_operand and use.task not in error.tasks) for use in tensor.reads)
            tensors[error.number] = replace(tensor, reads=tuple(reads))
    found = replace(keeping, tensors=tuple(tensors), given=given, errors=(*keeping.errors, *errors))
    return replace(found, away_pj=_away_pj(found, errors))


def _away_pj(keeping: Keeping, errors: Iterable[FusedError]) -> dict[OtherKey, Away]:
    """What accesses other than to operands cost more if nothing is there, the tasks that share tiles counted anew."""
    step = keeping.step
    parts = {part.name: part for shares in step.parts.values() for part in shares}
    names = {task for error in errors for task in error.tasks}
    fused = {task: error.samples for error in keeping.errors for task in error.tasks}
    counting = CountingPlan(step.chip, keeping.book, fused=fused)
    under = step.under(counting)
    counted = [
        (gradient_task if task[0] == "gradient" else error_task)(under.during(task), parts[task[1]], micro)
        for task in names
        for micro in step.micro_batches
    ]
    others = {key: price for key, price in keeping.away_pj.items() if key[1] not in names}
    return others | dict(counting.away_pj(counted))
