"""The page of a sweep: what its template and its script need, from the tables of the folder; nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fahw.report.figures.plots import Plot
from fahw.report.sweeps.data import AXIS, Record, axes_of, axis_label, chosen, number, page_data, read_rows
from fahw.report.table import Cell, Column, Row, Table, text_row
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
    """What the template needs."""
    points, spec = read_rows(folder), manifest["inputs"]["sweep"]
    base = {"chip": spec["chip"], "model": spec["model"], "set": spec["set"]}
    extra = {"base": base, "sensitivity": _sensitivity(folder), "ledger_files": _ledger_files(folder)}
    names = [plot.name for plot in plots]
    return {
        "title": spec["name"], "description": spec["description"], "facts": _facts(points, spec, manifest),
        "unfinished": _unfinished(points), "tables": list(_tables(folder, points)), "manifest": manifest,
        "data": page_data(points, _optional(folder, "ledger.csv"), extra),
        "script": (_DATA / "report_sweep.js").read_text(encoding="utf-8"), "partly": _partly(points),
        "files": [
            (name, text) for name, text in _FILES.items()
            if (folder / name).exists() or name == "maps.csv" or Path(name).stem in names
        ],
    }  # fmt: skip


def _facts(points: Sequence[Record], spec: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, str]]:
    count = {status: sum(point["status"] == status for point in points) for status in ("done", "failed")}
    facts = [("chip", spec["chip"]), ("model", spec["model"]), ("points", fixed(len(points), 0))]
    facts += [("done", fixed(count["done"], 0)), ("failed", fixed(count["failed"], 0))]
    if spec["train"]:
        seeds = spec["seeds"]
        facts.append(("seeds", str(seeds) if isinstance(seeds, int) else str(len(seeds))))
    if manifest.get("target_accuracy_pct") is not None:
        facts.append(("target", f"{fixed(manifest['target_accuracy_pct'], 2)} % validation accuracy"))
    return facts


def _unfinished(points: Sequence[Record]) -> str:
    left = sum(point["status"] not in ("done", "failed") for point in points)
    return f"Unfinished: {left} of {len(points)} points wait for trainings; the same sweep goes on." if left else ""


def _partly(points: Sequence[Record]) -> str:
    shown = len(chosen(points))
    if shown == len(points):
        return ""
    return f"This page holds {shown:,} of {len(points):,} points, those of the fronts among them; summary.csv has all."


def _tables(folder: Path, points: Sequence[Record]) -> Iterator[Table]:
    rules = list(dict.fromkeys(point["rule"] for point in points))
    rows = [row for rule in rules if (row := _verdict([point for point in points if point["rule"] == rule]))]
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
    if equal := _equal_accuracy(_optional(folder, "equal_accuracy.csv"), points):
        yield equal
    if area := _equal_area(_optional(folder, "equal_area.csv")):
        yield area


def _verdict(points: Sequence[Record]) -> Row | None:
    known = [point for point in points if number(point["saving_per_step"]) is not None]
    if not known:
        return None
    by_saving = sorted(known, key=lambda point: float(point["saving_per_step"]))
    wins = [str(sum(p["winner"] == who for p in known)) for who in ("rule", "baseline", "undecided")]
    ends = [percent(float(point["saving_per_step"])).removesuffix(" %") for point in (by_saving[0], by_saving[-1])]
    return text_row(known[0]["rule"], str(len(known)), *wins, *ends, _place(by_saving[-1]))


def _place(point: Record) -> str:
    skipped = ("rule", "transport", "seed")
    return ", ".join(f"{axis_label(n)} {point[AXIS + n]}" for n in axes_of([point]) if n not in skipped) or "–"


def _equal_accuracy(best: Sequence[Record], points: Sequence[Record]) -> Table | None:
    """The rules of `best`, then those of which none of the trained `points` is accurate enough."""
    if not best:
        return None
    heads = (
        Column("rule"), Column("test accuracy", "%", True), Column("energy per sample", "", True),
        Column("time per sample", "", True), Column("area", "mm2", True), Column("at"),
    )  # fmt: skip
    rows = tuple(
        text_row(
            point["rule"], _shown(point["accuracy_pct_mean"]), _si(point["energy_pj_per_sample"], "J", J_PER_PJ),
            _si(point["seconds_per_sample"], "s"), _shown(point["area_mm2"]), _place(point),
        )
        for point in best
    )  # fmt: skip
    trained = (point["rule"] for point in points if point["accuracy_pct_mean"] and point["energy_pj_per_sample"])
    absent = set(trained) - {point["rule"] for point in best}
    none = Cell("none within one point", span=len(heads) - 1, muted=True)
    rows += tuple(Row((Cell(rule), none)) for rule in dict.fromkeys(p["rule"] for p in points) if rule in absent)
    note = "The point of least energy of each rule among those at most one point of accuracy below the best bp."
    return Table("equal_accuracy", "At equal accuracy", heads, rows, 1, (note,))


def _equal_area(rows: Sequence[Record]) -> Table | None:
    if not rows:
        return None
    heads = (
        Column("rule"), Column("points compared", number=True), Column("least saved", "%", True),
        Column("most saved", "%", True), Column("rule wins", number=True), Column("bp's buffer grows", "KiB", True),
    )  # fmt: skip
    body = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        mine = [row for row in rows if row["rule"] == rule]
        savings = sorted(float(row["saving_per_step"]) for row in mine)
        grown = max(float(row["added_kib"]) for row in mine)
        wins = str(sum(saving > 0 for saving in savings))
        ends = [percent(value).removesuffix(" %") for value in (savings[0], savings[-1])]
        body.append(text_row(rule, str(len(mine)), *ends, wins, fixed(grown, 0)))
    names = {row["grown_memory"] for row in rows} - {""}
    note = (
        "Backpropagation without the feedback memory, whose area goes to the memory that overflows into DRAM most"
        + (f": {', '.join(sorted(names))}." if names else "; here nothing overflows, and the area stays empty.")
    )
    return Table("equal_area", "At equal area, energy per step", heads, tuple(body), 1, (note,))


def _shown(text: str) -> str:
    return fixed(float(text), 2) if text else "–"


def _si(text: str, unit: str, factor: float = 1.0) -> str:
    return si(float(text) * factor, unit) if text else "–"


def _optional(folder: Path, name: str) -> list[Record]:
    return read_rows(folder, name) if (folder / name).exists() else []


def _ledger_files(folder: Path) -> list[tuple[int, int, str]]:
    """First point, last point and place of the packed ledgers."""
    found = sorted((folder / "ledgers").glob("[0-9]*-[0-9]*.csv.gz"))
    ends = [path.name.partition(".")[0].split("-") for path in found]
    return [(int(a), int(b), f"ledgers/{path.name}") for (a, b), path in zip(ends, found, strict=True)]


def _sensitivity(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "rule": row["rule"], "kind": row["kind"], "name": axis_label(row["name"]),
            "mean": float(row["saving_mean"]),
            "low": float(row["saving_low"]), "high": float(row["saving_high"]), "low_at": row["low_at"],
            "high_at": row["high_at"], "flips": int(row["flips"]),
        }
        for row in _optional(folder, "sensitivity.csv")
    ]  # fmt: skip
