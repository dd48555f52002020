"""Counts of a matrix product on a systolic array: operand reads, partial sums, active and idle processing elements.

Operand values of one fold that uses r x c of the array, for an (M x K) by (K x N) product:

    dataflow  left operand  right operand  results
    os        r * K         K * c          r * c
    ws        M * r         r * c          M * c
    is        r * c         r * N          c * N

`broadcast` counts as `os`. `ws` and `is` fold K over the rows: all but the last of these folds write their partial sums
at accumulator width, all but the first read them back.

What does not fit its memory is fetched as the loops over folds imply, overlapping windows once: the operand of the
outer loop once, where a block of it can be kept while the inner loop runs, the other one once per turn of the outer
loop. Of both orders the better is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod

from fahw.hardware.array import Array, Skipping
from fahw.hardware.memory import Memory
from fahw.hardware.part import Tensor
from fahw.hardware.systolic import Mapping
from fahw.work.counts.accesses import Accesses, Burst, Traffic
from fahw.work.counts.record import Count

_STAGING_SHARE = 1 / 8
"""Share of a memory that can keep a block of an operand while the inner loop runs (assumed)."""


@dataclass(frozen=True)
class Stream:
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
    zeros: float = 0.0
    skipping: Skipping = "none"
    distinct: int | None = None
    """Values that lie in memory, where windows overlap and the product uses them several times."""
    block: Fraction | int = 1
    """Values that are read for each that is multiplied: the index of a sparse partner picks one of so many in a row."""


@dataclass(frozen=True)
class Gemm:
    """A mapped product with its operands, the tensor that results, and the accumulator's width."""

    mapping: Mapping
    left: Operand
    right: Operand
    result: Tensor
    accumulator_bits: int

    index_bits: int = 0
    imbalance: float = 0.0
    repeats: int = 1
    """Equal products one after the other: groups of a convolution."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those by zero included."""
        return self.mapping.m * self.mapping.n * self.mapping.k * self.repeats

    @property
    def useful_macs(self) -> int:
        """Multiply-accumulates that the array does: without those that it gates or skips."""
        zeros = 1 - prod(1 - operand.zeros for operand in self._operands if operand.skipping != "none")
        return self.macs - int(zeros * self.macs)

    @property
    def cycles(self) -> int:
        """Cycles of all folds; skipping leaves those of values that are not zero, and waits for the slowest lane."""
        remaining = prod(1 - operand.zeros for operand in self._operands if operand.skipping == "skip")
        cycles = self.mapping.cycles * self.repeats
        return cycles if remaining == 1 else min(cycles, ceil(cycles * remaining * (1 + self.imbalance)))

    @property
    def _operands(self) -> tuple[Operand, Operand]:
        return self.left, self.right


def gemm_traffic(product: Gemm, array: Array, accesses: Accesses, psum: Memory | None) -> Traffic:
    """Action counts and flows of the product, without those that hand on its results; `psum` is the memory that partial
    sums spill to."""
    unskipped = _unskipped_bursts(product, _operand_bursts(product.mapping))
    bursts = [_repeat(fold_bursts, product.repeats) for fold_bursts in unskipped]
    fetched = _fetched_values(product, accesses)
    traffic = Traffic()
    for operand, operand_bursts, values in zip((product.left, product.right), bursts, fetched, strict=True):
        if operand.block != 1:
            operand_bursts = [(times, ceil(number * operand.block)) for times, number in operand_bursts]
        traffic += _operand_reads(operand, operand_bursts, accesses, values, product.index_bits)
    if psum is not None:
        psum_bursts = _repeat(partial_sum_bursts(product.mapping), product.repeats)
        traffic += accesses.write(psum, "psum", psum_bursts, product.accumulator_bits)
        traffic += accesses.read(psum, "psum", psum_bursts, product.accumulator_bits)
    return traffic + Traffic(_processing_elements(product, array))


def _unskipped_bursts(product: Gemm, bursts: tuple[list[Burst], list[Burst]]) -> tuple[list[Burst], list[Burst]]:
    """Bursts without the values that meet nothing but skipped zeros: all rows, or columns, of a fold at once."""
    shapes, stream, (left, right) = product.mapping.fold_shapes, product.mapping.spans[2], bursts
    return (
        [_unskipped_burst(burst, product.right, shape.cols, stream) for burst, shape in zip(left, shapes, strict=True)],
        [_unskipped_burst(burst, product.left, shape.rows, stream) for burst, shape in zip(right, shapes, strict=True)],
    )


def _unskipped_burst(burst: Burst, partner: Operand, partner_values: int, stream_length: int) -> Burst:
    """The bursts without what meets only zeros: fewer values in each, and fewer bursts, as a burst of `stream_length`
    is left out where all of it does."""
    skipped = partner.zeros**partner_values if partner.skipping == "skip" else 0.0
    if not skipped:
        return burst
    count, values = burst
    remaining = ceil(count * (1 - skipped**stream_length))
    return remaining, ceil(count * values * (1 - skipped) / remaining) if remaining else 0


def _repeat(bursts: Sequence[Burst], times: int) -> list[Burst]:
    return [(count * times, values) for count, values in bursts]


