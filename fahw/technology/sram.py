"""Energy, leakage and area of an SRAM, from a table of CACTI 7 results.

On a row of the table the result is that row. Between rows, in log-log space: a law that is quadratic in the logarithms
of capacity and word width, fitted per node and device type, plus its residuals at the rows, interpolated (kriging with
an exponential covariance, which passes through every row; rows of other types and nodes lie further away). Outside the
table: a power law (linear in the logarithms), which extrapolates better. CACTI's own spread between objectives makes
every energy uncertain by a factor of two.

Leakage is the table's, at 300 K (27 C), or at `temp_c` from 20 to 85 C: exponential through 300 and 350 K, by factors
that CACTI gives per type (middle of its range over capacities). Nodes without a table are estimated by `sram_estimate`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fahw.errors import ConfigError, Problem
from fahw.technology import tables
from fahw.technology.scaling import gate_energy, logic_area

SOURCE = "CACTI 7.0, one read/write port, 300 K, objective ED^2 (fahw/data/cacti7_sram.csv)"
ENERGY_FACTOR = 2.0
"""The true energy lies between the table's divided and multiplied by this. Source: spread of CACTI's objectives."""
LEAKAGE_FACTOR = 10.0
"""Assumed: leakage varies by orders of magnitude between cell types and corners."""
SCALED_ENERGY_FACTOR = 4.0
SCALED_LEAKAGE_FACTOR = 30.0
"""Assumed, where the table of another node is scaled."""
NODES = (65, 45, 32, 22)
"""Nodes with a table."""
_AT_350_K = {"hp": 1.8, "lop": 2.45, "lstp": 3.8}
_LOP_22_AT_350_K = 28.0
"""Leakage at 350 K over 300 K, CACTI 7: hp 1.6 to 2.0, lop 2.3 to 2.6 (28 at 22 nm), lstp 2.2 to 6.4."""
_TEMP_C = (20.0, 85.0)
_QUANTITIES = ("read_pj", "write_pj", "leak_mw", "area_mm2")
_RANGE = 8.0
_TYPES_APART = 2.0
_PER_NODE_OCTAVE = 2.0
"""Distances in octaves of capacity or width: over which residuals go together, between two types, and between nodes
that differ by a factor of two. Errors on left-out rows hardly depend on the first, and fall by a fifth with the others.
"""
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

    @property
    def residuals(self) -> NDArray[np.float64]:
        """Logarithms of the quantities minus those of the curved law, (rows, quantities)."""
        return np.log(self.values) - _terms(self.points, curved=True) @ self.curved_law


@dataclass(frozen=True)
class _Kriging:
    """Residuals of all rows: their places, and their weights per quantity."""

    places: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """An SRAM bank with where its numbers come from and how uncertain its energies and its leakage are."""

    bank: Sram
    source: str
    energy_factor: float
    leakage_factor: float


@cache
def sram(size_bytes: float, word_bits: int, node_nm: int, device: str = "lop", temp_c: float | None = None) -> Sram:
    """An SRAM of `size_bytes` with words of `word_bits` at a node (65, 45, 32, 22 nm) of type hp, lop or lstp.

    `temp_c`: temperature of the leakage, 20 to 85; None: the table's 27. Raises ConfigError for a node, type or
    temperature that the table lacks, and for sizes that are not positive.
    """
    table = _tables().get((node_nm, device))
    if table is None or not (0 < size_bytes <= 1e15 and 0 < word_bits <= 1_000_000):
        available = ", ".join(f"{node} {kind}" for node, kind in _tables())
        message = f"no SRAM of {size_bytes} bytes, {word_bits} bits at {node_nm} nm {device}; tables: {available}"
        raise ConfigError(Problem("sram", message))
    bank = Sram(*_values(table, np.log2([size_bytes, word_bits]), (node_nm, device)).tolist())
    return bank if temp_c is None else replace(bank, leak_mw=bank.leak_mw * _leakage_at(temp_c, node_nm, device))


@cache
def sram_estimate(
    size_bytes: float, word_bits: int, node_nm: int, device: str = "lop", temp_c: float | None = None
) -> Estimate:
    """The SRAM at any node of `scaling.NODES`, with its source and uncertainty.

    A node without a table takes the nearest one that has one. Older than 65 nm: energies by the gate energies of
    Stillmaker and Baas at nominal supplies (CACTI's own step from 65 to 22 nm agrees with them), leakage as at 65 nm.
    Newer than 22 nm: energies and leakage as at 22 nm, since published small SRAMs gained only 1.3 from 45 to 7 nm.
    Areas by the area of logic. Raises ConfigError as `sram`, and for a node that nothing is known of.
    """
    if node_nm in NODES:
        return Estimate(sram(size_bytes, word_bits, node_nm, device, temp_c), SOURCE, ENERGY_FACTOR, LEAKAGE_FACTOR)
    area = logic_area(node_nm)
    nearest = 65 if node_nm > 65 else 22
    bank = sram(size_bytes, word_bits, nearest, device, temp_c)
    energy = gate_energy(node_nm) / gate_energy(65) if node_nm > 65 else 1.0
    scaled = replace(
        bank, read_pj=bank.read_pj * energy, write_pj=bank.write_pj * energy,
        area_mm2=bank.area_mm2 * area / logic_area(nearest),
    )  # fmt: skip
    source = f"{SOURCE}; assumed: {node_nm} nm from {nearest} nm, energy x {energy:.3g}"
    return Estimate(scaled, source, SCALED_ENERGY_FACTOR, SCALED_LEAKAGE_FACTOR)


def _leakage_at(temp_c: float, node_nm: int, device: str) -> float:
    """Leakage at a temperature relative to that at 300 K."""
    low, high = _TEMP_C
    if not low <= temp_c <= high:
        raise ConfigError(Problem("temp_c", f"leakage is known from {low:g} to {high:g} C (got {temp_c:g})"))
    factor = _LOP_22_AT_350_K if (node_nm, device) == (22, "lop") else _AT_350_K[device]
    return float(factor ** ((temp_c + 273.15 - 300) / 50))


def _values(table: _Table, point: NDArray[np.float64], key: tuple[int, str]) -> NDArray[np.float64]:
    low, high = table.points.min(axis=0), table.points.max(axis=0)
    if np.any(point < low - _ON_ROW) or np.any(point > high + _ON_ROW):
        return np.asarray(np.exp((_terms(point[None], curved=False) @ table.power_law)[0]))
    distance = np.hypot(*(table.points - point).T)
    nearest = int(np.argmin(distance))
    if distance[nearest] < _ON_ROW:
        return np.asarray(table.values[nearest])
    law_value = (_terms(point[None], curved=True) @ table.curved_law)[0]
    kriging = _kriging()
    covariances = _covariance(_coordinates(point[None], key), kriging.places)[0]
    return np.asarray(np.exp(law_value + covariances @ kriging.weights))


def _coordinates(points: NDArray[np.float64], key: tuple[int, str]) -> NDArray[np.float64]:
    """Coordinates (n, 6) of `points` (n, 2) for kriging: theirs, one per type, and one for the node."""
    node_nm, device = key
    types = [_TYPES_APART / np.sqrt(2) * (device == other_device) for other_device in _AT_350_K]
    type_and_node = np.array([*types, _PER_NODE_OCTAVE * np.log2(node_nm)])
    return np.column_stack([points, np.broadcast_to(type_and_node, (len(points), len(type_and_node)))])


def _covariance(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = np.sqrt(((rows[:, None] - columns[None]) ** 2).sum(axis=2))
    return np.asarray(np.exp(-distances / _RANGE))


@cache
def _kriging() -> _Kriging:
    places = np.vstack([_coordinates(table.points, key) for key, table in _tables().items()])
    residuals = np.vstack([table.residuals for table in _tables().values()])
    weights = np.asarray(np.linalg.solve(_covariance(places, places), residuals), dtype=np.float64)
    return _Kriging(places, weights)


def _terms(points: NDArray[np.float64], curved: bool) -> NDArray[np.float64]:
    """Terms of a law at `points` (n, 2) of x = log2 bytes, y = log2 bits: 1, x, y and, if curved, x^2, x y, y^2."""
    x, y = points.T
    linear = [np.ones(len(points)), x, y]
    return np.column_stack([*linear, x * x, x * y, y * y] if curved else linear)


@cache
def _tables() -> dict[tuple[int, str], _Table]:
    rows = tables.rows("cacti7_sram")
    keys = sorted({(int(row["node_nm"]), row["device"]) for row in rows}, reverse=True)
    return {key: _fitted_table([row for row in rows if (int(row["node_nm"]), row["device"]) == key]) for key in keys}


def _fitted_table(rows: list[dict[str, str]]) -> _Table:
    points = np.log2([[float(row["size_bytes"]), float(row["word_bits"])] for row in rows])
    values = np.array([[float(row[name]) for name in _QUANTITIES] for row in rows])
    power, curved = (
        np.linalg.lstsq(_terms(points, is_curved), np.log(values), rcond=None)[0] for is_curved in (False, True)
    )
    return _Table(points, values, power, curved)
