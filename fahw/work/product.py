"""Counts of a matrix product on a systolic array: operand reads, partial sums, active and idle processing elements.

Operand values of one fold that uses r x c of the array, for an (M x K) by (K x N) product:

    dataflow  left operand  right operand  results
    os        r * K         K * c          r * c
    ws        M * r         r * c          M * c
    is        r * c         r * N          c * N

`ws` and `is` fold K over the rows: all but the last of these folds write their partial sums at accumulator width, all
but the first read them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fahw.config.chip import Array, Memory, Tensor
from fahw.systolic import Mapping
from fahw.work.memory import Accesses, Burst, Traffic
from fahw.work.records import Count


@dataclass(frozen=True)
class Stream:
    """Where (part of) an operand comes from: a memory, bits per value, and the energy factor of its reads."""

    memory: Memory
    tensor: Tensor
    bits: int
    factor: float = 1.0
    stored: Tensor | None = None
    """What lies in the memory, where it differs from the tensor that the read counts as (W read for the error)."""


@dataclass(frozen=True)
class Operand:
    """An operand: its width at the multiplier, the memories that it is read from, bits per value from a generator."""

    bits: int
    streams: tuple[Stream, ...]
    generated_bits: int = 0


@dataclass(frozen=True)
class Product:
    """A mapped product with its operands, the tensor that results, and the accumulator's width."""

    mapping: Mapping
    left: Operand
    right: Operand
    result: Tensor
    accumulator_bits: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.mapping.m * self.mapping.n * self.mapping.k


def product_traffic(product: Product, array: Array, accesses: Accesses, psum: Memory | None) -> Traffic:
    """Everything that the product does except handing on its results; `psum` is where partial sums spill."""
    left, right = _operand_bursts(product.mapping)
    traffic = _reads(product.left, left, accesses) + _reads(product.right, right, accesses)
    if psum is not None:
        bursts = partial_sum_bursts(product.mapping)
        traffic += accesses.write(psum, "psum", bursts, product.accumulator_bits)
        traffic += accesses.read(psum, "psum", bursts, product.accumulator_bits)
    return traffic + Traffic(_processing_elements(product, array))


def partial_sum_bursts(mapping: Mapping) -> list[Burst]:
    """Bursts of partial sums that are written, and read back, between the folds of K."""
    again = mapping.row_folds - 1
    if mapping.dataflow == "os" or not again:
        return []
    stream = mapping.spans[2]
    shapes = {shape.cols: 0 for shape in mapping.fold_shapes}
    for shape in mapping.fold_shapes:
        shapes[shape.cols] += shape.count
    return [(count // mapping.row_folds * again, stream * cols) for cols, count in shapes.items()]


def _operand_bursts(mapping: Mapping) -> tuple[list[Burst], list[Burst]]:
    stream = mapping.spans[2]
    left, right = [], []
    for shape in mapping.fold_shapes:
        held = shape.rows * shape.cols
        left_values, right_values = {
            "os": (shape.rows * stream, stream * shape.cols),
            "ws": (stream * shape.rows, held),
            "is": (held, shape.rows * stream),
        }[mapping.dataflow]
        left.append((shape.count, left_values))
        right.append((shape.count, right_values))
    return left, right


def _reads(operand: Operand, bursts: Sequence[Burst], accesses: Accesses) -> Traffic:
    traffic = Traffic()
    for stream in operand.streams:
        traffic += accesses.read(stream.memory, stream.tensor, bursts, stream.bits, stream.factor, stream.stored)
    if operand.generated_bits:
        bits = sum(times * values for times, values in bursts) * operand.generated_bits
        traffic += Traffic((Count("feedback_generator", "generate", "feedback", bits),))
    return traffic


def _processing_elements(product: Product, array: Array) -> tuple[Count, ...]:
    """Actions per active PE-cycle, and the idle ones (filling, draining, unused rows and columns)."""
    mapping, name, result = product.mapping, array.name, product.result
    a, b, accumulator = product.left.bits, product.right.bits, product.accumulator_bits
    shifted = {"os": a + b, "ws": a, "is": b}[mapping.dataflow]
    widths = (a, b, accumulator, shifted)
    idle = mapping.cycles * mapping.rows * mapping.cols - product.macs
    return (
        Count(name, "mac", result, product.macs, (a, b, accumulator)),
        Count(name, "shift_operand", result, product.macs, (shifted,)),
        Count(name, "shift_psum", result, product.macs, (accumulator,)),
        Count(name, "clock", result, product.macs, widths),
        Count(name, "idle", result, idle, widths),
    )
