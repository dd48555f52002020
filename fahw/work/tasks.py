"""Tasks from traffic: of a matrix product on an array, or of the vector lanes alone; results sent to readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from fahw.hardware.array import Array
from fahw.hardware.energy_table import UPDATE
from fahw.hardware.part import Phase, Tensor
from fahw.work.context import StepContext
from fahw.work.counts import lanes
from fahw.work.counts.accesses import Traffic
from fahw.work.counts.gemm import Gemm
from fahw.work.counts.optimizer import CONSTANT_BITS
from fahw.work.counts.record import STREAM_CYCLES, Count, Flow, Task, TaskId, merge_flows
from fahw.work.mesh import Part, hops_latency, message_traffic


def gemm_task(
    phase: str, layer: str, part: str, shape: tuple[int, int, int], traffic: Traffic, after: Sequence[TaskId],
    before: Sequence[TaskId] = (), macs: int = 0, micro: int = 0,
) -> Task:  # fmt: skip
    """A task of a matrix product, or one whose time its flows decide. `shape`: folds, cycles of a full one, cycles of
    all."""
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    pieces, length, saved = _stream_pieces(shape, (*loads, *drains))
    return Task(
        phase, layer, part, pieces, length, loads, drains, traffic.counts, tuple(after), tuple(before), macs=macs,
        saved_cycles=saved, micro=micro, settle_cycles=hops_latency(drains),
    )  # fmt: skip


def _stream_pieces(shape: tuple[int, int, int], flows: tuple[Flow, ...]) -> tuple[int, int, int]:
    """Number of pieces, cycles of one, and cycles that all pieces have too many: folds that stream for long are cut
    into pieces of `STREAM_CYCLES` at a port."""
    folds, cycles, total = shape
    longest = max((flow.amount / flow.per_cycle / folds for flow in flows), default=0)
    pieces = max(1, min(ceil(longest / STREAM_CYCLES), cycles))
    length = ceil(cycles / pieces)
    return folds * pieces, length, folds * pieces * length - total


def lane_task(
    phase: Phase, layer: str, array: Array, traffic: Traffic, after: Sequence[TaskId], micro: int = 0
) -> Task:
    """A task of the vector lanes alone, in as many folds as keep neither lanes nor ports for more than `STREAM_CYCLES`
    each."""
    name = lanes.component_name(array)
    loads, drains = merge_flows(traffic.loads), merge_flows(traffic.drains)
    cycles = sum(ceil(flow.amount / flow.per_cycle) for flow in drains if flow.part == name)
    drains = tuple(flow for flow in drains if flow.part != name)
    longest = max((flow.amount / flow.per_cycle for flow in (*loads, *drains)), default=0)
    folds = max(1, ceil(max(cycles, longest) / STREAM_CYCLES))
    length = max(1, ceil(cycles / folds))
    return Task(
        phase, layer, name, folds, length, loads, drains, traffic.counts, tuple(after), micro=micro,
        saved_cycles=folds * length - cycles, settle_cycles=hops_latency(drains),
    )  # fmt: skip


def multicast(
    step: StepContext, tensor: Tensor, values: int, bits: int, source_core: int, reader_cores: Sequence[int]
) -> Traffic:
    """Traffic of sending `values` results of `bits` each to every core that reads them, and of writing them there."""
    traffic = message_traffic(step.chip, tensor, values * bits, source_core, reader_cores)
    for core in reader_cores:
        site = step.sites[core]
        traffic += site.accesses.write(site.home(tensor, "forward"), tensor, [(1, values)], bits)
    return traffic


def scatter(
    step: StepContext, tensor: Tensor, amounts: Iterable[tuple[Part, int]], source_core: int, phases: Sequence[Phase]
) -> Traffic:
    """Traffic of sending parts the bits that each reads in `phases`, and of writing them there; those that the same
    cores read go together."""
    bits_by_cores: dict[tuple[int, ...], int] = {}
    for part, bits in amounts:
        cores = tuple(step.part_cores(part, phases))
        bits_by_cores[cores] = bits_by_cores.get(cores, 0) + bits
    traffic = Traffic()
    for cores, bits in bits_by_cores.items():
        traffic += multicast(step, tensor, bits, 1, source_core, cores)
    return traffic


def fold_timing(product: Gemm) -> tuple[int, int, int]:
    """Number of folds of a product, cycles of a full one, cycles of all. Where zeros are skipped, folds that take less
    than a cycle go together."""
    folds = max(1, min(product.mapping.folds * product.repeats, product.cycles))
    return folds, min(product.mapping.fold_cycles, ceil(product.cycles / folds)), product.cycles


def optimizer_operations(step: StepContext, array: Array, tensor: Tensor, values: int, decays: bool = False) -> Traffic:
    """The optimizer's operations on `values` weights, and the roundings of its sums and of the step; where `decays`,
    those of the recipe's weight decay too."""
    state_bits, master_bits, mode = step.bits("optimizer"), step.bits("master"), step.chip.rounding.update
    costs = step.optimizer_costs
    traffic = lanes.operations(array, tensor, costs.operations(values, step.bits("gradient"), state_bits, master_bits))
    for number, bits in costs.rounded(values, step.bits("gradient"), state_bits):
        traffic += lanes.rounding(step.chip, array, tensor, number, mode, bits)
    if decays and costs.decays:
        traffic += lanes.operations(array, tensor, costs.decay_operations(values, master_bits))
        traffic += lanes.rounding(step.chip, array, tensor, values, mode, master_bits + CONSTANT_BITS)
    return _as_whole_updates(array, tensor, values, traffic) if step.update_is_given(array) else traffic


def _as_whole_updates(array: Array, tensor: Tensor, values: int, traffic: Traffic) -> Traffic:
    """The updates of `values` weights as one action each in place of the lanes' operations, whose time they take."""
    name = lanes.component_name(array)
    others = tuple(count for count in traffic.counts if count.component != name)
    updates = (Count(name, UPDATE, tensor, values),) if values else ()
    return Traffic((*updates, *others), traffic.loads, traffic.drains)


def decay_operations(step: StepContext, array: Array, tensor: Tensor, values: int) -> Traffic:
    """Operations of the rule's decay w = w - w 2^-n on `values` weights: a shift and a difference each."""
    master_widths = (step.bits("master"),)
    return lanes.operations(array, tensor, [("shift", values, master_widths), ("subtract", values, master_widths)])
