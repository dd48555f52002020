"""The tables of how a step uses the chip: what fits in which memory, who works and who waits, what transport costs."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from fahw.report.run_folder import Line, Run
from fahw.report.table import Table, pivot
from fahw.units import BITS_PER_KIB, J_PER_PJ, fixed, percent, scale_for, significant

Cells = dict[tuple[str, ...], str]
_TOTAL = "total"


def usage_tables(run: Run) -> list[Table]:
    """The tables of placements, busy shares, bandwidth, stalls and transport of every line that the chip can host."""
    tables = (_placement_table(run), _busy_table(run), _bandwidth_table(run), _stall_table(run), _transport_table(run))
    return [table for table in tables if table is not None]


def _row_keys(columns: list[tuple[str, Cells]]) -> list[tuple[str, ...]]:
    """The keys of all columns' cells, in their order."""
    return list(dict.fromkeys(key for _, cells in columns for key in cells))


def _placement_table(run: Run) -> Table | None:
    """The table of what each memory holds; a memory has a total where it holds more than two tensors."""
    memories = run.inputs["chip"].get("memories", ())
    names = {memory["name"]: f"{memory['name']} ({_size_text(memory.get('size_kib'))})" for memory in memories}
    columns = [(line.label, _placement_cells(line, names)) for line in run.hosted]
    order = list(names.values())
    summed = {
        key[0] for _, cells in columns for key in cells if len([other for other in cells if other[0] == key[0]]) > 2
    }
    keys = [key for key in _row_keys(columns) if key[1] != _TOTAL or key[0] in summed]
    keys.sort(key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[1] == _TOTAL))
    notes = (
        "KiB that a rule keeps in a memory. Spilled: the part that does not fit and lies in DRAM. A memory as built "
        "may be larger than what is stored; its unused banks leak all the same.",
    )
    heads = "memory (size)", "tensor"
    return pivot("placements", "What fits in which memory [KiB]", heads, columns, keys, (*notes, *_other_sizes(run)))


def _other_sizes(run: Run) -> Iterator[str]:
    """Yield a sentence for every line whose memories have other sizes than the chip file says."""
    given = {memory["name"]: memory.get("size_kib") for memory in run.inputs["chip"].get("memories", ())}
    for line in run.hosted:
        sizes = line.details.get("memory_kib", {}).items()
        texts = ", ".join(f"{name} {_size_text(kib)}" for name, kib in sizes if _differs(kib, given.get(name)))
        if texts:
            yield f"{line.label}, at equal area: {texts}, as area that feedback weights leave free is buffer."


def _differs(kib: float, given: float | str | None) -> bool:
    return isinstance(given, int | float) and kib != given


def _size_text(kib: float | str | None) -> str:
    """The size of a memory in KiB, or that it is not given."""
    return f"{fixed(float(kib), 0)} KiB" if isinstance(kib, int | float) else str(kib or "size not given")


def _placement_cells(line: Line, names: dict[str, str]) -> Cells:
    """KiB by memory and tensor, and in all by memory."""
    by_memory: dict[str, list[tuple[str, int, int]]] = {}
    for item in line.details["placements"]:
        name = names.get(item["memory"], item["memory"])
        by_memory.setdefault(name, []).append((item["tensor"], item["bits"], item["spilled_bits"]))
    cells: Cells = {
        (name, tensor): _kib_text(bits, spilled) for name, items in by_memory.items() for tensor, bits, spilled in items
    }
    sums = {name: (sum(item[1] for item in items), sum(item[2] for item in items)) for name, items in by_memory.items()}
    return cells | {(name, _TOTAL): _kib_text(*amounts) for name, amounts in sums.items()}


def _kib_text(bits: int, spilled_bits: int) -> str:
    """The KiB that are kept, and the part of them that is spilled if any."""
    text = fixed(bits / BITS_PER_KIB, 1)
    return f"{text} ({fixed(spilled_bits / BITS_PER_KIB, 1)} spilled)" if spilled_bits else text


