"""What `fahw simulate` prints: a cost as JSON or in words."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fahw.chip.constants import constants_used, summary
from fahw.chip.cost import SHARED, Cost
from fahw.chip.ledger import LEDGER_COLUMNS
from fahw.chip.transport_forms import TransportCost, cheapest
from fahw.chip.usage import uses
from fahw.report.cost_files import memory_sizes, part_rows
from fahw.units import percent, si

if TYPE_CHECKING:
    from fahw.chip.trace import Trace
    from fahw.work.counts.plan_record import PlanRecord

_BUSIEST = 6
"""How many parts the text of a cost shows."""


def cost_json(cost: Cost, transport_costs: Sequence[TransportCost]) -> str:
    """Everything about a cost as JSON, and under `forms` the rule under every form of transport that was asked for."""
    names = (
        "chip", "model", "rule", "transport", "form", "batch_size", "cycles", "interval_cycles", "seconds", "energy_pj",
        "energy_pj_per_sample", "static_pj", "isolated_static_pj", "one_time_pj", "area_mm2", "area_used_mm2",
        "power_mw", "samples_per_second", "tops_per_watt", "energy_delay_js", "inference_pj_per_sample",
        "feedback_bits", "transported_bits", "spilled_bits", "macs", "padding_macs", "micro_batch", "splits",
    )  # fmt: skip
    value: dict[str, Any] = {name: getattr(cost, name) for name in names}
    value["busy_cycles"] = dict(sorted(cost.timing.busy.items()))
    value["stall_cycles"] = {f"{part}: {cause}": n for (part, cause), n in sorted(cost.timing.stalls.items()) if n}
    value["parts"] = part_rows(cost)
    value["forms"] = [_form_values(transport_cost, cheapest(transport_costs)) for transport_cost in transport_costs]
    value["placements"] = [asdict(placement) for placement in cost.placements]
    value["memory_kib"] = memory_sizes(cost)
    value["mapping"] = asdict(cost.work.plan) if cost.work.plan else None
    value["constants"] = [asdict(used) for used in constants_used(cost.ledger)]
    value["ledger"] = [{name: getattr(row, name) for name in LEDGER_COLUMNS} for row in cost.ledger]
    return json.dumps(value, indent=1) + "\n"


def _form_values(transport_cost: TransportCost, best: Cost | None) -> dict[str, Any]:
    """The figures of a form of transport, None where the chip cannot host it; `best`: the cost of least energy."""
    value: dict[str, Any] = {
        "transport": transport_cost.transport,
        "hosted": transport_cost.cost is not None,
        "reason": transport_cost.reason,
    }
    names = ("form", "cycles", "interval_cycles", "energy_pj", "area_mm2", "transported_bits", "micro_batch")
    value |= {name: getattr(transport_cost.cost, name, None) for name in names}
    return value | {"least_energy": transport_cost.cost is not None and transport_cost.cost is best}


def _form_lines(transport_costs: Sequence[TransportCost]) -> list[str]:
    """A line for each form of transport: what it costs, and how much more energy than the one that needs the least."""
    best = cheapest(transport_costs)
    lines = ["", f"{'forms of transport':<26}{'cycles':>14}{'interval':>14}{'energy':>12}{'area mm2':>10}"]
    for number, transport_cost in enumerate(transport_costs):
        cost = transport_cost.cost
        if cost is None or best is None:
            lines.append(f"  {transport_cost.transport:<24}not possible: {transport_cost.reason}")
            continue
        name = transport_cost.transport if cost.form == cost.transport else f"{transport_cost.transport} ({cost.form})"
        energy = si(cost.energy_pj * 1e-12, "J", 4)
        row = f"  {name:<24}{cost.cycles:>14,}{cost.interval_cycles:>14,.0f}{energy:>12}{cost.area_mm2:>10.2f}"
        notes = ["the default: the figures above"] if number == 0 else []
        notes += [f"micro-batch {cost.micro_batch}"] if cost.splits else []
        more = f"{percent(cost.energy_pj / best.energy_pj - 1)} more energy"
        lines.append(f"{row}  {', '.join([*notes, 'least energy' if cost is best else more])}")
    if any(transport_cost.transport == SHARED for transport_cost in transport_costs):
        lines.append("  shared: the chip without its feedback memory, one weight memory read by rows and by columns")
    return lines


def cost_text(cost: Cost, transport_costs: Sequence[TransportCost]) -> str:
    """A cost for people: the figures, the other forms of transport, and energy by phase and component."""
    samples = f"{cost.samples_per_second:,.0f} samples/s"
    figures = [
        ("chip, model", f"{cost.chip}, {cost.model}"),
        ("rule, transport", f"{cost.rule}, {cost.transport}{f' ({cost.form})' if cost.form != cost.transport else ''}"),
        ("batch size", _batch_text(cost)),
        ("cycles of one step", f"{cost.cycles:,}"),
        ("cycles between steps", f"{cost.interval_cycles:,.0f} ({si(cost.seconds, 's')}, {samples})"),
        ("energy of a step", f"{si(cost.energy_pj * 1e-12, 'J')}, of which static {si(cost.static_pj * 1e-12, 'J')}"),
        ("energy of a sample", si(cost.energy_pj_per_sample * 1e-12, "J")),
        ("inference of a sample", f"{si(cost.inference_pj_per_sample * 1e-12, 'J')} (forward alone, without static)"),
        ("power", f"{si(cost.power_mw * 1e-3, 'W')}, {cost.tops_per_watt:.2f} TOPS/W"),
        ("multiply-accumulates", _macs_text(cost)),
        *((("mapping", _mapping_text(cost.work.plan)),) if cost.work.plan else ()),
        ("area", f"{cost.area_mm2:.2f} mm2, used {cost.area_used_mm2:.2f} mm2"),
        ("feedback stored", f"{cost.feedback_bits:,} bits (written once: {si(cost.one_time_pj * 1e-12, 'J')})"),
        ("transported", f"{cost.transported_bits:,} bits per step"),
    ]
    lines = [f"{name:<22} {text}" for name, text in figures]
    lines += _form_lines(transport_costs) if len(transport_costs) > 1 else []
    for title, key in (("energy by phase", "phase"), ("energy by component", "component")):
        lines += ["", title, *_shares(cost, key)]
    lines += ["", f"busiest parts of {len(cost.timing.busy)} (all: --json)", *_parts(cost)]
    lines += ["", "memories", *_placements(cost)]
    lines += [
        "",
        "constants (sources: --json)",
        *(f"  {name:<22} {text}" for name, text in summary(constants_used(cost.ledger))),
    ]
    return "\n".join(lines) + "\n"


def _batch_text(cost: Cost) -> str:
    """The batch size, and into what it is split."""
    if cost.splits:
        tried = ", ".join(map(str, cost.splits))
        return f"{cost.batch_size}, micro-batch {cost.micro_batch} (the best for {cost.rule}, of {tried})"
    is_split = cost.micro_batch < cost.batch_size
    return f"{cost.batch_size}, micro-batch {cost.micro_batch}" if is_split else str(cost.batch_size)


def _mapping_text(plan: PlanRecord) -> str:
    """How many products are mapped for which objective, and how many errors are gathered."""
    forms = list(plan.errors.values())
    gathered = f", {forms.count('gather')} of {len(forms)} errors gathered" if forms else ""
    shared = f", {len(plan.fused)} errors in tiles that two tasks share" if plan.fused else ""
    return f"best for {plan.objective}: {len(plan.products)} products{gathered}{shared} (all: --json)"


def _macs_text(cost: Cost) -> str:
    """The multiply-accumulates of a step, and how many of them the padding takes."""
    padded = cost.work.padding_macs / cost.macs if cost.macs else 0.0
    of_padding = f", {padded:.1%} of them with zeros of paddings" if padded else ""
    return f"{cost.macs:,} per step{of_padding}"


def _shares(cost: Cost, key: str) -> list[str]:
    """A line for each value of column `key` of the ledger, most energy first: its energy and share of the step's."""
    sums: dict[str, float] = defaultdict(float)
    for row in cost.ledger:
        sums[getattr(row, key) or "static"] += row.energy_pj
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return [f"  {name:<22} {si(pj * 1e-12, 'J'):>12} {pj / cost.energy_pj:7.1%}" for name, pj in ordered]


