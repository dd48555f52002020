"""The page of a sweep: what its template and its script need, from the tables of the folder; nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fahw.report.figures.plots import Plot
from fahw.report.sweeps.data import AXIS, Record, axes_of, axis_label, number, page_data, shown_points
from fahw.report.table import Cell, Column, Row, Table, text_row
from fahw.tables import read_csv
from fahw.units import J_PER_PJ, fixed, percent, si

_DATA = Path(__file__).parent.parent.parent / "data"
_FILES = {
    "summary.csv": "every point with its figures",
    "front.csv": "the points that nothing beats in accuracy and energy, time or area",
    "equal_accuracy.csv": "each rule's point of least energy at the accuracy of the best backpropagation",
    "equal_area.csv": "backpropagation with the area of the second memory as buffer, beside every rule",
    "maps.csv": "accuracy and savings over every two axes",
    "sensitivity.csv": "what moves the saving of each rule, the most first",
    "uncertainty.csv": "energy of every point by kind of constant and its uncertainty",
    "ledger.csv": "energy by phase and component of the fronts and of points spread over the sweep",
    "plots/front.svg": "accuracy against energy",
    "plots/bits.svg": "accuracy over weight bits and feedback bits",
    "manifest.json": "all inputs, versions, content hash",
}


def sweep_values(folder: Path, manifest: dict[str, Any], plots: Sequence[Plot]) -> dict[str, Any]:
    """The values that the template of a sweep needs."""
    points, spec = read_csv(folder / "summary.csv"), manifest["inputs"]["sweep"]
    base = {"chip": spec["chip"], "model": spec["model"], "set": spec["set"]}
    extra = {"base": base, "sensitivity": _sensitivity_values(folder), "ledger_files": _ledger_files(folder)}
    names = [plot.name for plot in plots]
    return {
        "title": spec["name"], "description": spec["description"], "facts": _fact_list(points, spec, manifest),
        "unfinished": _unfinished_text(points), "tables": list(_tables(folder, points)), "manifest": manifest,
        "data": page_data(points, _rows_if_there(folder, "ledger.csv"), extra),
        "script": (_DATA / "report_sweep.js").read_text(encoding="utf-8"), "partly": _partly_shown_text(points),
        "files": [
            (name, text) for name, text in _FILES.items()
            if (folder / name).exists() or name == "maps.csv" or Path(name).stem in names
        ],
    }  # fmt: skip


def _fact_list(points: Sequence[Record], spec: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The head of the page: names and values of the main inputs, and how many points are done."""
    count = {status: sum(point["status"] == status for point in points) for status in ("done", "failed")}
    facts = [("chip", spec["chip"]), ("model", spec["model"]), ("points", fixed(len(points), 0))]
    facts += [("done", fixed(count["done"], 0)), ("failed", fixed(count["failed"], 0))]
    if spec["train"]:
        seeds = spec["seeds"]
        facts.append(("seeds", str(seeds) if isinstance(seeds, int) else str(len(seeds))))
    if manifest.get("target_accuracy_pct") is not None:
        facts.append(("target", f"{fixed(manifest['target_accuracy_pct'], 2)} % validation accuracy"))
    return facts


def _unfinished_text(points: Sequence[Record]) -> str:
    """The sentence that says how many points still wait for trainings; empty where none does."""
    unfinished = sum(point["status"] not in ("done", "failed") for point in points)
    return (
        f"Unfinished: {unfinished} of {len(points)} points wait for trainings; the same sweep goes on."
        if unfinished
        else ""
    )


def _partly_shown_text(points: Sequence[Record]) -> str:
    """The sentence that says how many of the points the page holds; empty where it holds all."""
    shown = len(shown_points(points))
    if shown == len(points):
        return ""
    return f"This page holds {shown:,} of {len(points):,} points, those of the fronts among them; summary.csv has all."


def _tables(folder: Path, points: Sequence[Record]) -> Iterator[Table]:
    """The tables of verdicts, of equal accuracy and of equal area, as far as there are rows for them."""
    rules = list(dict.fromkeys(point["rule"] for point in points))
    rows = [row for rule in rules if (row := _verdict_row([point for point in points if point["rule"] == rule]))]
    if rows:
        heads = (
            Column("rule"), Column("points compared", number=True), Column("rule wins", number=True),
            Column("bp wins", number=True), Column("undecided", number=True),
            Column("least saved", "%", True), Column("most saved", "%", True), Column("where it saves most"),
        )  # fmt: skip
        yield Table(
            "verdict", "Energy per step against the best backpropagation at the same point", heads, tuple(rows), 1,
            ("Undecided: the sign changes within the uncertainty of the constants.",),
        )  # fmt: skip
    if equal := _equal_accuracy_table(_rows_if_there(folder, "equal_accuracy.csv"), points):
        yield equal
    if area := _equal_area_table(_rows_if_there(folder, "equal_area.csv")):
        yield area


