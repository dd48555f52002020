"""Cycles and SRAM accesses of the array against SCALE-Sim."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fahw.hardware.array import Array
from fahw.hardware.arrays.systolic import SYSTOLIC, Folded, systolic_cycles
from fahw.hardware.memories.sram import Sram
from fahw.work.counts.accesses import Accesses
from fahw.work.counts.gemm import Gemm, Operand, Stream, gemm_traffic
from tests.validation.chips import plain_accesses
from tests.validation.page import reference, table

TITLE = "Cycles and accesses of the array"
MORE = Path(__file__).parent / "data" / "scalesim_more.csv"


def _memory(name: str, tensor: str) -> Sram:
    """One value to a word, so that words are values."""
    return Sram.model_validate(
        {"name": name, "holds": (tensor,), "size_kib": 1, "bank_kib": 1, "width_bits": 8, "read_bits_per_cycle": 8,
         "write_bits_per_cycle": 8}
    )  # fmt: skip


_LEFT, _RIGHT, _SUMS = _memory("a", "activation"), _memory("b", "weight"), _memory("c", "psum")
_ARRAY = Array.model_validate(
    {"name": "x", "rows": 1, "cols": 1, "lanes": 1, "phases": {"forward": "os"}, "memories": ("a", "b", "c")}
)


@dataclass(frozen=True)
class Case:
    """A layer of SCALE-Sim as a product on an array, and what SCALE-Sim counted: cycles, reads, reads, writes."""

    name: str
    mapping: Folded
    theirs: tuple[int, int, int, int]

    @property
    def corrected(self) -> tuple[int, int, int, int]:
        """Their counts made true: the last cycle's index plus one, less the F (R + C) writes too many under `os`."""
        cycles, left, right, writes = self.theirs
        mapping = self.mapping
        excess = mapping.folds * (mapping.rows + mapping.cols) if mapping.name == "os" else 0
        return cycles + 1, left, right, writes - excess


def cases() -> list[Case]:
    """Every row of the reference. Raises MissingReferenceError."""
    return list(_cases(reference("scalesim_cycles.csv").splitlines()))


def more_cases() -> list[Case]:
    """Random products on arrays of odd sizes, which SCALE-Sim counted for this check."""
    lines = MORE.read_text(encoding="utf-8").splitlines()
    return list(_cases(line for line in lines if not line.startswith("#")))


def _cases(lines: Iterable[str]) -> Iterator[Case]:
    for row in csv.DictReader(lines):
        sizes = [int(row[name]) for name in ("M", "N", "K", "array_rows", "array_cols")]
        names = ("total_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes")
        cycles, left, right, writes = (int(row[name]) for name in names)
        yield Case(row["layer"], SYSTOLIC[row["dataflow"]](*sizes), (cycles, left, right, writes))


def counts(mapping: Folded, accesses: Accesses) -> tuple[int, int, int, int]:
    """Cycles, operand values read, and results and partial sums written, as fahw counts them."""
    left, right = Operand(8, (Stream(_LEFT, "activation", 8),)), Operand(8, (Stream(_RIGHT, "weight", 8),))
    product = Gemm(mapping, left, right, "activation", 8)
    psum = _SUMS if mapping.partial_sum_bursts else None
    found = {(c.component, c.action): c.count for c in gemm_traffic(product, _ARRAY, accesses, psum).counts}
    sizes = (mapping.m, mapping.n, mapping.k, mapping.rows, mapping.cols, mapping.name)
    written = mapping.m * mapping.n + found.get(("c", "write"), 0)
    return systolic_cycles(*sizes), found["a", "read"], found["b", "read"], written


def section() -> str:
    """The largest gap of every count, by dataflow."""
    accesses, found, more = plain_accesses(), cases(), more_cases()
    rows = []
    for name, group in (("reference", found), ("random", more)):
        for dataflow in ("os", "ws", "is"):
            gaps = [gaps_of(case, accesses) for case in group if case.mapping.name == dataflow]
            largest = [max(column) for column in zip(*gaps, strict=True)]
            rows.append([name, f"`{dataflow}`", len(gaps), *largest])
    arrays = {(case.mapping.rows, case.mapping.cols) for case in found}
    layers = {case.name for case in found}
    return _TEXT.format(
        table=table(_HEAD, rows, 2), layers=len(layers), arrays=len(arrays), rows=len(found), more=len(more)
    )


def gaps_of(case: Case, accesses: Accesses) -> list[int]:
    """Of cycles and accesses between fahw and SCALE-Sim."""
    return [abs(ours - theirs) for ours, theirs in zip(counts(case.mapping, accesses), case.corrected, strict=True)]


_HEAD = (
    "points of",
    "dataflow",
    "points",
    "cycles",
    "left operand read",
    "right operand read",
    "results and partial sums written",
)
_TEXT = """\
{rows} points of SCALE-Sim 3.0.0 (`scalesim_cycles.csv`: {layers} layers of perceptrons, LeNet and ResNet and odd
sizes, convolutions unrolled, on {arrays} arrays from 8 x 8 to 128 x 128), and {more} random products on arrays of 1 to
32 rows and columns that it counted for this page (`tests/validation/data/scalesim_more.csv`). The table shows
the largest gap between its counts and fahw's closed forms, in cycles and in values.

{table}

Two of its counts are put right first, both by what its source code says: its cycles are the index of the last cycle, so
one is added; under `os` it counts F (R + C) writes of results too many, which are taken off. It counts the writes of
partial sums but not the reads that follow; fahw counts both. `tests/bench/bench_simulate.py` can run SCALE-Sim
again beside the closed forms, and compares every count.
"""
