"""The plots of a sweep as files: accuracy against energy with the front, accuracy over two bit-widths."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fahw.formats.number import number_format
from fahw.report.figures import figure as fig
from fahw.report.figures.plots import Plot
from fahw.report.sweeps.data import Record

_WEIGHT, _FEEDBACK = "axis.chip.precision.weight", "axis.chip.precision.feedback"


_SHADES = 10.0
"""Points of accuracy from the brightest shade of a heat map to the darkest."""


def draw_plots(points: Sequence[Record]) -> list[Plot]:
    """The plots that the points have data for."""
    trained = [point for point in points if point["accuracy_pct_mean"] and point["energy_pj_per_sample"]]
    plots = []
    with matplotlib.rc_context(fig.styled()):
        if trained:
            caption = "The line joins the points that nothing beats; they are numbered as in the table."
            plots.append(Plot("front", "Accuracy against energy", caption, fig.to_svg(_front_figure(trained))))
        if trained and _WEIGHT in trained[0] and _FEEDBACK in trained[0]:
            caption = (
                "Mean test accuracy in percent over the seeds and the other axes, if any; the darkest shade is "
                f"{_SHADES:g} points below the best, or less."
            )
            title = "Accuracy over weight bits and feedback bits"
            plots.append(Plot("bits", title, caption, fig.to_svg(_bits_figure(trained))))
    return plots


def _front(points: Sequence[Record]) -> list[Record]:
    """The points that nothing beats, the least energy first."""
    front = [point for point in points if point["on_front"] == "1"]
    return sorted(front, key=lambda point: float(point["energy_pj_per_sample"]))


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
    for index, point in enumerate(front, 1):
        (x,), (y,) = _places([point])
        numbers.setdefault((x, y), []).append(str(index))
    for place, found in numbers.items():
        axes.annotate(", ".join(found), place, textcoords="offset points", xytext=(4, 6), fontsize=8)


def _bits_figure(points: Sequence[Record]) -> Figure:
    rules = list(dict.fromkeys(map(_rule, points)))
    columns = min(3, len(rules))
    rows = -(-len(rules) // columns)
    figure, panels = fig.new_figure(2.9 * rows, rows, columns)
    widths = [sorted({point[name] for point in points}, key=_bits) for name in (_WEIGHT, _FEEDBACK)]
    best = max(float(point["accuracy_pct_mean"]) for point in points)
    for panel, rule in zip(panels, rules, strict=False):
        _heat_map(panel, [point for point in points if _rule(point) == rule], widths, best)
        panel.set_title(rule)
    for panel in panels[len(rules) :]:
        panel.set_visible(False)
    return figure


def _bits(form: str) -> tuple[int, str]:
    """Width of a format that stands as a width or a name, and the name, to sort by."""
    return number_format(int(form) if form.isdecimal() else form).bits, form


def _heat_map(axes: Axes, points: Sequence[Record], widths: list[list[str]], best: float) -> None:
    low = best - _SHADES
    grid = [[_mean(points, weight, feedback) for feedback in widths[1]] for weight in widths[0]]
    axes.pcolormesh(grid, cmap="cividis", vmin=low, vmax=best, edgecolors="white", linewidth=1.0)
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value == value:  # not a NaN: the point was trained
                color = "white" if value < low + 0.55 * _SHADES else "black"
                axes.text(x + 0.5, y + 0.5, f"{value:.1f}", ha="center", va="center", color=color)
    axes.set_xticks([x + 0.5 for x in range(len(widths[1]))], widths[1])
    axes.set_yticks([y + 0.5 for y in range(len(widths[0]))], widths[0])
    axes.set_xlabel("feedback bits")
    axes.set_ylabel("weight bits")


def _mean(points: Sequence[Record], weight: str, feedback: str) -> float:
    found = [
        float(point["accuracy_pct_mean"])
        for point in points
        if (point[_WEIGHT], point[_FEEDBACK]) == (weight, feedback)
    ]
    return sum(found) / len(found) if found else float("nan")
