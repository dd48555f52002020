"""The energy map: every component as a rectangle of its area, coloured by its energy per step; cores as they lie.

Where a component lies within its core is not known: the map shows sizes, not places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fahw.report.figures import figure as fig
from fahw.report.run_folder import Line
from fahw.units import J_PER_PJ, si, significant

_COLOUR_MAP = "YlGnBu"
_LABELLED_SIDE = 0.07
"""Least side of a rectangle that carries its number, relative to the map's."""
_MOST_CORES = 100
"""Most cores of a mesh that is drawn with their components; of a larger one a core has one colour."""
Box = tuple[float, float, float, float]
"""A rectangle: x, y, width, height."""


@dataclass(frozen=True)
class Component:
    """A part of the chip: area in mm2 (0: none, or none known), energy in pJ per step."""

    name: str
    area_mm2: float
    energy_pj: float


def components(line: Line) -> dict[str, list[Component]]:
    """The components of a priced step by core, largest first; what belongs to no core has the empty name."""
    areas: dict[str, float] = line.details.get("areas", {})
    energies: dict[str, list[float]] = {name: [] for name in areas}
    for row in line.ledger:
        energies.setdefault(row.component, []).append(row.energy_pj)
    by_core: dict[str, list[Component]] = {}
    for full_name, parts in energies.items():
        core, _, name = full_name.rpartition(":")
        by_core.setdefault(core, []).append(Component(name, areas.get(full_name, 0.0), fsum(parts)))
    for items in by_core.values():
        items.sort(key=lambda item: (-item.area_mm2, -item.energy_pj))
    return by_core


def squarified(areas: Sequence[float], box: Box) -> list[Box]:
    """The rectangles of these areas (largest first, in proportion) that fill `box`, as square as rows of them allow."""
    x, y, width, height = box
    total = sum(areas)
    if not total:
        return [(x, y, 0.0, 0.0) for _ in areas]
    sizes = [area * width * height / total for area in areas]
    boxes: list[Box] = []
    while len(boxes) < len(sizes):
        remaining = sizes[len(boxes) :]
        side = min(width, height)
        count = 1
        while count < len(remaining) and _worst_aspect_ratio(remaining[: count + 1], side) <= _worst_aspect_ratio(
            remaining[:count], side
        ):
            count += 1
        row = remaining[:count]
        depth = sum(row) / side if side else 0.0
        offset = 0.0
        for size in row:
            length = size / depth if depth else 0.0
            upright = width >= height
            boxes.append((x, y + offset, depth, length) if upright else (x + offset, y, length, depth))
            offset += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return boxes


