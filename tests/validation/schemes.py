"""What decides whether fixed feedback saves energy: ways to bring the error back, on a chip of few assumptions and on
edge_dual."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import fsum
from pathlib import Path

from fahw.chip.cost import Cost, simulate
from fahw.chip.ledger import Row
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import ARRAY_ACTIONS, VECTOR_ACTIONS
from fahw.hardware.load import load_chip
from fahw.hardware.memories.prng import Prng
from fahw.units import fixed
from tests.validation.chips import ASSUMED, STATES, array, chip_of, memory, perceptron
from tests.validation.page import table

TITLE = "What decides whether fixed feedback saves energy"
BATCHES = (1, 8, 32, 128)
NETWORK, LAYER = perceptron(256, 256, 256, 10), "linear2"
ANALYTIC = Path(__file__).parent / "data" / "schemes.csv"

READ, WRITE, WIRE, REGISTER, RANDOM, PSUM = 1.63, 1.01, 1.14, 0.2, 0.05, 0.1
"""pJ: a byte read, written and sent over 2 mm; the registers of a MAC; a random bit; a partial sum read or written."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """A way to bring the error back: a rule, a form of transport, and what differs from the chip with two memories.

    `settings`: of the chip file. `shared`: one weight memory. `generated`: a generator in place of the feedback memory.
    """

    name: str
    title: str
    rule: str
    transport: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    generated: bool = False


_ONE_BIT = {"precision.feedback": "1"}
_WASTE = {"transposed_access.read_overhead": "7"}
SCHEMES = (
    Scheme("bp copy", "BP, copies: pJ", "bp", "copy"),
    Scheme("bp write_through", "BP, updates written through", "bp", "write_through"),
    Scheme("bp transposable", "BP, one transposable memory", "bp", "transposable", shared=True),
    Scheme("bp accumulate", "BP, one memory, accumulate", "bp", "accumulate", shared=True),
    Scheme("bp columns", "BP, one memory, 8 columns read for one", "bp", "transposable", _WASTE, shared=True),
    Scheme("fa", "FA, 8 bits", "fa"),
    Scheme("fa 1 bit", "FA, 1 bit", "fa", None, _ONE_BIT),
    Scheme("usf", "uSF, 1 bit", "usf", "write_through"),
    Scheme("frsf", "frSF, 8 bits", "frsf", "write_through"),
    Scheme("brsf", "brSF, magnitudes generated", "brsf", "write_through"),
    Scheme("fa generated", "FA, generated", "fa", generated=True),
    Scheme("dfa", "DFA, 10 outputs", "dfa"),
)


def analytic() -> dict[str, list[float]]:
    """The table by hand: a row per scheme, a number per batch size."""
    lines = [line for line in ANALYTIC.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {row["scheme"]: [float(row[str(batch)]) for batch in BATCHES] for row in csv.DictReader(lines)}


def few_assumptions(scheme: Scheme) -> Chip:
    """Only W, its copy, the link, MACs and registers cost anything; arrays as large as the batch read W once."""
    one_memory = scheme.shared or scheme.generated
    rows = 1 if scheme.transport == "accumulate" else 128  # every product is then a partial sum in memory
    memories = [
        memory("weights", ("weight",), READ, WRITE),
        memory("free", ("mask", "error", "activation")),
        memory("sums", ("psum",), PSUM, PSUM, width_bits=32),
        memory("state", STATES),
    ]
    if scheme.generated:
        random = {"name": "copies", "kind": "prng", "holds": ["feedback"], "width_bits": 8, "pj_per_bit": RANDOM}
        memories.append(random | {"read_bits_per_cycle": 1_000_000, "area_mm2": 0, "assumed": ASSUMED})
    elif not scheme.shared:
        memories.append(memory("copies", ("feedback",), READ, WRITE))
    forward = {"forward": "os", "gradient": "os", "update": "vector"}
    own = "weights" if scheme.shared else "copies"
    wire = {"name": "wire", "from": "weights", "to": "copies", "width_bits": 64, "length_mm": 2}
    parts = {
        "name": "few_assumptions",
        "clock_mhz": 100,
        "technology": {"node_nm": 45, "assumed": ASSUMED},
        "precision": {"master": 8},
        "rounding": dict.fromkeys(("activation", "error", "gradient", "update"), "nearest"),
        "update_options": {"momentum": False, "in_place": True},
        "arrays": [
            array("fwd", forward, ("weights", "free", "sums", "state")),
            array("bwd", {"error": "os"}, (own, "free", "sums"), rows=rows),
        ],
        "memories": memories,
        "links": [] if one_memory else [wire | {"pj_per_bit_mm": WIRE / 16, "assumed": ASSUMED}],
        "feedback_generator": {"pj_per_bit": RANDOM, "bits_per_cycle": 1000, "area_mm2": 0, "assumed": ASSUMED},
        "transport": ["transposable", "accumulate"] if scheme.shared else ["copy", "write_through"],
        "transposed_access": {f"{name}_overhead": 0 for name in ("read", "write", "area", "leak")}
        | {"assumed": ASSUMED},
        "energies": list(_given(not one_memory)),
    }
    return chip_of(parts, scheme.settings)


def _given(linked: bool) -> Iterator[dict[str, object]]:
    """Registers of a MAC; nothing for clock, idle elements, lanes and the transposer."""
    prices = {
        f"{name} {action}": 0.0 for name in ("fwd", "bwd") for action in ("shift_psum", "clock", "idle", "ungated")
    }
    prices |= {f"{name} shift_operand": REGISTER for name in ("fwd", "bwd")}
    prices |= {
        f"{name}.vector {clock}{action}": 0.0
        for name in ("fwd", "bwd") for clock in ("", "clock_") for action in VECTOR_ACTIONS
    }  # fmt: skip
    prices |= {"wire transpose": 0.0} if linked else {}
    for name, pj in prices.items():
        component, action = name.split()
        yield {"component": component, "action": action, "pj": pj, "assumed": ASSUMED}


def all_traffic(scheme: Scheme) -> Chip:
    """edge_dual, with one weight memory or a generator where the scheme has it."""
    chip = load_chip("edge_dual", scheme.settings)
    if scheme.shared:
        return chip.without_feedback_memory()
    if not scheme.generated:
        return chip
    assert chip.feedback_generator is not None
    found = chip.feedback_generator
    generator = Prng(
        name="feedback_sram", kind="prng", holds=("feedback",), width_bits=64, area_mm2=found.area_mm2,
        read_bits_per_cycle=found.bits_per_cycle, pj_per_bit=found.pj_per_bit, assumed=ASSUMED,
    )  # fmt: skip
    memories = tuple(generator if memory.name == "feedback_sram" else memory for memory in chip.memories)
    return chip.model_copy(update={"memories": memories})


@cache
def cost(scheme: Scheme, chip_for: Callable[[Scheme], Chip], batch: int) -> Cost:
    """A step under the scheme."""
    return simulate(chip_for(scheme), NETWORK, scheme.rule, batch, scheme.transport)


def per_weight(rows: Iterable[Row], batch: int) -> float:
    """Dynamic energy of the layer, pJ per weight and sample."""
    return fsum(row.energy_pj for row in rows if row.layer == LAYER) / (WEIGHTS * batch)


def cells(chip_for: Callable[[Scheme], Chip]) -> dict[str, list[float]]:
    """The table: pJ of the first scheme, changes in percent of the others."""
    found: dict[str, list[float]] = {}
    for scheme in SCHEMES:
        values = [per_weight(cost(scheme, chip_for, batch).ledger, batch) for batch in BATCHES]
        base = found.get(SCHEMES[0].name)
        found[scheme.name] = [100 * (v / b - 1) for v, b in zip(values, base, strict=True)] if base else values
    return found


PARTS: dict[str, Callable[[Row], bool]] = {
    "MACs, registers, their clock, idle elements": lambda row: row.action in ARRAY_ACTIONS,
    "W read for `forward`": lambda row: (row.tensor, row.action, row.phase) == ("weight", "read", "forward"),
    "its copy read for `error`": lambda row: (row.tensor, row.phase) == ("feedback", "error"),
    "the copy made": lambda row: row.phase == "transport",
    "W in `update`": lambda row: (row.tensor, row.phase) == ("weight", "update") and row.action in ("read", "write"),
    "master, velocity, gradient": lambda row: row.tensor in STATES and row.action in ("read", "write"),
    "activations, errors, masks": lambda row: row.tensor in ("activation", "error", "mask") and row.action in _WORDS,
    "lanes and rounding": lambda row: True,
}
"""What the energy of the first scheme consists of; a row counts for the first that it suits."""


def breakdown(chip_for: Callable[[Scheme], Chip], batch: int) -> dict[str, float]:
    """Energy of the first scheme by part, pJ per weight and sample."""
    parts: dict[str, list[Row]] = {name: [] for name in PARTS}
    for row in cost(SCHEMES[0], chip_for, batch).ledger:
        if row.layer == LAYER:
            parts[next(name for name, suits in PARTS.items() if suits(row))].append(row)
    return {name: per_weight(rows, batch) for name, rows in parts.items()}


def _partial_sums() -> float:
    scheme = next(scheme for scheme in SCHEMES if scheme.transport == "accumulate")
    rows = cost(scheme, all_traffic, BATCHES[-1]).ledger
    return per_weight([row for row in rows if row.tensor == "psum" and row.phase == "error"], BATCHES[-1])


def largest_gap() -> float:
    """Between the table by hand and the test chip, in points; in percent for the energies of the first scheme."""
    reference, found = analytic(), cells(few_assumptions)
    gaps = [
        100 * abs(ours / theirs - 1) if scheme is SCHEMES[0] else abs(ours - theirs)
        for scheme in SCHEMES
        for ours, theirs in zip(found[scheme.name], reference[scheme.name], strict=True)
    ]
    return max(gaps)


def _transposed_read() -> float:
    """The share by which a transposable memory of `edge_dual`'s weights reads dearer than an ordinary one."""
    chip = load_chip("edge_dual")
    return chip.transposed_access.of(chip.memory("weight_sram"), chip.technology).read


