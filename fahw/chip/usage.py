"""Use of the parts of a chip by a step: who is busy, who waits for what, how much passes each port."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from fahw.chip.cost import Cost
from fahw.hardware.chip import Chip
from fahw.work.counts.record import local_name
from fahw.work.mesh import NOC


@dataclass(frozen=True)
class PartUse:
    """The use of a part in one step. `kind`: array, lanes, memory, link, dram, mesh, or other.

    `amount`: bits that pass it (memory, link, dram, mesh) or multiply-accumulates (array), `per_cycle` at most;
    both 0 where a part has no such measure. `stall_cycles`: of the isolated step, by cause.
    """

    part: str
    kind: str
    busy_cycles: int
    utilisation: float
    amount: int = 0
    per_cycle: float = 0.0
    mean_per_cycle: float = 0.0
    stall_cycles: Mapping[str, int] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Unit of `amount`: bits or MACs, empty where the part has no such measure."""
        return {"array": "MACs", "lanes": "", "other": ""}.get(self.kind, "bits")


def uses(cost: Cost) -> tuple[PartUse, ...]:
    """All parts that a step uses, by name. Utilisation and means are over the steady-state interval between steps."""
    chip, interval = cost.work.chip, cost.interval_cycles or 1.0
    amounts, rates = _amounts(cost)
    stalls: dict[str, dict[str, int]] = defaultdict(dict)
    for (part, cause), cycles in sorted(cost.timing.stalls.items()):
        if cycles:
            stalls[part][cause] = cycles
    return tuple(
        PartUse(
            part, _part_kind(chip, part), busy, busy / interval, amounts.get(part, 0), rates.get(part, 0.0),
            amounts.get(part, 0) / interval, stalls.get(part, {}),
        )
        for part, busy in sorted(cost.timing.busy.items())
    )  # fmt: skip


def executed_macs(cost: Cost) -> dict[tuple[str, str, int], int]:
    """Multiply-accumulates that the array of a task (phase, layer, micro-batch) does: without those it skips."""
    return {
        (task.phase, task.layer, task.micro): sum(count.count for count in task.counts if count.action == "mac")
        for task in cost.work.tasks
        if task.macs
    }


def peak_macs(chip: Chip) -> dict[str, int]:
    """Multiply-accumulates per cycle of each array."""
    return {array.name: array.rows * array.cols for array in chip.arrays}


def _amounts(cost: Cost) -> tuple[dict[str, int], dict[str, float]]:
    """Amounts that pass every part per step (the mean, for tasks that run once in several), and most per cycle."""
    chip = cost.work.chip
    amounts: dict[str, int] = defaultdict(int)
    rates: dict[str, float] = {}
    macs, peaks = executed_macs(cost), peak_macs(chip)
    links = {link.name: link.width_bits for link in chip.links}
    for task in cost.work.tasks:
        name = local_name(task.part)
        if task.macs:
            amounts[task.part] += macs[task.phase, task.layer, task.micro]
            rates[task.part] = float(peaks[name])
        elif name in links:
            amounts[task.part] += task.payload_bits // task.every
            rates[task.part] = float(links[name])
        for flow in (*task.loads, *task.drains):
            if _part_kind(chip, flow.part) not in ("lanes", "other"):
                amounts[flow.part] += flow.amount // task.every
                rates[flow.part] = flow.per_cycle
    return amounts, rates


def _part_kind(chip: Chip, part: str) -> str:
    name = local_name(part)
    if part.startswith(f"{NOC}:"):
        return "mesh"
    kinds = {array.name: "array" for array in chip.arrays} | {f"{array.name}.vector": "lanes" for array in chip.arrays}
    kinds |= {link.name: "link" for link in chip.links} | {"dram": "dram"}
    return kinds.get(name) or ("memory" if memory_of(chip, part) else "other")


def memory_of(chip: Chip, port: str) -> str:
    """The memory, without its core, that a port belongs to (`core1:weight_sram.read`); empty where it is none's."""
    name = local_name(port)
    for memory in chip.memories:
        if name in (memory.name, f"{memory.name}.read", f"{memory.name}.write"):
            return memory.name
    return ""
