"""Lives of tensors on the cores of a chip: which tasks write and read each, collected one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fahw.hardware.part import Phase, Tensor
from fahw.layers.layer import INPUT
from fahw.work.context import StepContext
from fahw.work.counts.record import TaskId, task_id
from fahw.work.mesh import Part
from fahw.work.phases.forward import LOSS, RECOMPUTE
from fahw.work.phases.recompute import ids_of_way_back, way_back


@dataclass(frozen=True)
class Use:
    """A read of a tensor by a task of the first micro-batch, or of the step. `is_operand`: of the task's product, whose
    mapping says how often it is fetched; else it is read once, by lanes or to be sent."""

    task: TaskId
    is_operand: bool


@dataclass(frozen=True)
class KeptTensor:
    """What one micro-batch keeps of one thing on one core, from the tasks that write it to those that read it.

    `tensor`: its kind, as in the `holds` of a memory. `bits`: of the largest micro-batch, as it lies in memory. `reads`
    are in the order of tasks. `persistent`: it lives through the whole step. `from_dram`: samples, which come from DRAM
    anyway and need not be written back.
    """

    name: str
    tensor: Tensor
    core: int
    bits: int
    writes: tuple[TaskId, ...]
    reads: tuple[Use, ...]
    persistent: bool = False
    from_dram: bool = False


@dataclass
class Life:
    """A tensor whose uses are still being collected."""

    tensor: Tensor
    bits: int
    persistent: bool = False
    from_dram: bool = False
    writes: set[TaskId] = field(default_factory=set)
    reads: set[Use] = field(default_factory=set)

    def write(self, tasks: Iterable[TaskId]) -> None:
        """Note tasks that write it."""
        self.writes.update(tasks)

    def read(self, tasks: Iterable[TaskId], is_operand: bool = False) -> None:
        """Note tasks that read it."""
        self.reads.update(Use(task, is_operand) for task in tasks)


class Lives:
    """The lives of all tensors of a step, by core and name."""

    def __init__(self, step: StepContext) -> None:
        self.step = step
        self.samples = max(step.micro_batch_sizes)
        self._lives: dict[tuple[int, str], Life] = {}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts of all layers, first to last."""
        return tuple(part for shares in self.step.parts.values() for part in shares)

    @cached_property
    def sending(self) -> tuple[Part, ...]:
        """The parts that send an error down."""
        return tuple(filter(self.step.sends_error, self.parts))

    def is_taught(self, part: Part) -> bool:
        """Whether a part's feedback weights follow its weights, if the rule's do: it sends an error, and learns."""
        return self.step.sends_error(part) and self.step.learns(part)

    def at(self, core: int, name: str, tensor: Tensor, bits: int, persistent: bool = False) -> Life:
        """The tensor of that name on a core, begun where it is new."""
        return self._lives.setdefault((core, name), Life(tensor, bits, persistent))

    def known(self, core: int, name: str) -> Life | None:
        """The tensor of that name on a core, None where there is none."""
        return self._lives.get((core, name))

    def everywhere(self, name: str) -> list[Life]:
        """The tensors of that name on all cores."""
        return [life for (_, other), life in self._lives.items() if other == name]

    def tasks(self, phase: Phase, layer: str) -> list[TaskId]:
        """The tasks that run a phase of a layer in the first micro-batch."""
        return self.step.task_ids(phase, (layer,), 0)

    def again(self, layer: str) -> list[TaskId]:
        """The tasks that compute a layer again in the first micro-batch; none where what it leaves is kept."""
        return self.step.task_ids(RECOMPUTE, (layer,), 0) if layer in self.step.segments.again else []

    def finished(self) -> Iterator[KeptTensor]:
        """All tensors that something reads and that take room, with their uses in the order of tasks."""
        place = {task: number for number, task in enumerate(ordered_tasks(self.step))}
        for (core, name), life in self._lives.items():
            if not life.bits or not life.reads:
                continue
            writes = tuple(sorted(life.writes, key=place.__getitem__))
            reads = tuple(sorted(life.reads, key=lambda use: (place[use.task], use.is_operand)))
            yield KeptTensor(name, life.tensor, core, life.bits, writes, reads, life.persistent, life.from_dram)


def ordered_tasks(step: StepContext) -> Iterator[TaskId]:
    """The ids of the tasks of the first micro-batch and of the step, in the order in which a step has them."""
    layers, roles = [layer.name for layer in step.network.weighted], step.graph.roles
    errors = layers if step.rule.path == "direct" else layers[::-1]
    yield task_id("forward", INPUT)
    yield from step.task_ids("forward", layers, 0)
    yield task_id("error", LOSS)
    for names, again in way_back(step):
        yield from step.task_ids(RECOMPUTE, again, 0)
        yield from ids_of_way_back(step, names, 0)
    yield from step.task_ids("update", [name for name in errors if name in roles.learns], 0)
    for name in reversed(layers):
        for part in step.parts[name] if name in step.graph.roles.sends & step.graph.roles.learns else ():
            if step.rule.learned == "mirror":
                yield noise_task(step, part)
            if step.runs_transport_phase:
                yield task_id("transport", part.name)


def noise_task(step: StepContext, part: Part) -> TaskId:
    """The id of the task that sends noise through a part's weights, behind the last micro-batch."""
    return task_id("forward", part.name, len(step.micro_batch_sizes))


def operand_bits(tensors: Iterable[KeptTensor]) -> Mapping[tuple[TaskId, str], int]:
    """Bits of all operands of one kind that a task reads, by task and kind."""
    bits = defaultdict[tuple[TaskId, str], int](int)
    for tensor in tensors:
        for use in tensor.reads:
            if use.is_operand:
                bits[use.task, tensor.tensor] += tensor.bits
    return bits


def other_bits(tensors: Iterable[KeptTensor]) -> Mapping[tuple[int, TaskId, str, str], int]:
    """Bits of all tensors of one kind on a core that a task reads beside operands, or writes, by core, task, `read` or
    `write`, and kind."""
    bits = defaultdict[tuple[int, TaskId, str, str], int](int)
    for tensor in tensors:
        for use in tensor.reads:
            if not use.is_operand:
                bits[tensor.core, use.task, "read", tensor.tensor] += tensor.bits
        for task in tensor.writes:
            bits[tensor.core, task, "write", tensor.tensor] += tensor.bits
    return bits
