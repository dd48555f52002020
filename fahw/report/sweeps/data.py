"""The points of a sweep as the page's script needs them: columns with units, rows, ledgers of some points."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fahw.tables import csv_text
from fahw.units import J_PER_PJ, scale_for

Record = dict[str, str]
AXIS = "axis."
FRONTS = ("on_front", "on_front_time", "on_front_area")
SAVINGS = ("saving_per_step", "saving_to_target", "time_saving")
_DIGITS = 6
"""Significant digits of a number on the page."""
MOST_VALUES = 450_000
"""Most cells that the page holds, about 4 MB; beyond it a page shows the fronts and points spread over the rest."""


@dataclass(frozen=True)
class SweepFigure:
    """A column of numbers: its name in summary.csv, what it is called, its unit, and a factor into that unit.
    `prefixed`: the unit gets a prefix that suits the largest value. `good`: more or less is better, or neither."""

    name: str
    label: str
    unit: str = ""
    factor: float = 1.0
    prefixed: bool = False
    good: int = 0


FIGURES = (
    SweepFigure("accuracy_pct_mean", "test accuracy", "%", good=1),
    SweepFigure("accuracy_pct_std", "± of the accuracy", "%"),
    SweepFigure("energy_pj_per_sample", "energy per sample", "J", J_PER_PJ, True, -1),
    SweepFigure("energy_to_target_j", "energy to target", "J", 1.0, True, -1),
    SweepFigure("seconds_per_sample", "time per sample", "s", 1.0, True, -1),
    SweepFigure("area_mm2", "area", "mm²", good=-1),
    SweepFigure("saving_per_step", "energy saved per step", "%", 100.0, good=1),
    SweepFigure("saving_low", "energy saved, low end", "%", 100.0),
    SweepFigure("saving_high", "energy saved, high end", "%", 100.0),
    SweepFigure("saving_to_target", "energy saved to target", "%", 100.0, good=1),
    SweepFigure("time_saving", "time saved", "%", 100.0, good=1),
    SweepFigure("interval_cycles", "cycles between steps", good=-1),
    SweepFigure("power_mw", "power", "mW"),
    SweepFigure("area_used_mm2", "area used", "mm²", good=-1),
    SweepFigure("steps_to_target", "steps to target", good=-1),
    SweepFigure("steps_to_target_std", "± of the steps"),
    SweepFigure("seeds_reached", "seeds that reach it"),
    SweepFigure("seeds", "seeds trained"),
    SweepFigure("transported_bits_per_step", "transported per step", "bit"),
    SweepFigure("feedback_bits", "feedback stored", "bit"),
    SweepFigure("spilled_bits", "spilled to DRAM", "bit"),
    SweepFigure("micro_batch", "micro-batch", "samples"),
)
_TEXTS = {
    "transport": "transport", "winner": "winner", "baseline_transport": "form of the best bp", "status": "status",
    "reason": "reason",
}  # fmt: skip


def number(text: str | None) -> float | None:
    """The cell as a number; None where it is empty or text."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def axes_of(points: Sequence[Record]) -> list[str]:
    """The names of a sweep's axes, without their prefix."""
    return [name.removeprefix(AXIS) for name in (points[0] if points else {}) if name.startswith(AXIS)]


def axis_label(name: str) -> str:
    """The short name of an axis: `precision.weight` of `chip.precision.weight`."""
    return name.removeprefix("chip.").removeprefix("model.").removeprefix("memories.").removeprefix("links.")


