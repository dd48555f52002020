"""The page of a sweep: every point in a table, accuracy against energy with the front, accuracy over two bit-widths."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fahw.errors import ConfigError, Problem
from fahw.report import figure as fig
from fahw.report.plots import Plot
from fahw.report.table import Cell, Column, Row, Table
from fahw.units import J_PER_PJ, fixed, si

Record = dict[str, str]
_AXIS = "axis."
_WEIGHT, _FEEDBACK = "axis.chip.precision.weight", "axis.chip.precision.feedback"
_COLUMNS = (
    ("accuracy_pct_mean", Column("test accuracy", "%", True)),
    ("accuracy_pct_std", Column("±", "%", True)),
    ("energy_pj_per_sample", Column("energy per sample", "", True)),
    ("interval_cycles", Column("cycles between steps", "", True)),
    ("area_mm2", Column("area", "mm2", True)),
    ("transported_bits_per_step", Column("transported", "bits/step", True)),
)


def read_points(folder: Path) -> list[Record]:
    """The rows of summary.csv. Raises ConfigError where the file is missing."""
    path = folder / "summary.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from None


def sweep_values(folder: Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], list[Plot]]:
    """What the template needs, and the plots."""
    points, spec = read_points(folder), manifest["inputs"]["sweep"]
    plots = draw_plots(points)
    failed = sum(bool(point["reason"]) for point in points)
    facts = [("chip", spec["chip"]), ("model", spec["model"]), ("points", str(len(points)))]
    facts += [("seeds", str(spec["seeds"])), ("failed", str(failed))]
    values = {"title": spec["name"], "description": spec["description"], "facts": facts, "plots": plots}
    return values | {"points": points_table(points), "front": front_table(points), "manifest": manifest}, plots


def points_table(points: Sequence[Record]) -> Table:
    """A row per point; points on the front are marked, failed ones give their reason."""
    notes = ("★ marks the points of the front: no other point has less energy and at least the accuracy.",)
    return Table("points", "Every point", _heads(points), tuple(map(_row, points)), len(_axes(points)), notes)


def front_table(points: Sequence[Record]) -> Table | None:
    """The points that nothing beats, the least energy first; None where nothing was trained."""
    front = _front(points)
    if not front:
        return None
    rows = tuple(Row((Cell(str(number)), *_row(point).cells)) for number, point in enumerate(front, 1))
    heads = (Column("no.", number=True, hint="number in the plot"), *_heads(points))
    return Table("front", "The front", heads, rows, len(_axes(points)) + 1)


def _front(points: Sequence[Record]) -> list[Record]:
    """The points that nothing beats, the least energy first."""
    front = [point for point in points if point["on_front"] == "1"]
    return sorted(front, key=lambda point: float(point["energy_pj_per_sample"]))


def _axes(points: Sequence[Record]) -> list[str]:
    return [name for name in (points[0] if points else {}) if name.startswith(_AXIS)]


def _heads(points: Sequence[Record]) -> tuple[Column, ...]:
    names = [name.removeprefix(_AXIS).removeprefix("chip.").removeprefix("model.") for name in _axes(points)]
    return (*map(Column, names), *(column for _, column in _COLUMNS))


def _row(point: Record) -> Row:
    cells = [Cell(point[name]) for name in _axes([point])]
    if point["reason"]:
        return Row((*cells, Cell(f"not possible: {point['reason']}", span=len(_COLUMNS), muted=True)))
    for name, _ in _COLUMNS:
        text = _shown(name, point[name])
        best = name == "accuracy_pct_mean" and point["on_front"] == "1"
        cells.append(Cell(text, point[name], best=best, muted=text == "–"))
    return Row(tuple(cells))


def _shown(name: str, text: str) -> str:
    if not text:
        return "–"
    if name == "energy_pj_per_sample":
        return si(float(text) * J_PER_PJ, "J")
    return fixed(float(text), 2 if name.endswith(("mean", "std", "mm2")) else 0)


def draw_plots(points: Sequence[Record]) -> list[Plot]:
    """The plots that the points have data for."""
    trained = [point for point in points if point["accuracy_pct_mean"] and point["energy_pj_per_sample"]]
    plots = []
    with matplotlib.rc_context(fig.styled()):
        if trained:
            caption = "The line joins the points that nothing beats; they are numbered as in the table."
            plots.append(Plot("front", "Accuracy against energy", caption, fig.to_svg(_front_figure(trained))))
        if trained and _WEIGHT in trained[0] and _FEEDBACK in trained[0]:
            caption = "Mean test accuracy in percent over the seeds and the other axes, if any."
            title = "Accuracy over weight bits and feedback bits"
            plots.append(Plot("bits", title, caption, fig.to_svg(_bits_figure(trained))))
    return plots


def _rule(point: Record) -> str:
    return point.get("axis.rule") or point["rule"]


def _front_figure(points: Sequence[Record]) -> Figure:
    figure, (axes,) = fig.new_figure(4.6)
    rules = list(dict.fromkeys(map(_rule, points)))
    for index, rule in enumerate(rules):
        mine = [point for point in points if _rule(point) == rule]
        colour = fig.rule_colour(rule, rules)
        axes.scatter(*_places(mine), color=colour, marker=fig.marker(index), s=32, label=rule, zorder=3)
    front = _front(points)
    axes.plot(*_places(front), color=fig.GREY, linewidth=1.2, zorder=2)
    _number(axes, front)
    axes.set_xlabel("energy per sample [nJ]")
    axes.set_ylabel("test accuracy [%]")
    axes.grid()
    axes.set_axisbelow(True)
    fig.legend_below(figure, axes)
    return figure


def _places(points: Sequence[Record]) -> tuple[list[float], list[float]]:
    energies = [float(point["energy_pj_per_sample"]) * 1e-3 for point in points]
    return energies, [float(point["accuracy_pct_mean"]) for point in points]


def _number(axes: Axes, front: Sequence[Record]) -> None:
    """The numbers of the front's table, those of one place together."""
    numbers: dict[tuple[float, float], list[str]] = {}
    for number, point in enumerate(front, 1):
        (x,), (y,) = _places([point])
        numbers.setdefault((x, y), []).append(str(number))
    for place, found in numbers.items():
        axes.annotate(", ".join(found), place, textcoords="offset points", xytext=(4, 6), fontsize=8)


