"""Counts of a matrix product on an array: operand reads, partial sums, active and idle processing elements.

How a product is laid out, and what moves, the kind of the array says (`fahw.hardware.arrays`).

What does not fit its memory is fetched as the loops over folds imply, overlapping windows once: the operand of the
outer loop once, where a block of it can be kept while the inner loop runs, the other one once per turn of the outer
loop. Of both orders the better is taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, prod
from typing import NamedTuple

from fahw.hardware.array import WEIGHTS, Array, Skipping
from fahw.hardware.arrays.mapping import LEFT, RIGHT, Burst, Fetches, Mapping
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.work.counts.accesses import Accesses, InTurn, Traffic
from fahw.work.counts.packing import Packing, packed_bursts
from fahw.work.counts.record import Count, Flow

_STAGING_SHARE = 1 / 8
"""Share of a memory that can keep a block of an operand while the inner loop runs (assumed)."""


class Stream(NamedTuple):
    """A source of an operand, or of some of its bits: a memory, bits per value, and the energy factor of its reads."""

    memory: Memory
    tensor: Tensor
    bits: int
    factor: float = 1.0
    stored: Tensor | None = None
    """What lies in the memory, where it differs from the tensor that the read counts as (W read for the error)."""


@dataclass(frozen=True)
class Operand:
    """An operand: its width at the multiplier, the memories that it is read from, bits per value from a generator.

    `zeros`: share of its values that are zero; `skipping`: what the array does with them.
    """

    bits: int
    streams: tuple[Stream, ...]
    generated_bits: int = 0
    generator: str = ""
    generator_rate: int = 1
    """Bits per cycle of the generator."""
    zeros: float = 0.0
    skipping: Skipping = "none"
    distinct: int | None = None
    """Values that lie in memory, where windows overlap and the product uses them several times."""
    packing: Packing | None = None
    """How its values lie in memory where zeros are left out."""
    block: Fraction | int = 1
    """Values that are read for each that is multiplied: the index of a sparse partner picks one of so many in a row."""

    @cached_property
    def price_key(self) -> Hashable:
        """What the price of a value depends on."""
        streams = ((item.memory.name, item.tensor, item.stored, item.bits, item.factor) for item in self.streams)
        return (
            self.bits, self.block, self.generated_bits, self.generator, self.zeros, self.skipping, self.packing,
            *streams,
        )  # fmt: skip


@dataclass(frozen=True)
class Gemm:
    """A mapped product with its operands, the tensor that results, and the accumulator's width."""

    mapping: Mapping
    left: Operand
    right: Operand
    result: Tensor
    accumulator_bits: int

    built_bits: tuple[int, int] = (0, 0)
    """Widths of the operands that the elements are built for; narrower ones leave a part unused."""
    imbalance: float = 0.0
    repeats: int = 1
    """Equal products one after the other: groups of a convolution."""

    @property
    def results(self) -> int:
        """Values of all results."""
        m, n, _ = self.mapping.sizes
        return m * n * self.repeats

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those by zero included."""
        return prod(self.mapping.sizes) * self.repeats

    @property
    def useful_macs(self) -> int:
        """Multiply-accumulates that the array does: without those that it gates or skips."""
        zeros = [operand.zeros for operand in self.operands if operand.skipping != "none"]
        return self.macs - int(self.mapping.gated_share(zeros) * self.macs)

    @cached_property
    def cycles(self) -> int:
        """Cycles of all folds; skipping leaves those of values that are not zero, and waits for the slowest lane."""
        remaining = prod(1 - operand.zeros for operand in self.operands if operand.skipping == "skip")
        cycles = self.mapping.cycles * self.repeats
        return cycles if remaining == 1 else min(cycles, ceil(cycles * remaining * (1 + self.imbalance)))

    @property
    def operands(self) -> tuple[Operand, Operand]:
        """The left and the right operand."""
        return self.left, self.right


def gemm_traffic(product: Gemm, array: Array, accesses: Accesses, psum: Memory | None) -> Traffic:
    """Action counts and flows of the product, without those that hand on its results; `psum` is the memory that partial
    sums spill to."""
    fetched, traffic = fetched_values(product, accesses), Traffic()
    skipped = [operand.zeros if operand.skipping == "skip" else 0.0 for operand in product.operands]
    for side, bursts in product.mapping.unskipped_bursts((skipped[LEFT], skipped[RIGHT])):
        operand, operand_bursts = product.operands[side], _repeat(bursts, product.repeats)
        if operand.block != 1:
            operand_bursts = [(times, ceil(number * operand.block)) for times, number in operand_bursts]
        through = product.mapping.through_outer[side]
        further = fetched[side] if through is None else InTurn(fetched[side], through * product.repeats)
        traffic += operand_reads(operand, operand_bursts, accesses.of_operands, further)
    if psum is not None:
        spilled, in_outer = product.mapping.spilled_share, product.mapping.sums_in_outer
        spilling = accesses if spilled is None else accesses.with_sums_outside(spilled, in_outer)
        psum_bursts = _repeat(product.mapping.partial_sum_bursts, product.repeats)
        traffic += spilling.write(psum, "psum", psum_bursts, product.accumulator_bits)
        traffic += spilling.read(psum, "psum", psum_bursts, product.accumulator_bits)
        traffic += accesses.sums_beyond(product.mapping.sums_beyond * product.repeats, product.accumulator_bits)
    stored = (*_accumulators(product, array), *_held(product, array))
    return traffic + Traffic((*stored, *_processing_elements(product, array)))


def _accumulators(product: Gemm, array: Array) -> tuple[Count, ...]:
    """Accesses of the sums that are kept at the array's edge."""
    number, name = product.mapping.accumulated * product.repeats, accumulators_name(array)
    return (Count(name, "write", "psum", number), Count(name, "read", "psum", number)) if number else ()