def _verdict_row(points: Sequence[Record]) -> Row | None:
    """The row of one rule's points against the best backpropagation beside each; None where nothing was compared."""
    compared = [point for point in points if number(point["saving_per_step"]) is not None]
    if not compared:
        return None
    by_saving = sorted(compared, key=lambda point: float(point["saving_per_step"]))
    wins = [str(sum(point["winner"] == winner for point in compared)) for winner in ("rule", "baseline", "undecided")]
    ends = [percent(float(point["saving_per_step"])).removesuffix(" %") for point in (by_saving[0], by_saving[-1])]
    return text_row(compared[0]["rule"], str(len(compared)), *wins, *ends, _axis_values_text(by_saving[-1]))


def _axis_values_text(point: Record) -> str:
    """The values of a point's axes in a line."""
    left_out = ("rule", "transport", "seed")
    names = [name for name in axes_of([point]) if name not in left_out]
    return ", ".join(f"{axis_label(name)} {point[AXIS + name]}" for name in names) or "–"


def _equal_accuracy_table(best: Sequence[Record], points: Sequence[Record]) -> Table | None:
    """The table of the rules of `best`, then those of which none of the trained `points` is accurate enough."""
    if not best:
        return None
    heads = (
        Column("rule"), Column("test accuracy", "%", True), Column("energy per sample", "", True),
        Column("time per sample", "", True), Column("area", "mm2", True), Column("at"),
    )  # fmt: skip
    rows = tuple(
        text_row(
            point["rule"], _shown_number(point["accuracy_pct_mean"]),
            _shown_with_unit(point["energy_pj_per_sample"], "J", J_PER_PJ),
            _shown_with_unit(point["seconds_per_sample"], "s"), _shown_number(point["area_mm2"]),
            _axis_values_text(point),
        )
        for point in best
    )  # fmt: skip
    trained = (point["rule"] for point in points if point["accuracy_pct_mean"] and point["energy_pj_per_sample"])
    absent = set(trained) - {point["rule"] for point in best}
    nothing = Cell("none within one point", span=len(heads) - 1, muted=True)
    rows += tuple(
        Row((Cell(rule), nothing)) for rule in dict.fromkeys(point["rule"] for point in points) if rule in absent
    )
    note = "The point of least energy of each rule among those at most one point of accuracy below the best bp."
    return Table("equal_accuracy", "At equal accuracy", heads, rows, 1, (note,))


def _equal_area_table(rows: Sequence[Record]) -> Table | None:
    """The table of savings against backpropagation that has the area of the second memory; None without rows."""
    if not rows:
        return None
    heads = (
        Column("rule"), Column("points compared", number=True), Column("least saved", "%", True),
        Column("most saved", "%", True), Column("rule wins", number=True), Column("bp's buffer grows", "KiB", True),
    )  # fmt: skip
    body = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        rows_of_rule = [row for row in rows if row["rule"] == rule]
        savings = sorted(float(row["saving_per_step"]) for row in rows_of_rule)
        grown = max(float(row["added_kib"]) for row in rows_of_rule)
        wins = str(sum(saving > 0 for saving in savings))
        ends = [percent(value).removesuffix(" %") for value in (savings[0], savings[-1])]
        body.append(text_row(rule, str(len(rows_of_rule)), *ends, wins, fixed(grown, 0)))
    names = {row["grown_memory"] for row in rows} - {""}
    note = "Backpropagation without the feedback memory, whose area goes to the memory that has most use for it" + (
        f": {', '.join(sorted(names))}." if names else "; here none has any, and the area stays empty."
    )
    return Table("equal_area", "At equal area, energy per step", heads, tuple(body), 1, (note,))


def _shown_number(text: str) -> str:
    """The number with two decimals; a dash for an empty cell."""
    return fixed(float(text), 2) if text else "–"


def _shown_with_unit(text: str, unit: str, factor: float = 1.0) -> str:
    """The number with its unit and a prefix; a dash for an empty cell."""
    return si(float(text) * factor, unit) if text else "–"


def _rows_if_there(folder: Path, name: str) -> list[Record]:
    """The rows of a table of the folder; none where the file is missing."""
    return read_csv(folder / name) if (folder / name).exists() else []


def _ledger_files(folder: Path) -> list[tuple[int, int, str]]:
    """First point, last point and path of each packed ledger."""
    paths = sorted((folder / "ledgers").glob("[0-9]*-[0-9]*.csv.gz"))
    ends = [path.name.partition(".")[0].split("-") for path in paths]
    return [(int(first), int(last), f"ledgers/{path.name}") for (first, last), path in zip(ends, paths, strict=True)]


def _sensitivity_values(folder: Path) -> list[dict[str, Any]]:
    """The rows of sensitivity.csv as the page's script needs them."""
    return [
        {
            "rule": row["rule"], "kind": row["kind"], "name": axis_label(row["name"]),
            "mean": float(row["saving_mean"]),
            "low": float(row["saving_low"]), "high": float(row["saving_high"]), "low_at": row["low_at"],
            "high_at": row["high_at"], "flips": int(row["flips"]),
        }
        for row in _rows_if_there(folder, "sensitivity.csv")
    ]  # fmt: skip
