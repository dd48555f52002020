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

_COLOURS = "YlGnBu"
_SMALLEST = 0.07
"""Side of a rectangle that still carries its number, relative to the map's."""
_MOST_CORES = 100
"""Of a mesh that is drawn with every core's components; of a larger one a core has one colour."""
Box = tuple[float, float, float, float]
"""x, y, width, height."""


@dataclass(frozen=True)
class Component:
    """A component: area in mm2 (0: none, or none known), energy in pJ per step."""

    name: str
    area_mm2: float
    energy_pj: float


def components(line: Line) -> dict[str, list[Component]]:
    """The components by core, largest first; what belongs to no core under the empty name."""
    areas: dict[str, float] = line.details.get("areas", {})
    energies: dict[str, list[float]] = {name: [] for name in areas}
    for row in line.ledger:
        energies.setdefault(row.component, []).append(row.energy_pj)
    found: dict[str, list[Component]] = {}
    for full, parts in energies.items():
        core, _, name = full.rpartition(":")
        found.setdefault(core, []).append(Component(name, areas.get(full, 0.0), fsum(parts)))
    for items in found.values():
        items.sort(key=lambda item: (-item.area_mm2, -item.energy_pj))
    return found


def squarified(areas: Sequence[float], box: Box) -> list[Box]:
    """Rectangles of these areas (largest first, in proportion) that fill `box`, as square as rows of them allow."""
    x, y, width, height = box
    total = sum(areas)
    if not total:
        return [(x, y, 0.0, 0.0) for _ in areas]
    sizes = [area * width * height / total for area in areas]
    boxes: list[Box] = []
    while len(boxes) < len(sizes):
        rest = sizes[len(boxes) :]
        side = min(width, height)
        count = 1
        while count < len(rest) and _worst(rest[: count + 1], side) <= _worst(rest[:count], side):
            count += 1
        row = rest[:count]
        depth = sum(row) / side if side else 0.0
        at = 0.0
        for size in row:
            length = size / depth if depth else 0.0
            upright = width >= height
            boxes.append((x, y + at, depth, length) if upright else (x + at, y, length, depth))
            at += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides among rectangles that share a strip along `side`."""
    depth = sum(row) / side if side else 0.0
    return max((max(depth**2 / size, size / depth**2) for size in row if size and depth), default=1.0)


def floorplan(lines: Sequence[Line]) -> Figure | None:
    """A map per line with the key of its components; one scale of colours for all."""
    lines = [line for line in lines if line.details.get("areas")]
    if not lines:
        return None
    found = [components(line) for line in lines]
    most = max(item.energy_pj for cores in found for items in cores.values() for item in items if item.area_mm2)
    norm = PowerNorm(0.5, 0.0, most or 1.0, clip=True)  # what lies beside the map, such as DRAM, may need more
    meshes = [line.details.get("mesh") for line in lines]
    columns = 3 if any(meshes) else 2
    rows = max(len(items) for cores in found for items in _in_key(cores, _busiest(cores)).values())
    figure = Figure(figsize=(fig.WIDTH, (0.5 + max(3.0, 0.22 * (rows + 6))) * len(lines)), layout="constrained")
    grid = figure.subplots(len(lines), columns, squeeze=False, width_ratios=(1,) * (columns - 1) + (1.25,))
    for axes, line, cores, mesh in zip(grid, lines, found, meshes, strict=True):
        busiest = _busiest(cores)
        if mesh:
            _mesh(axes[0], cores, mesh, norm)
        _core(axes[columns - 2], cores[busiest], norm)
        _key(axes[columns - 1], _in_key(cores, busiest), norm)
        total = fsum(item.energy_pj for items in cores.values() for item in items)
        axes[0].set_title(f"{line.label}: {si(total * J_PER_PJ, 'J')} per step", loc="left")
        if mesh:
            axes[1].set_title(f"{busiest}, which needs the most", loc="left")
    return figure


def _busiest(cores: dict[str, list[Component]]) -> str:
    """The core with the most energy; the only one of a chip without a mesh."""
    named = [core for core in cores if core] or [""]
    return max(named, key=lambda core: sum(item.energy_pj for item in cores[core]))


def _in_key(cores: dict[str, list[Component]], busiest: str) -> dict[str, list[Component]]:
    """What the key lists: the components of the core that is drawn large, and those without a place on the map."""
    placed = [item for item in cores[busiest] if item.area_mm2]
    beside = [item for item in cores[busiest] if not item.area_mm2 and item.energy_pj]
    shared = cores.get("", []) if busiest else []
    return {busiest: placed, "beside": [*beside, *shared]}


def _colour(energy_pj: float, norm: PowerNorm) -> tuple[float, float, float, float]:
    return colormaps[_COLOURS](0.06 + 0.94 * float(norm(energy_pj)))


def _ink(energy_pj: float, norm: PowerNorm) -> str:
    red, green, blue, _ = _colour(energy_pj, norm)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"


def _fill(axes: Axes, items: Iterable[Component], box: Box, norm: PowerNorm, edge: float) -> list[Box]:
    placed = [item for item in items if item.area_mm2]
    boxes = squarified([item.area_mm2 for item in placed], box)
    for item, (x, y, width, height) in zip(placed, boxes, strict=True):
        colour = _colour(item.energy_pj, norm)
        patch = Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=edge)
        axes.add_patch(patch)
        fig.tip(patch, f"{item.name}: {significant(item.area_mm2)} mm², {si(item.energy_pj * J_PER_PJ, 'J')}")
    return boxes


def _core(axes: Axes, items: Sequence[Component], norm: PowerNorm) -> None:
    boxes = _fill(axes, items, (0.0, 0.0, 1.0, 1.0), norm, 1.2)
    for number, (item, (x, y, width, height)) in enumerate(zip(items, boxes, strict=False), 1):
        if min(width, height) >= _SMALLEST:
            middle = (x + width / 2, y + height / 2)
            colour = _ink(item.energy_pj, norm)
            axes.annotate(str(number), middle, ha="center", va="center", fontsize=9, color=colour)
    _blank(axes, 1.0, 1.0)


def _mesh(axes: Axes, cores: dict[str, list[Component]], mesh: Sequence[int], norm: PowerNorm) -> None:
    rows, columns = mesh
    axes.set_xlabel(f"{rows} × {columns} cores, core0 in the upper left corner")
    if rows * columns > _MOST_CORES:
        sums = [fsum(item.energy_pj for item in cores.get(f"core{n}", [])) for n in range(rows * columns)]
        colours = [[_colour(sums[row * columns + column], norm) for column in range(columns)] for row in range(rows)]
        axes.imshow(colours, extent=(0, columns, rows, 0), interpolation="nearest")
        _blank(axes, float(columns), float(rows))
        return
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        _fill(axes, cores.get(f"core{number}", []), (column + 0.04, row + 0.04, 0.92, 0.92), norm, 0.2)
    _blank(axes, float(columns), float(rows))


def _blank(axes: Axes, width: float, height: float) -> None:
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _key(axes: Axes, groups: dict[str, list[Component]], norm: PowerNorm) -> None:
    """Colour, number, name, area and energy of every component; the numbers are those on the map."""
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
        axes.annotate(text, (0.035, place), ha="center", va="center", fontsize=8, color=_ink(item.energy_pj, norm))
        axes.annotate(item.name, (0.09, place), va="center", fontsize=8)
        area = f"{significant(item.area_mm2, 3)} mm²" if item.area_mm2 else "no area"
        axes.annotate(area, (0.75, place), ha="right", va="center", fontsize=8)
        energy = si(item.energy_pj * J_PER_PJ, "J")
        axes.annotate(energy, (1.0, place), ha="right", va="center", fontsize=8)
    _blank(axes, 1.0, 1.0)
    axes.set_aspect("auto")
    axes.set_ylim(height - 0.4, -0.6)