def _parts(cost: Cost) -> list[str]:
    """A line for each of the busiest parts: its share of the interval, what passes it per cycle, its longest wait."""
    lines = []
    for use in sorted(uses(cost), key=lambda use: -use.utilisation)[:_BUSIEST]:
        line = f"  {use.part:<26} busy {use.utilisation:6.1%}"
        if use.unit:
            line += f", {use.mean_per_cycle:,.1f} of {use.per_cycle:,.0f} {use.unit} per cycle"
        if use.stall_cycles:
            cause, cycles = max(use.stall_cycles.items(), key=lambda item: item[1])
            line += f", waits {cycles:,} cycles for: {cause}"
        lines.append(line)
    return lines


def _placements(cost: Cost) -> list[str]:
    """A line for each tensor that a memory holds, with its size."""
    lines = []
    for placed in cost.placements:
        spill = f", {placed.spilled_bits / 8192:.1f} KiB of it in DRAM" if placed.spilled_bits else ""
        lines.append(f"  {placed.memory:<22} {placed.tensor:<12} {placed.bits / 8192:9.1f} KiB{spill}")
    return lines


def trace_text(trace: Trace) -> str:
    """What a trace file shows of its steps, and how to see what it leaves out."""
    text = f"trace: {trace.path}, {trace.spans:,} spans, cycles {trace.start:,} to {trace.end:,} of {trace.cycles:,}"
    if trace.cut:
        text += f"; cut there to keep the file small, the rest: --trace-window {trace.end}:{trace.cycles}"
    return text