def _held(product: Gemm, array: Array) -> tuple[Count, ...]:
    """Accesses of what elements hold of several folds: written as it comes, read as a fold begins to run."""
    if array.weights_per_element == 1 or product.mapping.held is None:
        return ()
    (side, *numbers), name = product.mapping.held, held_name(array)
    tensor = next((stream.tensor for stream in product.operands[side].streams), "feedback")
    return tuple(
        Count(name, action, tensor, number * product.repeats)
        for action, number in zip(("write", "read"), numbers, strict=True)
    )


def held_name(array: Array) -> str:
    """The name that the further weights in the elements of `array` have in counts."""
    return f"{array.name}.{WEIGHTS}"


def accumulators_name(array: Array) -> str:
    """The name that the accumulators at the edge of `array` have in counts."""
    return f"{array.name}.accumulators"


def _repeat(bursts: Sequence[Burst], times: int) -> list[Burst]:
    return [(count * times, values) for count, values in bursts]


def fetched_values(product: Gemm, accesses: Accesses) -> tuple[int, int]:
    """Values of either operand that come from further out if none fits its memory, under the better order of loops."""
    mapping, repeats, (m, n, k) = product.mapping, product.repeats, product.mapping.sizes
    if mapping.fetched is not None:
        left, right = mapping.fetched
        return left * repeats, right * repeats
    left = _distinct_values(product.left, m * k * repeats)
    right = _distinct_values(product.right, k * n * repeats)
    overflow_bits = [_overflow_bits(operand, accesses) for operand in product.operands]
    if not any(overflow_bits):
        return left, right
    orders = [
        tuple(_turns(operand, fetches) for operand, fetches in zip(product.operands, order, strict=True))
        for order in mapping.fetches
    ]
    prices = _run_prices(product, accesses)
    costs = overflow_bits[LEFT] * left * prices[LEFT], overflow_bits[RIGHT] * right * prices[RIGHT]
    fewest = min(orders, key=lambda order: order[LEFT] * costs[LEFT] + order[RIGHT] * costs[RIGHT])
    return left * fewest[0], right * fewest[1]


def _run_prices(product: Gemm, accesses: Accesses) -> tuple[float, float]:
    """What a bit of either operand costs from DRAM, by the runs in which it is fetched."""
    runs: tuple[list[Burst], list[Burst]] = [], []
    for side, bursts in product.mapping.unskipped_bursts((0.0, 0.0)):
        operand = product.operands[side]
        runs[side].extend((times, ceil(number * operand.block) * operand.bits) for times, number in bursts)
    return accesses.run_price(runs[LEFT]), accesses.run_price(runs[RIGHT])


