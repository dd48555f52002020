"""The plots of a sweep as files: accuracy against energy with the front, accuracy over two bit-widths."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fahw.formats.catalogue import number_format
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


def _front_points(points: Sequence[Record]) -> list[Record]:
    """The points that nothing beats, the least energy first."""
    front = [point for point in points if point["on_front"] == "1"]
    return sorted(front, key=lambda point: float(point["energy_pj_per_sample"]))


def _rule_of(point: Record) -> str:
    """The rule of a point."""
    return point.get("axis.rule") or point["rule"]


def _front_figure(points: Sequence[Record]) -> Figure:
    """The figure of accuracy against energy per sample, with the front."""
    figure, (axes,) = fig.new_figure(4.6)
    rules = list(dict.fromkeys(map(_rule_of, points)))
    for index, rule in enumerate(rules):
        points_of_rule = [point for point in points if _rule_of(point) == rule]
        colour = fig.rule_colour(rule, rules)
        axes.scatter(*_coordinates(points_of_rule), color=colour, marker=fig.marker(index), s=32, label=rule, zorder=3)
    front = _front_points(points)
    axes.plot(*_coordinates(front), color=fig.GREY, linewidth=1.2, zorder=2)
    _number_points(axes, front)
    axes.set_xlabel("energy per sample [nJ]")
    axes.set_ylabel("test accuracy [%]")
    axes.grid()
    axes.set_axisbelow(True)
    fig.legend_below(figure, axes)
    return figure


def _coordinates(points: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Energies per sample in nJ, and test accuracies in percent."""
    energies = [float(point["energy_pj_per_sample"]) * 1e-3 for point in points]
    return energies, [float(point["accuracy_pct_mean"]) for point in points]


def _number_points(axes: Axes, front: Sequence[Record]) -> None:
    """Write the numbers of the front's table at its points, those of one place together."""
    numbers: dict[tuple[float, float], list[str]] = {}
    for index, point in enumerate(front, 1):
        (x,), (y,) = _coordinates([point])
        numbers.setdefault((x, y), []).append(str(index))
    for place, indices in numbers.items():
        axes.annotate(", ".join(indices), place, textcoords="offset points", xytext=(4, 6), fontsize=8)


def _bits_figure(points: Sequence[Record]) -> Figure:
    """The figure of accuracy over weight bits and feedback bits, a panel per rule."""
    rules = list(dict.fromkeys(map(_rule_of, points)))
    columns = min(3, len(rules))
    rows = -(-len(rules) // columns)
    figure, panels = fig.new_figure(2.9 * rows, rows, columns)
    widths = [sorted({point[name] for point in points}, key=_width_order) for name in (_WEIGHT, _FEEDBACK)]
    best = max(float(point["accuracy_pct_mean"]) for point in points)
    for panel, rule in zip(panels, rules, strict=False):
        _draw_heat_map(panel, [point for point in points if _rule_of(point) == rule], widths, best)
        panel.set_title(rule)
    for panel in panels[len(rules) :]:
        panel.set_visible(False)
    return figure


def _width_order(form: str) -> tuple[int, str]:
    """A sorting key of a format, which stands as a width or a name: its width in bits, then its name."""
    return number_format(int(form) if form.isdecimal() else form).bits, form


def _draw_heat_map(axes: Axes, points: Sequence[Record], widths: list[list[str]], best: float) -> None:
    """Draw the accuracies of one rule, each with its number; `best` sets the brightest shade, percent."""
    low = best - _SHADES
    grid = [[_mean_accuracy(points, weight, feedback) for feedback in widths[1]] for weight in widths[0]]
    axes.pcolormesh(grid, cmap="cividis", vmin=low, vmax=best, edgecolors="white", linewidth=1.0)
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value == value:  # not a NaN: the point was trained
                color = "white" if value < low + 0.55 * _SHADES else "black"
                axes.text(x + 0.5, y + 0.5, f"{value:.1f}", ha="center", va="center", color=color)
    fig.name_ticks(axes.xaxis, [x + 0.5 for x in range(len(widths[1]))], widths[1])
    fig.name_ticks(axes.yaxis, [y + 0.5 for y in range(len(widths[0]))], widths[0])
    axes.set_xlabel("feedback bits")
    axes.set_ylabel("weight bits")


def _mean_accuracy(points: Sequence[Record], weight: str, feedback: str) -> float:
    """The mean test accuracy in percent of the points of these formats; NaN where there is none."""
    accuracies = [
        float(point["accuracy_pct_mean"])
        for point in points
        if (point[_WEIGHT], point[_FEEDBACK]) == (weight, feedback)
    ]
    return sum(accuracies) / len(accuracies) if accuracies else float("nan")
