"""What CACTI 7 gives for an SRAM bank, on the rows of its tables and between them.

On a row the result is that row. Between rows, in log-log space: a law that is quadratic in the logarithms of capacity
and word width, fitted per node and device, plus its residuals at the rows, interpolated (kriging with an exponential
covariance, which passes through every row; rows of other devices and nodes lie further away). Outside the rows: a power
law (linear in the logarithms), which extrapolates better.

Cells of type lstp leak nearly nothing, so that the leakage of a mixture is that of its periphery. A bank that is lop
throughout tells it too: its leakage less that of its cells, whose share per byte is the median difference between
both. These values are further, slightly distant places of the mixture's leakage. Not under hp, whose cells leak so much
that nothing can be told from what they leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fahw.technology import tables

Values = NDArray[np.float64]
Key = tuple[int, str, str]
"""Node in nm, device of the periphery, device of the cells."""
TYPES = ("hp", "lop", "lstp")
_QUANTITIES = ("read_pj", "write_pj", "leak_mw", "area_mm2")
_LEAKAGE = 2
_RANGE = 8.0
_PERIPHERIES_APART = 2.0
_CELLS_APART = 1.0
_PER_NODE_OCTAVE = 2.0
_DERIVED_APART = 0.2
"""Distances in octaves of capacity or width: over which residuals go together, between two types of periphery or cells,
between nodes that differ by a factor of two, and between a row and a periphery's leakage that another device told.
Errors on left-out rows hardly depend on the first, and fall by a fifth with the others."""
_ON_ROW = 1e-9


@dataclass(frozen=True)
class _Table:
    """Rows of one node and device: log2 of (bytes, bits), the quantities, and the power law of their logarithms."""

    points: Values
    values: Values
    power_law: Values


@dataclass(frozen=True)
class _Kriging:
    """Curved laws of some quantities by device, and the residuals of all rows: their places, and their weights."""

    laws: dict[Key, Values]
    places: Values
    weights: Values


def devices() -> tuple[Key, ...]:
    """The nodes and devices that there are tables of, those with cells as their periphery first."""
    return tuple(_tables())


def bank_values(size_bytes: float, word_bits: int, key: Key) -> list[float]:
    """Read and write energy in pJ per word, leakage in mW and area in mm2 of a bank. Raises KeyError without a
    table."""
    table, point = _tables()[key], np.log2([size_bytes, word_bits])
    low, high = table.points.min(axis=0), table.points.max(axis=0)
    if np.any(point < low - _ON_ROW) or np.any(point > high + _ON_ROW):
        return list(np.exp((_terms(point[None], curved=False) @ table.power_law)[0]).tolist())
    distance = np.hypot(*(table.points - point).T)
    nearest = int(np.argmin(distance))
    if distance[nearest] < _ON_ROW:
        return list(table.values[nearest].tolist())
    read, write, area = _interpolated(_energies_and_area(), point, key)
    (leakage,) = _interpolated(_leakage(), point, key)
    return [read, write, leakage, area]


def _interpolated(kriging: _Kriging, point: Values, key: Key) -> list[float]:
    law_value = (_terms(point[None], curved=True) @ kriging.laws[key])[0]
    covariances = _covariance(_coordinates(point[None], key), kriging.places)[0]
    return list(np.exp(law_value + covariances @ kriging.weights).tolist())


@cache
def _energies_and_area() -> _Kriging:
    columns = [column for column in range(len(_QUANTITIES)) if column != _LEAKAGE]
    return _fitted([(key, table.points, table.values[:, columns], 0.0) for key, table in _tables().items()])


@cache
def _leakage() -> _Kriging:
    rows = [(key, table.points, table.values[:, [_LEAKAGE]], 0.0) for key, table in _tables().items()]
    return _fitted([*rows, *_leakage_of_peripheries()])


def _leakage_of_peripheries() -> list[tuple[Key, Values, Values, float]]:
    """What the rows of lop throughout tell of the leakage of lop peripheries with lstp cells, as rows of these."""
    told = []
    for (node_nm, device, cells), mixture in _tables().items():
        whole = _tables().get((node_nm, device, device))
        if device == cells or device != "lop" or whole is None:
            continue
        by_point = {tuple(point): values[_LEAKAGE] for point, values in zip(whole.points, whole.values, strict=True)}
        shares = [
            (by_point[tuple(point)] - values[_LEAKAGE]) / 2 ** point[0]
            for point, values in zip(mixture.points, mixture.values, strict=True)
            if tuple(point) in by_point
        ]
        if shares:
            leakage = whole.values[:, _LEAKAGE]
            rest = np.maximum(leakage - np.median(shares) * 2 ** whole.points[:, 0], 0.01 * leakage)
            told.append(((node_nm, device, cells), whole.points, rest[:, None], _DERIVED_APART))
    return told


def _fitted(rows: list[tuple[Key, Values, Values, float]]) -> _Kriging:
    """The kriging of rows: their device, points, values, and how far they lie from the device's own."""
    laws: dict[Key, Values] = {}
    for key in dict.fromkeys(key for key, *_ in rows):
        points, values = (np.vstack([row[part] for row in rows if row[0] == key]) for part in (1, 2))
        laws[key] = np.linalg.lstsq(_terms(points, curved=True), np.log(values), rcond=None)[0]
    places = np.vstack([_coordinates(points, key, apart) for key, points, _, apart in rows])
    residuals = np.vstack([np.log(values) - _terms(points, curved=True) @ laws[key] for key, points, values, _ in rows])
    return _Kriging(laws, places, np.asarray(np.linalg.solve(_covariance(places, places), residuals)))


