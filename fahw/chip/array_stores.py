"""What arrays keep beside their elements' registers: accumulators of each column, further weights of each element.

An access moves one value, whatever its bits. A store is a register file or an SRAM of CACTI's table, whichever takes
less energy; no SRAM is smaller than the table's smallest bank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fahw.hardware.array import ACCUMULATORS, Array
from fahw.hardware.arrays.systolic import InputStationary, WeightStationary
from fahw.hardware.chip import Chip
from fahw.technology.storage import Scratchpad, scratchpad

LEAST_SRAM_BYTES = 1024.0
"""The smallest bank of CACTI's table; below it a store uses part of one, or flip-flops."""


class Store(NamedTuple):
    """`number` equal memories of an array, each as `unit` says. `name`: in the ledger."""

    name: str
    number: int
    unit: Scratchpad

    @property
    def area_mm2(self) -> float:
        """The area of all."""
        return self.number * self.unit.area_mm2


def stores(chip: Chip, array: Array) -> Iterator[Store]:
    """The stores of an array: accumulators of each column, weights of each element."""
    for name in array.stores:
        is_accumulator = name == f"{array.name}.{ACCUMULATORS}"
        entries = array.accumulators if is_accumulator else array.weights_per_element
        bits = chip.element_bits[-1] if is_accumulator else _staying_bits(chip, array)
        number = array.cols if is_accumulator else array.rows * array.cols
        process = chip.technology.built_for()
        yield Store(name, number, scratchpad(bits, entries, process, least_bytes=LEAST_SRAM_BYTES))


def _staying_bits(chip: Chip, array: Array) -> int:
    """Width of the widest operand that can stay in an element: the right one under `ws`, the left one under `is`."""
    left_bits, right_bits, _ = chip.element_bits
    widths = {WeightStationary: right_bits, InputStationary: left_bits}
    return max(bits for kind, bits in widths.items() if kind in array.kinds)
