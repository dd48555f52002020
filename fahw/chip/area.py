"""Area of a chip as built, and with every memory fitted to what a rule stores."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum

from fahw.chip.array_stores import stores
from fahw.hardware.array import Array
from fahw.hardware.arrays.catalogue import DATAFLOWS
from fahw.hardware.chip import Chip
from fahw.hardware.generator import GENERATORS
from fahw.hardware.memory import Memory
from fahw.technology.logic_units import Unit, processing_element, shifter
from fahw.technology.storage import Scratchpad
from fahw.work.counts.record import Placement
from fahw.work.mesh import NOC, core_prefix

_LANE_BITS = (16, 8, 32)  # a vector lane multiplies the optimizer state by an 8-bit constant


def area_mm2(chip: Chip, transposable: bool, placements: Iterable[Placement] | None = None) -> float:
    """Area of memories, arrays with their stores, lanes, generators and routers; memories fitted to `placements` where
    these are given."""
    return fsum(areas_mm2(chip, transposable, placements).values())


def areas_mm2(chip: Chip, transposable: bool, placements: Iterable[Placement] | None = None) -> dict[str, float]:
    """The area of every component that has one, by its name in the ledger; arguments as of `area_mm2`."""
    logic = {
        name: generator.area_mm2
        for name in GENERATORS
        if (generator := getattr(chip, name)) is not None
    }  # fmt: skip
    for array in chip.arrays:
        pads = fsum(pad.area_mm2 for pad in scratchpads(chip, array))
        logic[array.name] = array.rows * array.cols * (_element(chip).area_mm2 + pads)
        logic[f"{array.name}.vector"] = array.lanes * _lane(chip).area_mm2
        logic |= {store.name: store.area_mm2 for store in stores(chip, array)}
    resident = None if placements is None else resident_kib(placements)
    areas: dict[str, float] = {}
    for core in range(chip.mesh.cores if chip.mesh else 1):
        prefix = core_prefix(chip, core)
        for memory in chip.memories:
            name = f"{prefix}{memory.name}"
            size = memory.kib if resident is None else resident.get(name, 0.0)
            areas[name] = _memory_area_mm2(chip, memory, transposable, size)
        areas |= {f"{prefix}{name}": area for name, area in logic.items()}
    if chip.mesh:
        areas[NOC] = chip.mesh.cores * chip.mesh.router_area_mm2
    return areas


def resident_kib(placements: Iterable[Placement]) -> dict[str, float]:
    """KiB that every memory holds, spilled bits apart, by its name with the core's prefix."""
    resident: dict[str, float] = {}
    for placement in placements:
        bits = placement.bits - placement.spilled_bits
        resident[placement.memory] = resident.get(placement.memory, 0.0) + bits / 8192
    return resident


def _memory_area_mm2(chip: Chip, memory: Memory, transposable: bool, size_kib: float) -> float:
    has_overhead = transposable and "weight" in memory.holds
    overhead = chip.transposed_access.of(memory, chip.technology).area if has_overhead else 0.0
    return memory.area(chip.technology, size_kib) * (1 + overhead)


def array_leak_mw(chip: Chip, array: Array) -> float:
    """Static power of an array with its scratchpads and vector lanes, in mW."""
    element = _element(chip).leak_mw + fsum(pad.leak_mw for pad in scratchpads(chip, array))
    return array.rows * array.cols * element + array.lanes * _lane(chip).leak_mw


def _element(chip: Chip) -> Unit:
    """One processing element, built for the chip's clock and its widest operands."""
    numbers = chip.precision.number
    operands = [numbers(tensor).float_form for tensor in ("activation", "weight", "error", "feedback")]
    form = max((form for form in operands if form is not None), key=lambda form: form.digits, default=None)
    process = chip.technology.built_for(chip.clock_mhz)
    return processing_element(chip.element_bits, process, form, numbers("accumulator").float_form)


def _lane(chip: Chip) -> Unit:
    """One vector lane: what multiplies and adds, as an element does, and a shifter."""
    sum_form = chip.precision.number("accumulator").float_form
    process = chip.technology.built_for(chip.clock_mhz)
    return processing_element(_LANE_BITS, process, sum_form, sum_form) + shifter(_LANE_BITS[-1], process)


def scratchpads(chip: Chip, array: Array) -> list[Scratchpad]:
    """What one processing element stores beside its registers, by the kinds of arrays."""
    bits, process = chip.precision.bits, chip.technology
    return [pad for kind in DATAFLOWS.values() for pad in kind.element_storage(array, bits, process)]
