"""Tasks from traffic: of a matrix product on an array, or of the vector lanes alone; results sent to readers."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from fahw.hardware.array import Array
from fahw.hardware.part import Phase, Tensor
from fahw.work.context import StepContext
from fahw.work.counts import lanes as vector
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.optimizer import CONSTANT_BITS
from fahw.work.counts.record import STREAM_CYCLES, Flow, Task, TaskId, merge_flows
from fahw.work.mesh import hops_latency, send


def gemm_task(
    phase: Phase, layer: str, part: str, shape: tuple[int, int, int], traffic: Traffic, after: Sequence[TaskId],
    before: Sequence[TaskId] = (), macs: int = 0, micro: int = 0,
) -> Task:  # fmt: skip
    """A task of a matrix product, or one whose time its flows decide. `shape`: folds, cycles of a full one, cycles of
    all."""
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    pieces, length, saved = _pieces(shape, (*loads, *drains))
    return Task(
        phase, layer, part, pieces, length, loads, drains, traffic.counts, tuple(after), tuple(before), macs=macs,
        saved_cycles=saved, micro=micro, settle_cycles=hops_latency(drains),
    )  # fmt: skip


def _pieces(shape: tuple[int, int, int], flows: tuple[Flow, ...]) -> tuple[int, int, int]:
    """Folds that stream for long are cut into pieces of `STREAM_CYCLES` at a port: number, cycles of one, cycles
    too many."""
    folds, cycles, total = shape
    longest = max((flow.amount / flow.per_cycle / folds for flow in flows), default=0)
    pieces = max(1, min(ceil(longest / STREAM_CYCLES), cycles))
    length = ceil(cycles / pieces)
    return folds * pieces, length, folds * pieces * length - total


def lane_task(
    phase: Phase, layer: str, array: Array, traffic: Traffic, after: Sequence[TaskId], micro: int = 0
) -> Task:
    """A task of the vector lanes alone: a fold is a vector of `STREAM_CYCLES` lane-cycles."""
    name = vector.lanes(array)
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    cycles = sum(ceil(flow.amount / flow.per_cycle) for flow in drains if flow.part == name)
    drains = tuple(flow for flow in drains if flow.part != name)
    length = min(STREAM_CYCLES, max(cycles, 1))
    folds = max(1, -(-cycles // length))
    return Task(
        phase, layer, name, folds, length, loads, drains, traffic.counts, tuple(after), micro=micro,
        saved_cycles=folds * length - cycles, settle_cycles=hops_latency(drains),
    )  # fmt: skip


def multicast(step: StepContext, tensor: Tensor, values: int, bits: int, start: int, ends: Sequence[int]) -> Traffic:
    """Write results at every core that reads them, and send them there; `values` of `bits` each."""
    traffic = send(step.chip, tensor, values * bits, start, ends)
    for core in ends:
        site = step.sites[core]
        traffic += site.accesses.write(site.home(tensor, "forward"), tensor, [(1, values)], bits)
    return traffic


def shape_of(product: Gemm) -> tuple[int, int, int]:
    """Folds of a product, cycles of a full one, cycles of all. Where zeros are skipped, folds that take less than a
    cycle go together."""
    folds = max(1, min(product.mapping.folds * product.repeats, product.cycles))
    return folds, min(product.mapping.fold_cycles, ceil(product.cycles / folds)), product.cycles


def optimizer_operations(step: StepContext, array: Array, tensor: Tensor, values: int, decays: bool = False) -> Traffic:
    """The optimizer's operations on `values` weights, and the roundings of its sums and of the step; weights that
    `decays` lose a share besides, if the recipe has one."""
    state, master, mode = step.bits("optimizer"), step.bits("master"), step.chip.rounding.update
    descent = step.descent
    traffic = vector.operations(array, tensor, descent.operations(values, step.bits("gradient"), state, master))
    traffic += vector.rounding(step.chip, array, tensor, descent.roundings * values, mode, state + CONSTANT_BITS)
    if decays and descent.decays:
        traffic += vector.operations(array, tensor, descent.decay(values, master))
        traffic += vector.rounding(step.chip, array, tensor, values, mode, master + CONSTANT_BITS)
    return traffic


def decay_operations(step: StepContext, array: Array, tensor: Tensor, values: int) -> Traffic:
    """w = w - w 2^-n: a shift and a difference."""
    master = (step.bits("master"),)
    return vector.operations(array, tensor, [("shift", values, master), ("subtract", values, master)])
