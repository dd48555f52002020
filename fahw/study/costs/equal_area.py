"""Backpropagation on as much silicon: the chip without its feedback memory, whose area another memory is given."""

from __future__ import annotations

from dataclasses import dataclass

from fahw.activity import Activity
from fahw.chip.area import area_mm2
from fahw.chip.cost import SHARED, Cost, simulate
from fahw.chip.equal_area import grown_memory
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory
from fahw.network.graph import Network


@dataclass(frozen=True)
class EqualAreaCost:
    """A cost on the chip whose `memory` is `added_kib` larger. Nothing is added where nothing lies in DRAM for want of
    room: more of a memory that does not overflow costs leakage and saves nothing."""

    cost: Cost
    memory: str = ""
    added_kib: float = 0.0


def at_equal_area(chip: Chip, network: Network, shared: Cost, activity: Activity | None) -> EqualAreaCost:
    """Backpropagation on one weight memory, whose cost is `shared`, with the area of the feedback memory as more of the
    memory that overflows most, in whole banks; the better of that and of leaving the area empty. Under the best
    mappings that cost has chosen already."""
    if chip.mapping == "best":
        return EqualAreaCost(shared, *grown_memory(chip.without_feedback_memory(), shared.work.chip))
    unchanged = EqualAreaCost(shared)
    spilled: dict[str, int] = {}
    for placement in unchanged.cost.placements:
        spilled[placement.memory] = spilled.get(placement.memory, 0) + placement.spilled_bits
    name = max(spilled, key=lambda memory: spilled[memory], default="")
    baseline = chip.without_feedback_memory()
    memory = next((enlarged for enlarged in baseline.memories if enlarged.name == name and enlarged.writable), None)
    if memory is None or not spilled[name]:
        return unchanged
    area_to_fill = area_mm2(chip, transposable=False)
    added_kib = _banks_that_fit(baseline, memory, area_to_fill, unchanged.cost.form == "transposable") * memory.bank
    if not added_kib:
        return unchanged
    larger_chip = _with_larger_memory(baseline, memory, added_kib)
    enlarged = EqualAreaCost(
        simulate(larger_chip, network, shared.rule, shared.batch_size, SHARED, activity), name, added_kib
    )
    return min(unchanged, enlarged, key=lambda candidate: candidate.cost.energy_pj)


def _banks_that_fit(chip: Chip, memory: Memory, area_to_fill: float, transposable: bool) -> int:
    """The number of further banks of `memory` that fit into a chip of `area_to_fill` mm2."""
    area_without = area_mm2(chip, transposable)
    bank_mm2 = area_mm2(_with_larger_memory(chip, memory, memory.bank), transposable) - area_without
    return max(0, int((area_to_fill - area_without) / bank_mm2 + 1e-9)) if bank_mm2 > 0 else 0


def _with_larger_memory(chip: Chip, memory: Memory, added_kib: float) -> Chip:
    """The chip with `memory` larger by `added_kib`."""
    larger = memory.model_copy(update={"size_kib": memory.kib + added_kib})
    return chip.model_copy(update={"memories": tuple(larger if other is memory else other for other in chip.memories)})
