"""Backpropagation on as much silicon: the chip without its feedback memory, whose area another memory is given."""

from __future__ import annotations

from dataclasses import dataclass

from fahw.activity import Activity
from fahw.chip.area import area_mm2
from fahw.chip.cost import SHARED, Cost, simulate
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.network.graph import Network


@dataclass(frozen=True)
class Grown:
    """The cost on the chip whose `memory` is `added_kib` larger; nothing is added where nothing lies in DRAM for want
    of room: more of a memory that does not overflow costs leakage and saves nothing."""

    cost: Cost
    memory: str = ""
    added_kib: float = 0.0


def at_equal_area(chip: Chip, network: Network, shared: Cost, activity: Activity | None) -> Grown:
    """Backpropagation on one weight memory, whose cost is `shared`, with the area of the feedback memory as more of the
    memory that overflows most, in whole banks; the better of that and of leaving the area empty."""
    small = Grown(shared)
    spilled: dict[str, int] = {}
    for placement in small.cost.placements:
        spilled[placement.memory] = spilled.get(placement.memory, 0) + placement.spilled_bits
    name = max(spilled, key=lambda memory: spilled[memory], default="")
    derived = chip.without_feedback_memory()
    memory = next((found for found in derived.memories if found.name == name and found.writable), None)
    if memory is None or not spilled[name]:
        return small
    area = area_mm2(chip, transposable=False)
    added = _banks(derived, memory, area, small.cost.form == "transposable") * memory.bank
    if not added:
        return small
    large = _larger(derived, memory, added)
    found = Grown(simulate(large, network, shared.rule, shared.batch_size, SHARED, activity), name, added)
    return min(small, found, key=lambda grown: grown.cost.energy_pj)


def _banks(chip: Chip, memory: Memory, area: float, transposable: bool) -> int:
    """How many more banks fit into `area`, mm2."""
    empty = area_mm2(chip, transposable)
    bank = area_mm2(_larger(chip, memory, memory.bank), transposable) - empty
    return max(0, int((area - empty) / bank + 1e-9)) if bank > 0 else 0


def _larger(chip: Chip, memory: Memory, added_kib: float) -> Chip:
    grown = memory.model_copy(update={"size_kib": memory.kib + added_kib})
    return chip.model_copy(update={"memories": tuple(grown if m is memory else m for m in chip.memories)})