def _busy_table(run: Run) -> Table | None:
    columns = [(line.label, _busy_cells(line)) for line in run.hosted]
    notes = (
        "Busy cycles of a step over the steady-state interval between steps: the part near 100 % bounds the speed. "
        "A memory's read and write side count apart.",
    )
    return pivot("busy", "How busy the parts are [% of the interval]", ("part",), columns, _row_keys(columns), notes)


def _busy_cells(line: Line) -> Cells:
    """The share of the interval that each part is busy, in percent."""
    interval = line.numbers["interval_cycles"] or 1.0
    return {(part,): fixed(100 * cycles / interval, 1) for part, cycles in line.details["busy"].items()}


def _bandwidth_table(run: Run) -> Table | None:
    columns = [(line.label, _bandwidth_cells(line)) for line in run.hosted]
    notes = (
        "Mean over the interval between steps of what passes a port (bits) or what an array does (MACs), and its share "
        "of what it could.",
    )
    caption = "Bandwidth and speed [per cycle]"
    return pivot("bandwidth", caption, ("part", "at most"), columns, sorted(_row_keys(columns)), notes)


def _bandwidth_cells(line: Line) -> Cells:
    """What passes each port per cycle on average, and its share of the most that can."""
    cells: Cells = {}
    for part in line.details.get("parts", ()):
        peak, mean = part["per_cycle"], part["mean_per_cycle"]
        if peak:
            cell = f"{significant(mean, 3)} ({percent(mean / peak)})"
            cells[part["part"], f"{peak:,.6g} {part['unit']}"] = cell
    return cells


def _stall_table(run: Run) -> Table | None:
    columns = [(line.label, _stall_cells(line)) for line in run.hosted]
    notes = ("Load: waiting for operands from a memory; drain: waiting for results to be taken away.",)
    rows = sorted(_row_keys(columns))
    return pivot("stalls", "Stalls [cycles per isolated step]", ("part", "waits for"), columns, rows, notes)


def _stall_cells(line: Line) -> Cells:
    """Cycles that each part waits in an isolated step, by cause."""
    cells: Cells = {}
    for key, cycles in line.details["stalls"].items():
        part, _, cause = key.partition(": ")
        cells[part, cause] = fixed(cycles, 0)
    return cells


def _transport_table(run: Run) -> Table | None:
    """The table of the energy of weight transport, with its total and its share of the step."""
    energies = {line.label: _transport_pj(line) for line in run.hosted}
    moving = {label: by_key for label, by_key in energies.items() if by_key}
    totals = {label: fsum(by_key.values()) for label, by_key in moving.items()}
    scale = scale_for([value * J_PER_PJ for value in totals.values()], "J")
    whole = {line.label: line.numbers["energy_pj_per_step"] or 0.0 for line in run.hosted}
    columns: list[tuple[str, Cells]] = []
    for label, by_key in moving.items():
        cells = {key: scale.show(value * J_PER_PJ) for key, value in by_key.items()}
        share = percent(totals[label] / whole[label]) if whole[label] else "–"
        total: Cells = {(_TOTAL, "", ""): scale.show(totals[label] * J_PER_PJ), ("of the step", "", ""): share}
        columns.append((label, cells | total))
    keys = _row_keys(columns)
    keys.sort(key=lambda key: not key[1])
    notes = (
        "Energy of the phase transport, summed over the layers. Rules without a column move nothing. Backpropagation "
        "on one memory (shared) moves nothing either: it pays in the phase error, for reading that memory transposed.",
    )
    caption = f"Weight transport [{scale.unit} per step]"
    return pivot("transport", caption, ("component", "action", "tensor"), columns, keys, notes)


def _transport_pj(line: Line) -> dict[tuple[str, ...], float]:
    """The energy of weight transport in pJ by component, action and tensor."""
    by_key: dict[tuple[str, ...], list[float]] = {}
    for row in line.ledger:
        if row.phase == "transport":
            by_key.setdefault((row.component, row.action, row.tensor), []).append(row.energy_pj)
    return {key: fsum(values) for key, values in by_key.items()}
