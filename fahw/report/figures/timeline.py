"""The plot of when each part of the chip works in one step, one rule above the other on the same axis of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from fahw.report.figures import figure as fig
from fahw.report.run_folder import Line
from fahw.units import fixed

_LANE_INCHES, _CORE_LANE_INCHES, _MESH_INCHES = 0.3, 0.13, 7.0
_NAME_INCHES = 0.15
_MOST_BARS = 1200
"""Most bars of a step that carry names; where there are more, those of a lane and phase are one shape."""
_LETTER = 0.0082
"""Width of a letter of a label, as a share of the axis."""
_KIND_ORDER = ("io", "", "vector", "link")


def timeline(lines: Sequence[Line]) -> Figure | None:
    """The figure of when each part held a task in one isolated step. On a mesh a core's parts are thin lanes of one
    row."""
    lines = [line for line in lines if line.details.get("spans")]
    if not lines:
        return None
    lanes = [_lanes(line) for line in lines]
    inches = [_inches(line_lanes) for line_lanes in lanes]
    figure, panels = fig.new_figure(0.8 + sum(0.5 + height for height in inches), len(lines), 1, inches)
    end = max(span["end"] for line in lines for span in line.details["spans"])
    for axes, line, line_lanes, height in zip(panels, lines, lanes, inches, strict=True):
        _draw_step(axes, line, line_lanes, end)
        _name_lanes(axes, line_lanes, height)
    panels[-1].set_xlabel("clock cycles from the start of the step")
    used = {span["phase"] for line in lines for span in line.details["spans"]}
    fig.patch_legend(figure, {name: colour for name, colour in fig.PHASE_COLOURS.items() if name in used})
    return figure


def _inches(lanes: Sequence[str]) -> float:
    """The height of a step's lanes in inches; those of a mesh of many cores become thin."""
    return min(len(lanes) * _CORE_LANE_INCHES, _MESH_INCHES) if ":" in lanes[0] else len(lanes) * _LANE_INCHES


def _lanes(line: Line) -> list[str]:
    """The parts with tasks: core by core, arrays above their vector lanes and links."""
    return sorted({span["part"] for span in line.details["spans"]}, key=_lane_order)


def _lane_order(part: str) -> tuple[int, int, str]:
    """The place of a part among the lanes: number of its core, kind of part, name."""
    core, _, name = part.rpartition(":")
    kind = "io" if name == "io" else "vector" if name.endswith(".vector") else "link" if "link" in name else ""
    return int(re.sub(r"\D", "", core) or 0), _KIND_ORDER.index(kind), name


def _draw_step(axes: Axes, line: Line, lanes: Sequence[str], end: float) -> None:
    """Draw the tasks of one step; `end` is where the axis of time ends, in cycles."""
    spans = line.details["spans"]
    micros = max(span.get("micro", 0) for span in spans)
    on_mesh = ":" in lanes[0]
    if len(spans) > _MOST_BARS:
        _draw_merged_bars(axes, spans, lanes, end)
    for span in spans if len(spans) <= _MOST_BARS else ():
        _draw_bar(axes, span, lanes.index(span["part"]), end, named=not on_mesh, numbered=micros > 0)
    axes.set_xlim(0, end * 1.01)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    batches = f", {micros + 1} micro-batches" if micros else ""
    title = f"{line.label}: {fixed(line.numbers['cycles_per_step'] or 0.0, 0)} cycles{batches}"
    axes.set_title(title, loc="left")
    fig.grouped_ticks(axes)


def _draw_merged_bars(axes: Axes, spans: Sequence[dict[str, Any]], lanes: Sequence[str], end: float) -> None:
    """Draw the tasks of each lane, phase and shade as one shape, without names; gaps too small to be seen are
    closed."""
    runs_by_shape: dict[tuple[int, str, bool], list[list[float]]] = {}
    for span in sorted(spans, key=lambda span: int(span["start"])):
        key = (lanes.index(span["part"]), span["phase"], bool(span.get("micro", 0) % 2))
        start, released = span["start"], max(_released(span), span["start"] + end / 2000)
        runs = runs_by_shape.setdefault(key, [])
        if runs and start - runs[-1][1] < end / 4000:
            runs[-1][1] = max(runs[-1][1], released)
        else:
            runs.append([start, released])
    for (place, phase, light), runs in runs_by_shape.items():
        top, bottom = place - 0.4, place + 0.4
        rectangles = [[(first, top), (last, top), (last, bottom), (first, bottom)] for first, last in runs]
        shape = Path.make_compound_path(*(Path([*corners, corners[0]], closed=True) for corners in rectangles))
        colour = fig.PHASE_COLOURS.get(phase, fig.GREY)
        axes.add_patch(PathPatch(shape, facecolor=colour, alpha=0.6 if light else 1.0, linewidth=0))


def _released(span: dict[str, Any]) -> int:
    """The cycle at which a task let go of its part."""
    return int(span.get("released") or span["end"])


def _name_lanes(axes: Axes, lanes: Sequence[str], inches: float) -> None:
    """Name the lanes, or on a mesh the cores, of which some are left out where there is no room for all."""
    axes.tick_params(axis="y", length=0)
    if ":" not in lanes[0]:
        fig.name_ticks(axes.yaxis, range(len(lanes)), lanes)
        return
    places, names, edge = [], [], 0
    for core, core_lanes in groupby(lanes, key=lambda lane: lane.partition(":")[0]):
        count = len(list(core_lanes))
        places.append(edge + (count - 1) / 2)
        names.append(core)
        edge += count
        axes.axhline(edge - 0.5, color="#bbbbbb", linewidth=0.5)
    every = ceil(len(names) * _NAME_INCHES / inches)
    fig.name_ticks(axes.yaxis, places[::every], names[::every])


def _draw_bar(axes: Axes, span: dict[str, Any], place: int, end: float, named: bool, numbered: bool) -> None:
    """Draw a task while it held its part, thin until its results are stored; every other micro-batch is lighter.

    The name stands in it where there is room.
    """
    start, released = span["start"], _released(span)
    length, light = released - start, span.get("micro", 0) % 2
    share, colour = length / end, fig.PHASE_COLOURS.get(span["phase"], fig.GREY)
    bars = axes.barh(
        place, max(length, 0.001 * end), left=start, height=0.8, alpha=0.6 if light else 1.0, linewidth=0.5,
        color=colour, edgecolor="white" if share > 0.005 else "none",
    )  # fmt: skip
    micro = f", micro-batch {span['micro']}" if numbered else ""
    fig.tip(bars[0], f"{span['phase']} {span['layer']}{micro}: {fixed(start, 0)} to {fixed(span['end'], 0)}")
    if span["end"] - released > 0.001 * end:
        axes.barh(place, span["end"] - released, left=released, height=0.12, color=colour, linewidth=0)
    text = f"{span['layer']} #{span.get('micro', 0)}" if numbered else span["layer"]
    text = text if share > _LETTER * (len(text) + 1) else f"#{span['micro']}" if numbered else ""
    if named and text and share > _LETTER * (len(text) + 1):
        middle = (start + length / 2, place)
        axes.annotate(text, middle, ha="center", va="center", fontsize=7.5, color="#000000")
