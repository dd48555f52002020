"""A cost as the report reads it, and the plots of a single one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fahw.chip.area import areas_mm2
from fahw.chip.cost import Cost
from fahw.chip.roofline import ROOFLINE_COLUMNS, as_row, points
from fahw.chip.usage import uses
from fahw.errors import ConfigError, Problem, check_path
from fahw.files import write_text
from fahw.report.run_folder import Entry, Line
from fahw.tables import csv_text

PART_COLUMNS = (
    "part", "kind", "busy_cycles", "utilisation", "amount", "unit", "per_cycle", "mean_per_cycle", "stall_cycles",
)  # fmt: skip
_COMPONENT_COLUMNS = ("component", "area_mm2", "energy_pj")


def details_of(cost: Cost) -> dict[str, Any]:
    """The details of a cost that the report shows beyond its row in the summary and its ledger."""
    chip = cost.work.chip
    stalls = {f"{part}: {cause}": cycles for (part, cause), cycles in sorted(cost.timing.stalls.items()) if cycles}
    sources = {(row.price.kind, row.price.source, row.price.factor, row.price.given) for row in cost.ledger}
    return {
        "form": cost.form, "seconds": cost.seconds, "power_mw": cost.power_mw, "macs": cost.macs,
        "samples_per_second": cost.samples_per_second, "tops_per_watt": cost.tops_per_watt,
        "energy_delay_js": cost.energy_delay_js, "inference_pj_per_sample": cost.inference_pj_per_sample,
        "static_pj": cost.static_pj, "isolated_static_pj": cost.isolated_static_pj, "one_time_pj": cost.one_time_pj,
        "placements": [asdict(placement) for placement in cost.placements], "spilled_bits": cost.spilled_bits,
        "spans": [asdict(span) for span in cost.timing.spans], "busy": dict(sorted(cost.timing.busy.items())),
        "stalls": stalls,
        "sources": [dict(zip(("kind", "source", "factor", "given"), row, strict=True)) for row in sorted(sources)],
        "parts": part_rows(cost), "areas": areas_mm2(chip, cost.form == "transposable"),
        "mesh": [chip.mesh.rows, chip.mesh.cols] if chip.mesh else None,
        "memory_kib": memory_sizes(cost), "mapping": asdict(cost.work.plan) if cost.work.plan else None,
    }  # fmt: skip


def memory_sizes(cost: Cost) -> dict[str, float]:
    """KiB of every memory as it was priced: rivals of equal area have more buffer than the chip file says."""
    return {memory.name: memory.kib for memory in cost.work.chip.memories}


def part_rows(cost: Cost) -> list[dict[str, Any]]:
    """How a step uses each part, as rows of `PART_COLUMNS`."""
    return [{name: getattr(use, name) for name in PART_COLUMNS} for use in uses(cost)]


def roofline_rows(cost: Cost) -> list[dict[str, Any]]:
    """The points of the roofline plots, as rows of `fahw.chip.roofline.ROOFLINE_COLUMNS`."""
    return [as_row(point) for point in points(cost)]


def line_of(cost: Cost) -> Line:
    """The cost as a line of a comparison that nothing was trained for."""
    numbers: dict[str, float | None] = {
        "cycles_per_step": cost.cycles, "interval_cycles": cost.interval_cycles, "energy_pj_per_step": cost.energy_pj,
        "energy_pj_per_sample": cost.energy_pj_per_sample, "transported_bits_per_step": cost.transported_bits,
    }  # fmt: skip
    ledger = (
        Entry(row.component, row.action, row.tensor, row.phase, row.layer, row.count, row.energy_pj)
        for row in cost.ledger
    )
    rows = tuple(roofline_rows(cost))
    return Line(cost.rule, cost.transport, {}, numbers, details_of(cost), tuple(ledger), rows)


def write_plots(cost: Cost, folder: Path | str) -> list[Path]:
    """Write the timeline, the rooflines and the energy map of a step as SVG, and their numbers as CSV.

    Raises ConfigError where the folder cannot be written.
    """
    from fahw.report.figures.floorplan import components
    from fahw.report.figures.plots import draw_line

    check_path("--plots", folder)
    folder, line = Path(folder), line_of(cost)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(Problem(f"--plots {folder}", "is a file: name a folder for the plots"))
    files = {f"{plot.name}.svg": plot.svg for plot in draw_line(line)}
    files["roofline.csv"] = csv_text(ROOFLINE_COLUMNS, line.roofline)
    parts = ({**row, "stall_cycles": sum(row["stall_cycles"].values())} for row in line.details["parts"])
    files["parts.csv"] = csv_text(PART_COLUMNS, parts)
    component_rows = (
        {**asdict(item), "component": f"{core}:{item.name}" if core else item.name}
        for core, items in components(line).items()
        for item in items
    )
    files["components.csv"] = csv_text(_COMPONENT_COLUMNS, component_rows)
    try:
        for name, text in files.items():
            write_text(folder / name, text)
    except OSError as error:
        raise ConfigError(Problem(f"--plots {folder}", f"cannot be written: {error.strerror}")) from None
    return [folder / name for name in files]
