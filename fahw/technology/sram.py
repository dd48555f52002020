"""Energy, leakage and area of an SRAM, from a table of CACTI 7 results.

On a row of the table the result is that row. Between rows: a law that is quadratic in the logarithms of capacity and
word width, fitted per node and device type, times the residuals of the nearest rows (inverse-distance weights in
log-log space). Outside the table: a power law (linear in the logarithms), which extrapolates better. CACTI's own
spread between objectives makes every energy uncertain by a factor of two.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from fahw.errors import ConfigError, Problem

SOURCE = "CACTI 7.0, one read/write port, 300 K, objective ED^2 (fahw/data/cacti7_sram.csv)"
ENERGY_FACTOR = 2.0
"""The true energy lies between the table's divided and multiplied by this. Source: spread of CACTI's objectives."""
LEAKAGE_FACTOR = 10.0
"""Assumed: leakage varies by orders of magnitude between cell types and corners."""
_QUANTITIES = ("read_pj", "write_pj", "leak_mw", "area_mm2")
_NEIGHBOURS = 6
_ON_ROW = 1e-9


@dataclass(frozen=True)
class Sram:
    """One SRAM bank: energy per access of a whole word, static power, area."""

    read_pj: float
    write_pj: float
    leak_mw: float
    area_mm2: float


@dataclass(frozen=True)
class _Table:
    """Rows of one node and device: log2 of (bytes, bits), the quantities, and the laws fitted to their logarithms."""

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    power_law: NDArray[np.float64]
    curved_law: NDArray[np.float64]


@cache
def sram(size_bytes: float, word_bits: int, node_nm: int, device: str = "lop") -> Sram:
    """An SRAM of `size_bytes` with words of `word_bits` at a node (65, 45, 32, 22 nm) of type hp, lop or lstp.

    Raises ConfigError for a node or type that the table lacks, and for sizes that are not positive.
    """
    table = _tables().get((node_nm, device))
    if table is None or not (0 < size_bytes <= 1e15 and 0 < word_bits <= 1_000_000):
        known = ", ".join(f"{node} {kind}" for node, kind in _tables())
        message = f"no SRAM of {size_bytes} bytes, {word_bits} bits at {node_nm} nm {device}; tables: {known}"
        raise ConfigError(Problem("sram", message))
    return Sram(*_values(table, np.log2([size_bytes, word_bits])).tolist())


def _values(table: _Table, point: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = table.points.min(axis=0), table.points.max(axis=0)
    if np.any(point < low - _ON_ROW) or np.any(point > high + _ON_ROW):
        return np.asarray(np.exp((_terms(point[None], curved=False) @ table.power_law)[0]))
    distance = np.hypot(*(table.points - point).T)
    nearest = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
    if distance[nearest[0]] < _ON_ROW:
        return np.asarray(table.values[nearest[0]])
    weights = distance[nearest] ** -2.0
    residuals = np.log(table.values[nearest]) - _terms(table.points[nearest], curved=True) @ table.curved_law
    law = (_terms(point[None], curved=True) @ table.curved_law)[0]
    return np.asarray(np.exp(law + weights @ residuals / weights.sum()))


def _terms(points: NDArray[np.float64], curved: bool) -> NDArray[np.float64]:
    """Terms of a law at `points` (n, 2): 1, x, y and, if curved, x^2, x y, y^2."""
    x, y = points.T
    linear = [np.ones(len(points)), x, y]
    return np.column_stack([*linear, x * x, x * y, y * y] if curved else linear)


@cache
def _tables() -> dict[tuple[int, str], _Table]:
    text = files("fahw").joinpath("data/cacti7_sram.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    tables = {}
    for node, device in sorted({(int(row["node_nm"]), row["device"]) for row in rows}, reverse=True):
        chosen = [row for row in rows if (int(row["node_nm"]), row["device"]) == (node, device)]
        points = np.log2([[float(row["size_bytes"]), float(row["word_bits"])] for row in chosen])
        values = np.array([[float(row[name]) for name in _QUANTITIES] for row in chosen])
        laws = [np.linalg.lstsq(_terms(points, curved), np.log(values), rcond=None)[0] for curved in (False, True)]
        tables[node, device] = _Table(points, values, *laws)
    return tables