def _worst_aspect_ratio(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides among rectangles that share a strip along `side`."""
    depth = sum(row) / side if side else 0.0
    return max((max(depth**2 / size, size / depth**2) for size in row if size and depth), default=1.0)


def floorplan(lines: Sequence[Line]) -> Figure | None:
    """The figure with a map per line and the key of its components, on one scale of colours; None without areas."""
    lines = [line for line in lines if line.details.get("areas")]
    if not lines:
        return None
    maps = [components(line) for line in lines]
    largest_pj = max(item.energy_pj for cores in maps for items in cores.values() for item in items if item.area_mm2)
    norm = PowerNorm(0.5, 0.0, largest_pj or 1.0, clip=True)  # what lies beside the map, such as DRAM, may need more
    meshes = [line.details.get("mesh") for line in lines]
    columns = 3 if any(meshes) else 2
    rows = max(len(items) for cores in maps for items in _key_groups(cores, _busiest(cores)).values())
    figure = Figure(figsize=(fig.WIDTH, (0.5 + max(3.0, 0.22 * (rows + 6))) * len(lines)), layout="constrained")
    grid = figure.subplots(len(lines), columns, squeeze=False, width_ratios=(1,) * (columns - 1) + (1.25,))
    for axes, line, cores, mesh in zip(grid, lines, maps, meshes, strict=True):
        busiest = _busiest(cores)
        if mesh:
            _draw_mesh(axes[0], cores, mesh, norm)
        _draw_core(axes[columns - 2], cores[busiest], norm)
        _draw_key(axes[columns - 1], _key_groups(cores, busiest), norm)
        total = fsum(item.energy_pj for items in cores.values() for item in items)
        axes[0].set_title(f"{line.label}: {si(total * J_PER_PJ, 'J')} per step", loc="left")
        if mesh:
            axes[1].set_title(f"{busiest}, which needs the most", loc="left")
    return figure


def _busiest(cores: dict[str, list[Component]]) -> str:
    """The core with the most energy; the only one of a chip without a mesh."""
    named = [core for core in cores if core] or [""]
    return max(named, key=lambda core: sum(item.energy_pj for item in cores[core]))


def _key_groups(cores: dict[str, list[Component]], busiest: str) -> dict[str, list[Component]]:
    """The components that the key lists: those of the core that is drawn large, and those without a place on the
    map."""
    placed = [item for item in cores[busiest] if item.area_mm2]
    beside = [item for item in cores[busiest] if not item.area_mm2 and item.energy_pj]
    shared = cores.get("", []) if busiest else []
    return {busiest: placed, "beside": [*beside, *shared]}


def _colour(energy_pj: float, norm: PowerNorm) -> tuple[float, float, float, float]:
    """The colour of an energy, as red, green, blue and opacity."""
    return colormaps[_COLOUR_MAP](0.06 + 0.94 * float(norm(energy_pj)))


def _label_colour(energy_pj: float, norm: PowerNorm) -> str:
    """Black or white, whichever can be read on the colour of an energy."""
    red, green, blue, _ = _colour(energy_pj, norm)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"


def _draw_rectangles(axes: Axes, items: Iterable[Component], box: Box, norm: PowerNorm, edge: float) -> list[Box]:
    """Draw components with an area into `box`. Returns their rectangles."""
    placed = [item for item in items if item.area_mm2]
    boxes = squarified([item.area_mm2 for item in placed], box)
    for item, (x, y, width, height) in zip(placed, boxes, strict=True):
        colour = _colour(item.energy_pj, norm)
        patch = Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=edge)
        axes.add_patch(patch)
        fig.tip(patch, f"{item.name}: {significant(item.area_mm2)} mm², {si(item.energy_pj * J_PER_PJ, 'J')}")
    return boxes


def _draw_core(axes: Axes, items: Sequence[Component], norm: PowerNorm) -> None:
    """Draw the components of one core, numbered where there is room."""
    boxes = _draw_rectangles(axes, items, (0.0, 0.0, 1.0, 1.0), norm, 1.2)
    for number, (item, (x, y, width, height)) in enumerate(zip(items, boxes, strict=False), 1):
        if min(width, height) >= _LABELLED_SIDE:
            middle = (x + width / 2, y + height / 2)
            colour = _label_colour(item.energy_pj, norm)
            axes.annotate(str(number), middle, ha="center", va="center", fontsize=9, color=colour)
    _hide_axes(axes, 1.0, 1.0)


def _draw_mesh(axes: Axes, cores: dict[str, list[Component]], mesh: Sequence[int], norm: PowerNorm) -> None:
    """Draw all cores in their places: with their components, or in one colour each where they are many."""
    rows, columns = mesh
    axes.set_xlabel(f"{rows} × {columns} cores, core0 in the upper left corner")
    if rows * columns > _MOST_CORES:
        sums = [fsum(item.energy_pj for item in cores.get(f"core{core}", [])) for core in range(rows * columns)]
        colours = [[_colour(sums[row * columns + column], norm) for column in range(columns)] for row in range(rows)]
        axes.imshow(colours, extent=(0, columns, rows, 0), interpolation="nearest")
        _hide_axes(axes, float(columns), float(rows))
        return
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        _draw_rectangles(axes, cores.get(f"core{number}", []), (column + 0.04, row + 0.04, 0.92, 0.92), norm, 0.2)
    _hide_axes(axes, float(columns), float(rows))


def _hide_axes(axes: Axes, width: float, height: float) -> None:
    """Leave nothing to see of the axes, whose y runs downwards."""
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_key(axes: Axes, groups: dict[str, list[Component]], norm: PowerNorm) -> None:
    """Draw colour, number, name, area and energy of every component; the numbers are those on the map."""
    rows: list[tuple[str, Component | None]] = []
    for group, items in groups.items():
        if items and group == "beside":
            rows.append(("beside the map", None))
        numbered = [(f"{number}", item) for number, item in enumerate(items, 1)]
        rows += [("" if group == "beside" else number, item) for number, item in numbered]
    height = max(len(rows), 14)
    for place, (text, item) in enumerate(rows):
        if item is None:
            axes.annotate(text, (0.0, place), va="center", fontsize=8, color="#666666")
            continue
        colour = _colour(item.energy_pj, norm)
        axes.add_patch(Rectangle((0.0, place - 0.38), 0.07, 0.76, facecolor=colour, edgecolor="none"))
        axes.annotate(
            text, (0.035, place), ha="center", va="center", fontsize=8, color=_label_colour(item.energy_pj, norm)
        )
        axes.annotate(item.name, (0.09, place), va="center", fontsize=8)
        area = f"{significant(item.area_mm2, 3)} mm²" if item.area_mm2 else "no area"
        axes.annotate(area, (0.75, place), ha="right", va="center", fontsize=8)
        energy = si(item.energy_pj * J_PER_PJ, "J")
        axes.annotate(energy, (1.0, place), ha="right", va="center", fontsize=8)
    _hide_axes(axes, 1.0, 1.0)
    axes.set_aspect("auto")
    axes.set_ylim(height - 0.4, -0.6)