def _fetched_values(product: Gemm, accesses: Accesses) -> tuple[int, int]:
    """Values of either operand that come from further out if none fits its memory, under the better order of loops."""
    mapping, repeats = product.mapping, product.repeats
    left = _distinct_values(product.left, mapping.m * mapping.k * repeats)
    right = _distinct_values(product.right, mapping.k * mapping.n * repeats)
    streams = (*product.left.streams, *product.right.streams)
    if not any(accesses.overflow_share(stream.stored or stream.tensor) for stream in streams):
        return left, right
    rows, cols = mapping.row_folds, mapping.col_folds
    if mapping.dataflow == "ws":
        orders = [(_block_fetches(product.left, mapping.m * mapping.rows, cols), 1), (cols, 1)]
    elif mapping.dataflow == "is":
        orders = [(1, _block_fetches(product.right, mapping.n * mapping.rows, cols)), (1, cols)]
    else:
        orders = [
            (_block_fetches(product.left, mapping.k * mapping.rows, cols), rows),
            (cols, _block_fetches(product.right, mapping.k * mapping.cols, rows)),
        ]
    overflow_bits = [
        sum(accesses.overflow_share(stream.stored or stream.tensor) * stream.bits for stream in operand.streams)
        * values
        for operand, values in ((product.left, left), (product.right, right))
    ]
    fewest = min(orders, key=lambda order: order[0] * overflow_bits[0] + order[1] * overflow_bits[1])
    return left * fewest[0], right * fewest[1]


def _distinct_values(operand: Operand, values: int) -> int:
    """Number of values that come from further out: once for all overlapping windows, which are made on the chip."""
    values = values if operand.block == 1 else ceil(values * operand.block)
    return values if operand.distinct is None else min(values, operand.distinct)


def _block_fetches(operand: Operand, values: int, turns: int) -> int:
    """How often a block of `values` is fetched: once where it can be kept, else at each of the inner loop's turns."""
    room = min((stream.memory.kib * 8192 * _STAGING_SHARE for stream in operand.streams), default=0.0)
    return 1 if values * operand.block * operand.bits <= room else turns


def partial_sum_bursts(mapping: Mapping) -> list[Burst]:
    """Bursts of partial sums that are written, and read back, between the folds of K."""
    inner_folds = mapping.row_folds - 1
    if not mapping.stationary or not inner_folds:
        return []
    stream = mapping.spans[2]
    folds_by_width = {shape.cols: 0 for shape in mapping.fold_shapes}
    for shape in mapping.fold_shapes:
        folds_by_width[shape.cols] += shape.count
    return [(count // mapping.row_folds * inner_folds, stream * cols) for cols, count in folds_by_width.items()]


def _operand_bursts(mapping: Mapping) -> tuple[list[Burst], list[Burst]]:
    stream = mapping.spans[2]
    left, right = [], []
    for shape in mapping.fold_shapes:
        stationary_values = shape.rows * shape.cols
        left_values, right_values = {
            "ws": (stream * shape.rows, stationary_values),
            "is": (stationary_values, shape.rows * stream),
        }.get(mapping.dataflow, (shape.rows * stream, stream * shape.cols))
        left.append((shape.count, left_values))
        right.append((shape.count, right_values))
    return left, right


def _operand_reads(
    operand: Operand, bursts: Sequence[Burst], accesses: Accesses, fetched: int, index_bits: int
) -> Traffic:  # fmt: skip
    traffic = Traffic()
    values = sum(times * number for times, number in bursts)
    for stream in operand.streams:
        traffic += accesses.read(
            stream.memory, stream.tensor, bursts, stream.bits, stream.factor, stream.stored, min(fetched, values)
        )
        if operand.skipping == "skip" and index_bits:
            nonzero = int(values * (1 - operand.zeros))
            traffic += accesses.read(stream.memory, stream.tensor, [(1, nonzero)], index_bits)
    return traffic + generated_traffic(operand, values)


def generated_traffic(operand: Operand, values: int) -> Traffic:
    """Traffic of the bits that a generator yields for `values` of the operand."""
    if not operand.generated_bits:
        return Traffic()
    return Traffic((Count(operand.generator, "generate", "feedback", values * operand.generated_bits),))


def _processing_elements(product: Gemm, array: Array) -> tuple[Count, ...]:
    """Action counts of active PE-cycles, and of idle ones (filling, draining, unused rows and columns, gated zeros)."""
    mapping, name, result, useful_macs = product.mapping, array.name, product.result, product.useful_macs
    left_bits, right_bits, accumulator_bits = product.left.bits, product.right.bits, product.accumulator_bits
    left_moved = ceil(left_bits * product.left.block)
    shifted = {"ws": left_moved, "is": right_bits, "broadcast": 0}.get(mapping.dataflow, left_moved + right_bits)
    widths = (left_bits, right_bits, accumulator_bits, shifted)
    idle = max(0, product.cycles * mapping.rows * mapping.cols - useful_macs)
    counts = [Count(name, "mac", result, useful_macs, (left_bits, right_bits, accumulator_bits))]
    if shifted:
        counts.append(Count(name, "shift_operand", result, useful_macs, (shifted,)))
    counts += [
        Count(name, "shift_psum", result, useful_macs, (accumulator_bits,)),
        Count(name, "clock", result, useful_macs, widths),
        Count(name, "idle", result, idle, widths),
    ]
    return tuple(count for count in counts if count.count)