def page_data(points: Sequence[Record], ledger: Sequence[Record], extra: dict[str, Any]) -> str:
    """The JSON for the page's script, safe inside a script element."""
    shown = shown_points(points)
    columns = [_axis_column(points, name) for name in axes_of(points)]
    if "rule" not in axes_of(points):
        columns.insert(0, _text_column(points, "rule", "rule"))
    columns += [column for figure in FIGURES if (column := _figure_column(points, figure)) is not None]
    columns += [_text_column(points, name, label) for name, label in _TEXTS.items()]
    wanted = {points[index]["point"] for index in shown}
    rows = [[_cell_value(points[index], column) for column in columns] for index in shown]
    unshown = ("at", "codes")
    page = {
        "total": len(points), "numbers": [int(points[index]["point"]) for index in shown], "rows": rows,
        "columns": [{key: value for key, value in column.items() if key not in unshown} for column in columns],
        "ledgers": _ledgers(row for row in ledger if row["point"] in wanted), **extra,
    }  # fmt: skip
    text = json.dumps(page, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def shown_points(points: Sequence[Record]) -> list[int]:
    """Indices of the points that the page holds: all of them, or the fronts and others spread over the sweep."""
    most = max(1, MOST_VALUES // (len(FIGURES) + len(_TEXTS) + len(axes_of(points)) + 1))
    if len(points) <= most:
        return list(range(len(points)))
    fronts = [index for index, point in enumerate(points) if any(point[name] == "1" for name in FRONTS)]
    spread = range(0, len(points), -(-len(points) // most))
    return sorted({*fronts[:most], *spread})


def _axis_column(points: Sequence[Record], name: str) -> dict[str, Any]:
    """The column of an axis: numbers with their levels, or texts."""
    texts = dict.fromkeys(point[AXIS + name] for point in points)
    if all(number(text) is not None for text in texts):
        levels = sorted(map(float, texts))
        shown_levels = levels if len(levels) <= 64 else []
        return {
            "id": name,
            "label": axis_label(name),
            "kind": "axis",
            "number": 1,
            "at": AXIS + name,
            "levels": shown_levels,
        }
    return _text_column(points, AXIS + name, axis_label(name)) | {"id": name, "kind": "axis"}


def _text_column(points: Sequence[Record], at: str, label: str) -> dict[str, Any]:
    """A column of texts, each cell the number of its level; `at` is its name in summary.csv."""
    levels = list(dict.fromkeys(point[at] for point in points))
    codes = {text: code for code, text in enumerate(levels)}
    return {"id": at, "label": label, "kind": "text", "at": at, "levels": levels, "codes": codes}


def _figure_column(points: Sequence[Record], figure: SweepFigure) -> dict[str, Any] | None:
    """The column of a figure; None where no point has one, or all are nought."""
    values = [value for point in points if (value := number(point.get(figure.name))) is not None]
    if not any(values):
        return None
    scale = scale_for((value * figure.factor for value in values), figure.unit, prefixed=figure.prefixed)
    whole = all(value == int(value) for value in values) and not figure.prefixed and figure.factor == 1
    digits = 0 if whole else min(scale.decimals, 2) if figure.unit == "%" else scale.decimals
    return {
        "id": figure.name, "label": figure.label, "kind": "figure", "number": 1, "at": figure.name,
        "unit": scale.unit, "factor": scale.factor * figure.factor, "digits": digits, "good": figure.good,
        "saving": int(figure.name in SAVINGS),
    }  # fmt: skip


def _cell_value(point: Record, column: dict[str, Any]) -> float | int | None:
    """The value of a point in a column, with the digits that the page shows; None where there is none."""
    text = point[column["at"]]
    if "codes" in column:
        return int(column["codes"][text])
    value = number(text)
    if value is None:
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short == int(short) else short


def _ledgers(rows: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Energies in pJ by point, phase and component."""
    energies: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for row in rows:
        energies[row["point"]][row["phase"]][row["component"]] += float(row["energy_pj"])
    return {
        point: {
            phase: {name: float(f"{pj:.{_DIGITS}g}") for name, pj in parts.items()} for phase, parts in phases.items()
        }
        for point, phases in energies.items()
    }


MAP_COLUMNS = ("rule", "quantity", "x_axis", "x", "y_axis", "y", "mean", "lowest", "highest", "points")
_MAPPED = ("accuracy_pct_mean", *SAVINGS)
_MOST_CELLS = 2_000
"""Cells of one map in maps.csv; axes with more values together have none."""


def maps_csv(points: Sequence[Record]) -> str:
    """The text of maps.csv, by `MAP_COLUMNS`."""
    return csv_text(MAP_COLUMNS, map_rows(points))


def map_rows(points: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of maps.csv: accuracy and savings over every two axes and rule, as mean, lowest and highest of the
    points that fall together."""
    names = [name for name in axes_of(points) if name not in ("rule", "transport", "seed")]
    levels = {name: {point[AXIS + name] for point in points} for name in names}
    rows: list[dict[str, Any]] = []
    for x_axis, y_axis in combinations([name for name in names if len(levels[name]) > 1], 2):
        if len(levels[x_axis]) * len(levels[y_axis]) <= _MOST_CELLS:
            for quantity in _MAPPED:
                rows += _map_cells(points, quantity, x_axis, y_axis)
    return rows


def _map_cells(points: Sequence[Record], quantity: str, x_axis: str, y_axis: str) -> list[dict[str, Any]]:
    """The rows of one quantity over two axes."""
    cells: dict[tuple[str, str, str], list[float]] = {}
    for point in points:
        value = number(point[quantity])
        if value is not None:
            cells.setdefault((point["rule"], point[AXIS + x_axis], point[AXIS + y_axis]), []).append(value)
    return [
        dict(
            zip(
                MAP_COLUMNS,
                (
                    rule,
                    quantity,
                    x_axis,
                    x_value,
                    y_axis,
                    y_value,
                    sum(values) / len(values),
                    min(values),
                    max(values),
                    len(values),
                ),
                strict=True,
            )
        )
        for (rule, x_value, y_value), values in cells.items()
    ]