def _overflow_bits(operand: Operand, accesses: Accesses) -> float:
    """Bits of a value of the operand that come from further out, on average."""
    return sum(accesses.overflow_share(stream.stored or stream.tensor) * stream.bits for stream in operand.streams)


def _distinct_values(operand: Operand, values: int) -> int:
    """Number of values that come from further out: once for all overlapping windows, which are made on the chip."""
    values = values if operand.block == 1 else ceil(values * operand.block)
    return values if operand.distinct is None else min(values, operand.distinct)


def _turns(operand: Operand, fetches: Fetches) -> int:
    """How often an operand is fetched: once where a block of it can be kept, else at each of the inner loop's turns."""
    room = min((stream.memory.kib * 8192 * _STAGING_SHARE for stream in operand.streams), default=0.0)
    is_kept = fetches.block is not None and fetches.block * operand.block * operand.bits <= room
    return 1 if is_kept else fetches.turns


def operand_reads(
    operand: Operand, bursts: Sequence[Burst], accesses: Accesses, fetched: int | InTurn
) -> Traffic:  # fmt: skip
    """Traffic of reading an operand in these bursts. `fetched`: values that come from further out if none is there."""
    traffic = Traffic()
    values = sum(times * number for times, number in bursts)
    for stream in operand.streams:
        moved, bits, further = bursts, stream.bits, _at_most(fetched, values)
        if operand.packing is not None:
            bits = stream.memory.width_bits
            moved = packed_bursts(operand.packing, bursts, stream.bits, bits)
            further = _packed(operand.packing, further, stream.bits, bits)
        traffic += accesses.read(stream.memory, stream.tensor, moved, bits, stream.factor, stream.stored, further)
    return traffic + generated_traffic(operand, values)


def _at_most(fetched: int | InTurn, values: int) -> int | InTurn:
    """What is fetched of so many values that are read: no more than all of them."""
    if isinstance(fetched, InTurn):
        return InTurn(min(fetched.inner, values), min(fetched.outer, values))
    return min(fetched, values)


def _packed(packing: Packing, fetched: int | InTurn, value_bits: int, bits: int) -> int | InTurn:
    """Words of `bits` that values take which are packed."""
    if isinstance(fetched, InTurn):
        inner, outer = (ceil(packing.stored_bits(values, value_bits) / bits) for values in fetched)
        return InTurn(inner, outer)
    return ceil(packing.stored_bits(fetched, value_bits) / bits)


def generated_traffic(operand: Operand, values: int) -> Traffic:
    """Traffic of the bits that a generator yields for `values` of the operand."""
    if not operand.generated_bits:
        return Traffic()
    bits = values * operand.generated_bits
    counts = (Count(operand.generator, "generate", "feedback", bits),)
    return Traffic(counts, loads=(Flow(operand.generator, bits, operand.generator_rate),))


def _processing_elements(product: Gemm, array: Array) -> tuple[Count, ...]:
    """Action counts of the elements; those of nothing are left out."""
    useful_macs, widths = product.useful_macs, (product.left.bits, product.right.bits, product.accumulator_bits)
    idle = max(0, product.cycles * array.rows * array.cols - useful_macs)
    moved = ceil(product.left.bits * product.left.block), product.right.bits
    actions = product.mapping.element_actions(product.result, widths, moved, useful_macs, idle, product.repeats)
    counts = [
        Count(array.name, action.action, action.tensor, action.count, action.widths)
        for action in actions
        if action.count
    ]
    left, right = (
        max(operand.bits, built) for operand, built in zip(product.operands, product.built_bits, strict=True)
    )
    if useful_macs and (left, right) != widths[:2]:
        moved_widest = ceil(left * product.left.block), right
        widest = (left, right, product.accumulator_bits, product.mapping.moved_bits(*moved_widest))
        used = (*widths, product.mapping.moved_bits(*moved))
        counts.append(Count(array.name, "ungated", product.result, useful_macs, (*used, *widest)))
    return tuple(counts)
