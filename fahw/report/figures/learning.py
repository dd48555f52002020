"""The plots of how a training went: accuracy over its epochs, angles between feedback and weights, and of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fahw.report.figures import figure as fig
from fahw.report.run_folder import Numbers, Run

_ANGLE, _GRADIENT_ANGLE = "angle_deg.", "gradient_angle_deg."
_MOST_PANELS = 6


def learning_curves(run: Run) -> Figure | None:
    """The figure of validation accuracy over the epochs: whole range, and around the target."""
    if not run.epochs:
        return None
    figure, (whole, near) = fig.new_figure(3.9, 1, 2)
    tops = []
    for index, (rule, seeds) in enumerate(run.epochs.items()):
        band = _mean_and_deviation(list(seeds.values()), "validation_accuracy_pct")
        tops.append(max((mean for _, mean, _ in band), default=0.0))
        for axes in (whole, near):
            _draw_curve(axes, band, fig.rule_colour(rule, list(run.epochs)), fig.dashes(index), rule)
    for axes in (whole, near):
        axes.axhline(run.target_pct, color=fig.INK, linewidth=0.9, linestyle=(0, (1, 1.5)), label="target")
        fig.epoch_axis(axes)
        axes.set_ylabel("validation accuracy [%]")
        axes.grid(True)
    near.set_ylim(max(min(run.target_pct, *tops) - 3, run.target_pct - 10), min(100.5, max(run.target_pct, *tops) + 1))
    near.set_title("around the target")
    whole.set_title("whole range")
    fig.legend_below(figure, whole, 8)
    return figure


def _mean_and_deviation(seeds: Sequence[Sequence[Numbers]], column: str) -> list[tuple[int, float, float]]:
    """(epoch, mean, sample standard deviation) over the seeds that have a value."""
    values_by_epoch: dict[int, list[float]] = {}
    for row in (row for rows in seeds for row in rows):
        value = row.get(column)
        if value is not None:
            values_by_epoch.setdefault(int(row["epoch"] or 0), []).append(value)
    return [
        (epoch, fmean(values), stdev(values) if len(values) > 1 else 0.0)
        for epoch, values in sorted(values_by_epoch.items())
    ]


def _draw_curve(
    axes: Axes, band: Sequence[tuple[int, float, float]], colour: str, dashes: fig.Dashes, label: str
) -> None:
    epochs, means = [epoch for epoch, _, _ in band], [mean for _, mean, _ in band]
    mark = "o" if len(band) == 1 else ""  # a line of one point would not be seen
    axes.plot(epochs, means, color=colour, linestyle=dashes, linewidth=1.5, marker=mark, label=label)
    low, high = [mean - spread for _, mean, spread in band], [mean + spread for _, mean, spread in band]
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def angle_layers(run: Run, prefix: str = _ANGLE) -> list[str]:
    """Layers whose angle is recorded; of many, the first, the last and evenly spaced ones between."""
    columns = {name: None for seeds in run.epochs.values() for rows in seeds.values() for row in rows for name in row}
    layers = [name[len(prefix) :] for name in columns if name.startswith(prefix)]
    if len(layers) <= _MOST_PANELS:
        return layers
    last = len(layers) - 1
    return [layers[panel * last // (_MOST_PANELS - 1)] for panel in range(_MOST_PANELS)]


def angles(run: Run) -> Figure | None:
    """The figure of the angle between feedback and forward weights over the epochs, a panel per layer."""
    return _angle_figure(run, _ANGLE)


def gradient_angles(run: Run) -> Figure | None:
    """The figure of the angle between the rule's weight gradient and backpropagation's, a panel per layer."""
    return _angle_figure(run, _GRADIENT_ANGLE)


def _angle_figure(run: Run, prefix: str) -> Figure | None:
    layers = angle_layers(run, prefix)
    if not layers:
        return None
    columns = 2 if len(layers) == 4 else min(3, len(layers))
    rows = -(-len(layers) // columns)
    figure, panels = fig.new_figure(0.6 + 2.9 * rows, rows, columns)
    for axes, layer in zip(panels, layers, strict=False):
        _draw_angle_panel(axes, run, prefix + layer)
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    panels[0].set_ylabel("angle [degrees]")
    fig.legend_below(figure, panels[0], 8)
    return figure


def _draw_angle_panel(axes: Axes, run: Run, column: str) -> None:
    for index, (rule, seeds) in enumerate(run.epochs.items()):
        band = _mean_and_deviation(list(seeds.values()), column)
        if band:
            _draw_curve(axes, band, fig.rule_colour(rule, list(run.epochs)), fig.dashes(index), rule)
    axes.axhline(90, color="#888888", linewidth=0.8, linestyle=(0, (1, 1.5)))
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 30, 45, 60, 90])
    axes.set_title(column.partition(".")[2])
    fig.epoch_axis(axes)
    axes.grid(True)
