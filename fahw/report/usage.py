"""The tables of how a step uses the chip: what fits in which memory, who works and who waits, what transport costs."""

from __future__ import annotations

from math import fsum

from fahw.report.run_folder import Line, Run
from fahw.report.table import Table, pivot
from fahw.units import BITS_PER_KIB, J_PER_PJ, fixed, percent, scale_for, significant

Keyed = dict[tuple[str, ...], str]
_TOTAL = "total"


def usage_tables(run: Run) -> list[Table]:
    """Placements, busy shares, bandwidth, stalls and transport of every line that the chip can host."""
    tables = (_placements(run), _busy(run), _bandwidth(run), _stalls(run), _transport(run))
    return [table for table in tables if table is not None]


def _keys(columns: list[tuple[str, Keyed]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(key for _, cells in columns for key in cells))


def _placements(run: Run) -> Table | None:
    memories = run.inputs["chip"].get("memories", ())
    names = {memory["name"]: f"{memory['name']} ({_size(memory.get('size_kib'))})" for memory in memories}
    columns = [(line.label, _placed(line, names)) for line in run.hosted]
    order = list(names.values())
    many = {key[0] for _, cells in columns for key in cells if len([k for k in cells if k[0] == key[0]]) > 2}
    keys = [key for key in _keys(columns) if key[1] != _TOTAL or key[0] in many]
    keys.sort(key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[1] == _TOTAL))
    notes = (
        "KiB that a rule keeps in a memory. Spilled: the part that does not fit and lies in DRAM. A memory as built "
        "may be larger than what is stored; its unused banks leak all the same.",
    )
    return pivot("placements", "What fits in which memory [KiB]", ("memory (size)", "tensor"), columns, keys, notes)


def _size(kib: float | str | None) -> str:
    return f"{fixed(float(kib), 0)} KiB" if isinstance(kib, int | float) else str(kib or "size not given")


def _placed(line: Line, names: dict[str, str]) -> Keyed:
    """KiB per memory and tensor, and per memory."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for item in line.details["placements"]:
        name = names.get(item["memory"], item["memory"])
        found.setdefault(name, []).append((item["tensor"], item["bits"], item["spilled_bits"]))
    cells: Keyed = {(name, tensor): _kib(bits, out) for name, items in found.items() for tensor, bits, out in items}
    sums = {name: (sum(i[1] for i in items), sum(i[2] for i in items)) for name, items in found.items()}
    return cells | {(name, _TOTAL): _kib(*amounts) for name, amounts in sums.items()}


def _kib(bits: int, spilled_bits: int) -> str:
    text = fixed(bits / BITS_PER_KIB, 1)
    return f"{text} ({fixed(spilled_bits / BITS_PER_KIB, 1)} spilled)" if spilled_bits else text


def _busy(run: Run) -> Table | None:
    columns = [(line.label, _shares(line)) for line in run.hosted]
    notes = (
        "Busy cycles of a step over the steady-state interval between steps: the part near 100 % bounds the speed. "
        "A memory's read and write side count apart.",
    )
    return pivot("busy", "How busy the parts are [% of the interval]", ("part",), columns, _keys(columns), notes)


def _shares(line: Line) -> Keyed:
    interval = line.numbers["interval_cycles"] or 1.0
    return {(part,): fixed(100 * cycles / interval, 1) for part, cycles in line.details["busy"].items()}


def _bandwidth(run: Run) -> Table | None:
    columns = [(line.label, _passed(line)) for line in run.hosted]
    notes = (
        "Mean over the interval between steps of what passes a port (bits) or what an array does (MACs), and its share "
        "of what it could.",
    )
    caption = "Bandwidth and speed [per cycle]"
    return pivot("bandwidth", caption, ("part", "at most"), columns, sorted(_keys(columns)), notes)


def _passed(line: Line) -> Keyed:
    found: Keyed = {}
    for part in line.details.get("parts", ()):
        most, mean = part["per_cycle"], part["mean_per_cycle"]
        if most:
            cell = f"{significant(mean, 3)} ({percent(mean / most)})"
            found[part["part"], f"{most:,.6g} {part['unit']}"] = cell
    return found


def _stalls(run: Run) -> Table | None:
    columns = [(line.label, _waits(line)) for line in run.hosted]
    notes = ("Load: waiting for operands from a memory; drain: waiting for results to be taken away.",)
    rows = sorted(_keys(columns))
    return pivot("stalls", "Stalls [cycles per isolated step]", ("part", "waits for"), columns, rows, notes)


def _waits(line: Line) -> Keyed:
    found: Keyed = {}
    for key, cycles in line.details["stalls"].items():
        part, _, cause = key.partition(": ")
        found[part, cause] = fixed(cycles, 0)
    return found


def _transport(run: Run) -> Table | None:
    energies = {line.label: _transport_pj(line) for line in run.hosted}
    moved = {label: found for label, found in energies.items() if found}
    totals = {label: fsum(found.values()) for label, found in moved.items()}
    scale = scale_for([value * J_PER_PJ for value in totals.values()], "J")
    whole = {line.label: line.numbers["energy_pj_per_step"] or 0.0 for line in run.hosted}
    columns: list[tuple[str, Keyed]] = []
    for label, found in moved.items():
        cells = {key: scale.show(value * J_PER_PJ) for key, value in found.items()}
        share = percent(totals[label] / whole[label]) if whole[label] else "–"
        total: Keyed = {(_TOTAL, "", ""): scale.show(totals[label] * J_PER_PJ), ("of the step", "", ""): share}
        columns.append((label, cells | total))
    keys = _keys(columns)
    keys.sort(key=lambda key: not key[1])
    notes = (
        "Energy of the phase transport, summed over the layers. Rules without a column move nothing. Backpropagation "
        "on one memory (shared) moves nothing either: it pays in the phase error, for reading that memory transposed.",
    )
    caption = f"Weight transport [{scale.unit} per step]"
    return pivot("transport", caption, ("component", "action", "tensor"), columns, keys, notes)


def _transport_pj(line: Line) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], list[float]] = {}
    for row in line.ledger:
        if row.phase == "transport":
            found.setdefault((row.component, row.action, row.tensor), []).append(row.energy_pj)
    return {key: fsum(values) for key, values in found.items()}
