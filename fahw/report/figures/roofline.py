"""The roofline plots: a panel per memory, what its ports and the array allow, and where each phase of a layer lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fahw.report.figures import figure as fig
from fahw.report.run_folder import Line

_COLUMNS = 3
_SIDES: dict[str, tuple[str, Literal["-", "--"], float]] = {
    "read": ("o", "-", 1.0),
    "write": ("s", "--", 0.0),
    "": ("D", "-", 1.0),
}
"""Marker, line and filling of what passes a memory's read port, its write port, or the only one."""


@dataclass(frozen=True)
class _RooflinePoint:
    """A phase of a layer at one port of a memory; `peak` is what the array does at most, MACs per cycle."""

    memory: str
    side: str
    phase: str
    layer: str
    macs_per_bit: float
    macs_per_cycle: float
    bits_per_cycle: float
    peak: float
    cycles: float


def roofline(line: Line) -> Figure | None:
    """The figure of operational intensity against speed, a panel per memory; equal cores share a panel."""
    dots = [_dot_of_row(row) for row in line.roofline]
    memories = sorted({dot.memory for dot in dots}, key=lambda name: (name == "dram", name))
    if not memories:
        return None
    rows = ceil(len(memories) / _COLUMNS)
    figure, panels = fig.new_figure(1.1 + 2.85 * rows, rows, min(_COLUMNS, len(memories)))
    speeds = min(dot.macs_per_cycle for dot in dots) / 2.5, max(dot.peak for dot in dots) * 2.5
    for axes, memory in zip(panels, memories, strict=False):
        _draw_panel(axes, memory, [dot for dot in dots if dot.memory == memory], speeds)
    for axes in panels[len(memories) :]:
        axes.set_visible(False)
    for axes in panels[:: min(_COLUMNS, len(memories))]:
        axes.set_ylabel("MACs per cycle")
    figure.suptitle(line.label, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    _draw_legend(figure, dots)
    return figure


def _dot_of_row(row: Mapping[str, str]) -> _RooflinePoint:
    """The point of a row of roofline.csv."""
    name = row["port"].rpartition(":")[2]
    memory, point, side = name.rpartition(".")
    place = (memory, side) if point and side in _SIDES else (name, "")
    keys = ("macs_per_bit", "macs_per_cycle", "bits_per_cycle", "peak_macs_per_cycle", "cycles")
    values = [float(row[key]) for key in keys]
    return _RooflinePoint(*place, row["phase"], row["layer"], *values)


def _draw_panel(axes: Axes, memory: str, dots: Sequence[_RooflinePoint], speeds: tuple[float, float]) -> None:
    """Draw the roofs of a memory's ports and its points; both axes are logarithmic."""
    peak = max(dot.peak for dot in dots)
    rates = {dot.side: dot.bits_per_cycle for dot in dots}
    xs = [dot.macs_per_bit for dot in dots] + [peak / rate for rate in rates.values()]
    low, high = min(xs) / 4, max(xs) * 4
    for side, rate in rates.items():
        knee = min(max(peak / rate, low), high)
        style = _SIDES[side][1]
        axes.plot([low, knee, high], [low * rate, knee * rate, peak], color=fig.INK, linewidth=1.0, linestyle=style)
    longest = max(dot.cycles for dot in dots)
    for dot in sorted(dots, key=lambda dot: -dot.cycles):
        mark, _, filled = _SIDES[dot.side]
        colour = fig.PHASE_COLOURS[dot.phase]
        (artist,) = axes.plot(
            [dot.macs_per_bit], [dot.macs_per_cycle], marker=mark, linestyle="none", markeredgecolor=colour,
            markersize=3.5 + 5 * (dot.cycles / longest) ** 0.5, markeredgewidth=1.1,
            markerfacecolor=colour if filled else "none", alpha=0.85,
        )  # fmt: skip
        speed = f"{dot.macs_per_bit:.3g} MACs per bit, {dot.macs_per_cycle:.3g} per cycle"
        fig.tip(artist, f"{dot.phase} {dot.layer}{f', {dot.side}' if dot.side else ''}: {speed}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(*speeds)
    rates_text = ", ".join(f"{side} {rate:.4g}".strip() for side, rate in rates.items())
    axes.set_title(f"{memory}\n{rates_text} bits per cycle", loc="left")
    axes.set_xlabel("MACs per bit")
    _set_plain_ticks(axes)


def _set_plain_ticks(axes: Axes) -> None:
    """Put a grid and short numbers on both axes."""
    axes.grid(True)
    axes.set_axisbelow(True)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 60 else (1,), numticks=6))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
        axis.set_minor_formatter(NullFormatter())


def _short_number(value: float) -> str:
    """The number with a letter for its size: `20k` for 20,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _draw_legend(figure: Figure, dots: Sequence[_RooflinePoint]) -> None:
    """Draw the legend of phases and ports under the whole figure."""
    phases = {dot.phase for dot in dots}
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", markersize=7, label=name)
        for name, colour in fig.PHASE_COLOURS.items()
        if name in phases
    ]
    names = {"read": "read port and its roof", "write": "write port and its roof", "": "one port for both"}
    for side in (side for side in _SIDES if side in {dot.side for dot in dots}):
        mark, style, filled = _SIDES[side]
        face = fig.INK if filled else "none"
        handles.append(
            Line2D([], [], color=fig.INK, marker=mark, linestyle=style, markerfacecolor=face, label=names[side])
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