def section() -> str:
    """Both tables, and where the difference comes from."""
    by_hand, few, full = analytic(), cells(few_assumptions), cells(all_traffic)
    rows = []
    for scheme in SCHEMES:
        digits = 2 if scheme is SCHEMES[0] else 0
        sides = [table_[scheme.name] for table_ in (by_hand, few, full)]
        rows.append(
            [scheme.title, *(" / ".join(fixed(side[i], digits) for side in sides) for i in range(len(BATCHES)))]
        )
    parts = {(chip_for, batch): breakdown(chip_for, batch) for chip_for in _CHIPS for batch in _ENDS}
    shares = [[name, *(fixed(found[name], 3) for found in parts.values())] for name in PARTS]
    heads = [f"{name}, B = {batch}" for name in ("test chip", "`edge_dual`") for batch in _ENDS]
    one, many = (parts[all_traffic, batch] for batch in _ENDS)
    states, macs, read, *_ = (list(PARTS)[i] for i in (5, 0, 1))
    return _TEXT.format(
        table=table(("scheme", *(f"B = {batch}" for batch in BATCHES)), rows), gap=fixed(largest_gap(), 1),
        shares=table(("part", *heads), shares), states=fixed(one[states], 1), idle=fixed(one[macs], 1),
        busy=fixed(many[macs], 1), again=round(many[read] * _ENDS[1] / one[read]),
        dearer=fixed(100 * _transposed_read(), 0),
        sums=fixed(_partial_sums(), 2), columns=fixed(full["bp columns"][3], 0),
        few_columns=fixed(few["bp columns"][3], 0),
    )  # fmt: skip


