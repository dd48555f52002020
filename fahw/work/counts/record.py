"""The records of a training step: tasks with their action counts, their flows through ports, and their dependencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from fahw.hardware.chip import Chip
from fahw.work.counts.plan_record import PlanRecord

STREAM_CYCLES = 16
"""Cycles that one user holds a port before another gets its turn; vectors of the lanes are as long."""

TaskId = tuple[str, str] | tuple[str, str, int]
"""(phase, layer), and the number of the micro-batch after the first."""


def task_id(phase: str, layer: str, micro: int = 0) -> TaskId:
    """The id of a task, unique within a step."""
    return (phase, layer, micro) if micro else (phase, layer)


def task_text(task: TaskId) -> str:
    """A task's id as people write it: `forward conv1`, and the number of a micro-batch after the first."""
    return " ".join(map(str, task))


def local_name(component: str) -> str:
    """A component's name in the chip file: without the core that it belongs to (`core3:weight_sram`)."""
    return component.rpartition(":")[2]


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take three times as long to make
class Count:
    """How often a component does an action on a tensor. `widths` (bits) and `factor` decide the price of one action."""

    component: str
    action: str
    tensor: str
    count: int
    widths: tuple[int, ...] = ()
    factor: float = 1.0


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take three times as long to make
class Flow:
    """An amount that passes a part (a memory's read or write side, a link, vector lanes) at a finite rate."""

    part: str
    amount: int
    per_cycle: float
    latency_cycles: int = 0


@dataclass(frozen=True)
class Task:
    """A run of identical folds on one part: each fold is loaded, computed and drained.

    `after`: tasks of the same step that must have ended; `after_previous`: tasks of the step before.
    `payload_bits`: what weight transport moves. `macs`: multiply-accumulates. `saved_cycles`: what edge folds need less
    than full ones. `settle_cycles`: from the last drain to the end (hops of a message). `micro`: number of the
    micro-batch. `every`: the task runs once in so many steps; its counts are those of one run.
    """

    phase: str
    layer: str
    part: str
    folds: int
    fold_cycles: int
    loads: tuple[Flow, ...]
    drains: tuple[Flow, ...]
    counts: tuple[Count, ...]
    after: tuple[TaskId, ...]
    after_previous: tuple[TaskId, ...] = ()
    payload_bits: int = 0
    macs: int = 0
    saved_cycles: int = 0
    micro: int = 0
    settle_cycles: int = 0
    every: int = 1

    @property
    def cycles(self) -> int:
        """Cycles that the computation of all folds takes."""
        return self.folds * self.fold_cycles - self.saved_cycles

    @property
    def id(self) -> TaskId:
        """The task's id, unique within a step."""
        return task_id(self.phase, self.layer, self.micro)


@dataclass(frozen=True)
class Placement:
    """Bits of a tensor that one memory must hold, and how many of them lie further out because they do not fit."""

    memory: str
    tensor: str
    bits: int
    spilled_bits: int


@dataclass(frozen=True)
class Work:
    """One training step of a network under a rule on a chip."""

    chip: Chip
    """The chip, with memories of size `fit` at the size that they were given."""
    tasks: tuple[Task, ...]
    placements: tuple[Placement, ...]
    feedback_bits: int
    """Bits stored for the error path."""
    one_time: tuple[Count, ...]
    """Counts of writing the rule's own feedback weights, once before training."""
    padding_macs: int
    """Multiply-accumulates with zeros of paddings, or whose results fall there."""
    count_inference: Callable[[], tuple[Count, ...]] = field(repr=False, compare=False)
    """Counts of as many samples in inference; called where these are asked for, as they take a tenth of the time."""
    record_plan: Callable[[], PlanRecord | None] = field(default=lambda: None, repr=False, compare=False)
    """The record of what a search decided, made where it is asked for."""
    is_same_on: Callable[[Chip], bool] = field(default=lambda chip: False, repr=False, compare=False)
    """Whether all of this is known to be the same on a chip whose memories have other sizes."""
    counted: object = field(default=None, repr=False, compare=False)
    """What the search began with, for rivals."""

    @cached_property
    def inference(self) -> tuple[Count, ...]:
        """Counts of as many samples in inference: forward without what only training needs."""
        return self.count_inference()

    @cached_property
    def plan(self) -> PlanRecord | None:
        """What a search decided (`mapping: best`)."""
        return self.record_plan()

    @property
    def transported_bits(self) -> float:
        """Payload of weight transport per step, in bits; of one that runs once in several steps a share, which need not
        be whole."""
        shares = sum(Fraction(task.payload_bits, task.every) for task in self.tasks if task.payload_bits)
        return int(shares) if shares == int(shares) else float(shares)

    @property
    def macs(self) -> int:
        """Number of multiply-accumulates per step, those by zero included."""
        return sum(task.macs for task in self.tasks)


def merge_flows(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    """One flow per part and port: the amounts of those through the same one added up, empty ones left out."""
    merged: dict[str, Flow] = {}
    for flow in flows:
        previous = merged.get(flow.part)
        amount = flow.amount + (previous.amount if previous else 0)
        if amount:
            merged[flow.part] = Flow(flow.part, amount, flow.per_cycle, flow.latency_cycles)
    return tuple(merged.values())