def _bits_figure(points: Sequence[Record]) -> Figure:
    rules = list(dict.fromkeys(map(_rule, points)))
    columns = min(3, len(rules))
    rows = -(-len(rules) // columns)
    figure, panels = fig.new_figure(2.9 * rows, rows, columns)
    widths = [sorted({int(point[name]) for point in points}) for name in (_WEIGHT, _FEEDBACK)]
    for panel, rule in zip(panels, rules, strict=False):
        _heat_map(panel, [point for point in points if _rule(point) == rule], widths)
        panel.set_title(rule)
    for panel in panels[len(rules) :]:
        panel.set_visible(False)
    return figure


def _heat_map(axes: Axes, points: Sequence[Record], widths: list[list[int]]) -> None:
    grid = [[_mean(points, weight, feedback) for feedback in widths[1]] for weight in widths[0]]
    axes.pcolormesh(grid, cmap="cividis", vmin=0, vmax=100, edgecolors="white", linewidth=1.0)
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value == value:  # not a NaN: the point was trained
                axes.text(
                    x + 0.5, y + 0.5, f"{value:.1f}", ha="center", va="center", color="white" if value < 55 else "black"
                )
    axes.set_xticks([x + 0.5 for x in range(len(widths[1]))], list(map(str, widths[1])))
    axes.set_yticks([y + 0.5 for y in range(len(widths[0]))], list(map(str, widths[0])))
    axes.set_xlabel("feedback bits")
    axes.set_ylabel("weight bits")


def _mean(points: Sequence[Record], weight: int, feedback: int) -> float:
    found = [
        float(point["accuracy_pct_mean"])
        for point in points
        if (int(point[_WEIGHT]), int(point[_FEEDBACK])) == (weight, feedback)
    ]
    return sum(found) / len(found) if found else float("nan")