_WORDS = ("read", "write")
_CHIPS, _ENDS = (few_assumptions, all_traffic), (BATCHES[0], BATCHES[-1])
WEIGHTS = 256 * 256
_TEXT = """\
Dynamic energy of training one 256 x 256 layer, per weight and sample. Each cell: by hand / on a chip that only this
check uses / on `edge_dual`. The first row is in pJ, the others are changes against it in percent.

{table}

By hand: 8-bit weights at 45 nm, 1.63 pJ to read and 1.01 to write a byte, 1.14 to send it over 2 mm, 0.5 for each of
three MACs (0.2 of it registers), 0.05 per random bit. W is read once per phase and batch, read and written in the
update; signs are written through; the transposable cell is free; accumulating costs 0.2 pJ per MAC; everything else is
free. The second chip has just these numbers: arrays that hold the whole batch, so that W is read once, an update in
place, and for `accumulate` an array of one row, whose partial sums are written and read at 0.1 pJ each. The largest gap
between the two is {gap} points: the table by hand is rounded to whole percents.

`edge_dual` counts everything that this layer does. The first row consists of, in pJ per weight and sample:

{shares}

Why the two sides of a cell differ. Master weights, velocities and gradients of 16 bits cost {states} pJ per weight and
step under every scheme: what a scheme saves at batch 1 is a small share of that. Registers at their widths and the
clock make MACs dearer ({busy} pJ at batch 128 for three), and at batch 1 fifteen of the sixteen rows of the array idle
({idle} pJ): what spares MACs (1 bit, DFA) saves about as much as by hand at large batches, and less at small ones. W
does not stay in the array: it is read once per fold, {again} times at batch 128, so that whatever makes its reads
dearer hurts at every batch size (8 columns: {columns} % at batch 128 instead of {few_columns} %). `accumulate` pays
{sums} pJ per weight and sample for its partial sums, 32 bits wide and through the buffer, instead of 0.2, but at large
batches reads W once instead of once per fold. By hand, a fixed B of 8 bits saves exactly what one transposable memory
saves; on `edge_dual` it saves more, because a transposable memory there reads at {dearer} % more.
"""
