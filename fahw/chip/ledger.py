"""The energy ledger: one row per component, action, tensor, phase and layer; the energy of a step is their sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import fsum

from fahw.chip.area import array_leak_mw, resident_kib
from fahw.chip.array_stores import stores
from fahw.chip.unit_prices import Prices
from fahw.hardware.chip import Chip
from fahw.hardware.memory import Memory, with_overhead
from fahw.hardware.part import STATIC
from fahw.technology.constant import Constant
from fahw.technology.logic_units import leakage_constant
from fahw.work.counts.record import Count, Placement, Task
from fahw.work.mesh import core_prefix


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take three times as long to make
class Row:
    """An energy with its address. `energy_pj` is `count` times `unit_pj`; `price` says where the unit comes from."""

    component: str
    action: str
    tensor: str
    phase: str
    layer: str
    count: float
    unit_pj: float
    energy_pj: float
    price: Constant

    @property
    def static(self) -> bool:
        """Whether the row is power times time rather than actions."""
        return self.action == STATIC


LEDGER_COLUMNS = ("component", "action", "tensor", "phase", "layer", "count", "unit_pj", "energy_pj")


def total_pj(rows: Iterable[Row]) -> float:
    """The energy of the rows in pJ: their sum, correctly rounded."""
    return fsum(row.energy_pj for row in rows)


def dynamic_rows(tasks: Iterable[Task], prices: Prices) -> list[Row]:
    """Rows of the tasks' actions, one per address; what happens once in several steps counts by its share."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.phase, task.layer), []).append(task)
    rows: list[Row] = []
    for (phase, layer), group in groups.items():
        counts = [count for task in group for count in task.counts]
        rows += action_rows(counts, prices, phase, layer, group[0].every)
    return rows


def action_rows(counts: Iterable[Count], prices: Prices, phase: str, layer: str, every: int = 1) -> list[Row]:
    """Rows of `counts`; actions at one address but of different widths share a row at their mean price."""
    entries_by_address: dict[tuple[str, str, str], list[tuple[int, Constant]]] = {}
    unit_price = prices.unit_price
    for count in counts:
        address, entry = (count.component, count.action, count.tensor), (count.count, unit_price(count))
        if address in entries_by_address:
            entries_by_address[address].append(entry)
        else:
            entries_by_address[address] = [entry]
    rows = []
    for (component, action, tensor), entries in entries_by_address.items():
        total, price = entries[0]
        unit_pj = price.value
        if len(entries) > 1:
            total = sum([count for count, _ in entries])
            if total and any(constant.value != unit_pj for _, constant in entries):
                unit_pj = fsum([count * constant.value for count, constant in entries]) / total
        per_step = total if every == 1 else total / every
        rows.append(Row(component, action, tensor, phase, layer, per_step, unit_pj, per_step * unit_pj, price))
    return rows


def memory_leakage(chip: Chip, memory: Memory, used_kib: float | None = None) -> Constant:
    """Static power of a memory in mW: what the chip file's energies give, else the memory's own."""
    return _given_leakage(chip, memory.name) or memory.leakage(chip.technology, used_kib)


def _given_leakage(chip: Chip, component: str) -> Constant | None:
    """Static power in mW of a component that the chip file's energies give, or None."""
    for energy in chip.energies:
        if (energy.component, energy.action) == (component, STATIC):
            return energy.constant("leakage", chip.clock_mhz * 1e-3)  # pJ per cycle x MHz = uW
    return None


def _array_leakages(chip: Chip) -> dict[str, Constant]:
    """Static power in mW of every array and of every store of one."""
    node_nm = chip.technology.node_nm
    powers = {array.name: leakage_constant(array_leak_mw(chip, array), node_nm) for array in chip.arrays}
    for array in chip.arrays:
        for store in stores(chip, array):
            given = _given_leakage(chip, store.name)
            powers[store.name] = given or store.unit.leakage.times(store.number)
    return powers


def _memory_power(chip: Chip, memory: Memory, transposable: bool, used_kib: float | None = None) -> Constant:
    """Static power of a memory in mW, with what it takes more to be read by rows and by columns."""
    leak = memory_leakage(chip, memory, used_kib)
    has_overhead = transposable and "weight" in memory.holds
    overhead = chip.transposed_access.of(memory, chip.technology).leakage if has_overhead else 0.0
    return with_overhead(leak, 1 + overhead, "transposed leakage")


def leakages(
    chip: Chip, transposable: bool, placements: Iterable[Placement] = ()
) -> list[tuple[str, Constant]]:  # fmt: skip
    """Static power in mW of every memory, array and store. `placements`: what memories hold, for those whose empty
    banks are switched off."""
    resident, array_powers = resident_kib(placements), _array_leakages(chip)
    powers: list[tuple[str, Constant]] = []
    ungated = {
        memory.name: _memory_power(chip, memory, transposable) for memory in chip.memories if not memory.power_gated
    }
    for core in range(chip.mesh.cores if chip.mesh else 1):
        prefix = core_prefix(chip, core)
        for memory in chip.memories:
            name = f"{prefix}{memory.name}"
            power = ungated.get(memory.name) or _memory_power(chip, memory, transposable, resident.get(name, 0.0))
            powers.append((name, power))
        powers += [(f"{prefix}{name}", power) for name, power in array_powers.items()]
    return powers


def static_rows(
    chip: Chip, leakage: Iterable[tuple[str, Constant]], cycles: float, dram_cycles: float
) -> list[Row]:  # fmt: skip
    """Rows of `leakage`, DRAM background and clock root over `cycles`, during `dram_cycles` of which DRAM moves
    data."""
    powers, technology = list(leakage), chip.technology
    if chip.dram is not None:
        background, powerdown = (chip.dram.constant(action) for action in ("background", "powerdown"))
        active_share = min(1.0, dram_cycles / cycles) if cycles else 0.0
        powers.append(
            ("dram", replace(background, value=background.value * active_share + powerdown.value * (1 - active_share)))
        )
    if technology.clock_root_mw:
        source = technology.source or "assumed"
        powers.append(("clock", Constant(technology.clock_root_mw, source, "clock", 2.0, given=True)))
    return [_static_row(name, power, chip.clock_mhz, cycles) for name, power in powers]


def _static_row(name: str, power: Constant, clock_mhz: float, cycles: float) -> Row:
    pj_per_cycle = power.value * 1e3 / clock_mhz  # mW / MHz = nJ
    return Row(name, STATIC, "", "", "", cycles, pj_per_cycle, cycles * pj_per_cycle, power)