def _coordinates(points: Values, key: Key, apart: float = 0.0) -> Values:
    """Coordinates (n, 10) of `points` (n, 2) for kriging: theirs, one per type of periphery and of cells, one for the
    node, and one for what sets them apart from rows of the device."""
    node_nm, device, cells = key
    types = [
        distance / np.sqrt(2) * (mine == other)
        for distance, mine in ((_PERIPHERIES_APART, device), (_CELLS_APART, cells))
        for other in TYPES
    ]
    own = np.array([*types, _PER_NODE_OCTAVE * np.log2(node_nm), apart])
    return np.column_stack([points, np.broadcast_to(own, (len(points), len(own)))])


def _covariance(rows: Values, columns: Values) -> Values:
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)[None] - 2 * rows @ columns.T
    return np.asarray(np.exp(-np.sqrt(np.maximum(squares, 0.0)) / _RANGE))


def _terms(points: Values, curved: bool) -> Values:
    """Terms of a law at `points` (n, 2) of x = log2 bytes, y = log2 bits: 1, x, y and, if curved, x^2, x y, y^2."""
    x, y = points.T
    linear = [np.ones(len(points)), x, y]
    return np.column_stack([*linear, x * x, x * y, y * y] if curved else linear)


@cache
def _tables() -> dict[Key, _Table]:
    rows = [{"cells": row["device"], **row} for row in tables.rows("cacti7_sram")] + tables.rows("cacti7_mixed")
    by_key: dict[Key, list[dict[str, str]]] = {}
    for row in rows:
        by_key.setdefault((int(row["node_nm"]), row["device"], row["cells"]), []).append(row)
    in_order = sorted(by_key, key=lambda key: (key[1] != key[2], -key[0], key[1]))
    return {key: _table(by_key[key]) for key in in_order}


def _table(rows: list[dict[str, str]]) -> _Table:
    points = np.log2([[float(row["size_bytes"]), float(row["word_bits"])] for row in rows])
    values = np.array([[float(row[name]) for name in _QUANTITIES] for row in rows])
    power_law = np.linalg.lstsq(_terms(points, curved=False), np.log(values), rcond=None)[0]
    return _Table(points, values, power_law)
