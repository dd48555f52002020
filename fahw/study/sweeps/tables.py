"""The folder of a sweep: its points as tables, with what the report needs beside them. Loads no torch."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fahw.config.sweep import Sweep
from fahw.files import write_bytes
from fahw.report.changes import with_checksums
from fahw.report.page import write_report
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.costs import verdict
from fahw.study.costs.cost_record import is_record, ledger_entries
from fahw.study.storage.result_files import SUMMARY_COLUMNS, content_key, versions, write_json
from fahw.study.sweeps import baseline
from fahw.tables import csv_text, write_csv
from fahw.version import __version__
from fahw.work.training_step import NONE

if TYPE_CHECKING:
    from fahw.study.storage.store import Store
    from fahw.study.sweeps.point import Point

EXTRA_COLUMNS = (
    "steps_to_target_std", "seeds_reached", "seconds_per_step", "seconds_per_sample", "power_mw", "samples_per_second",
    "static_pj_per_step", "spilled_bits", "on_front", "on_front_time", "on_front_area", "status", "reason",
)  # fmt: skip
MOST_LEDGERS = 200
"""Most points whose ledger goes into ledger.csv, beside those of the fronts; the store has all."""
LEDGERS_PER_FILE = 1000
"""Points whose ledgers share a packed file."""
_LEDGER = ("point", "phase", "component", "kind", "factor", "energy_pj")
_FRONTS = {
    "on_front": "energy_pj_per_sample", "on_front_time": "seconds_per_sample", "on_front_area": "area_mm2",
}  # fmt: skip


def write_folder(
    folder: Path, spec: Sweep, points: Sequence[Point], baseline_costs: dict[int, list[dict[str, Any]]], store: Store
) -> None:
    """Write summary.csv, uncertainty.csv, ledger.csv, manifest.json and the report of a sweep, finished or not."""
    target = _target_accuracy_pct(spec, points)
    rows = [_summary_row(point, target) for point in points]
    pairs = baseline.pair_with_baselines(points, baseline_costs)
    for point, row in zip(points, rows, strict=True):
        point.mean_steps = row.get("steps_to_target")
    for row, saving_row in zip(rows, baseline.saving_columns(points, pairs), strict=True):
        row |= saving_row
    for name, expense in _FRONTS.items():
        front = pareto_front([(row.get(expense), row.get("accuracy_pct_mean")) for row in rows])
        for row, on_front in zip(rows, front, strict=True):
            row[name] = int(on_front)
    columns = ["point", *(f"axis.{name}" for name in spec.axes), *SUMMARY_COLUMNS, *EXTRA_COLUMNS]
    columns[-2:-2] = baseline.SAVING_COLUMNS
    for number, row in enumerate(rows, 1):
        row["point"] = number
    write_csv(folder / "summary.csv", columns, rows)
    best = sorted((row for row in rows if any(row[name] for name in _FRONTS)), key=itemgetter("energy_pj_per_sample"))
    write_csv(folder / "front.csv", columns, best)
    write_csv(folder / "equal_accuracy.csv", columns, _equal_accuracy(rows))
    columns = ["point", *(f"axis.{name}" for name in spec.axes), "rule", "transport", *baseline.EQUAL_AREA_COLUMNS]
    write_csv(folder / "equal_area.csv", columns, baseline.equal_area_rows(points, baseline_costs))
    write_csv(folder / "sensitivity.csv", baseline.SENSITIVITY_COLUMNS, baseline.sensitivity_rows(points, pairs))
    _write_uncertainty(folder, points)
    _write_ledger(folder, points, rows, store)
    _write_manifest(folder, spec, points, target)
    write_report(folder)


def _write_manifest(folder: Path, spec: Sweep, points: Sequence[Point], target: float | None) -> None:
    """Write manifest.json: the inputs with their content hash, versions, and how many points are done, failed or
    pending."""
    inputs = {
        "sweep": spec.model_dump(mode="json", by_alias=True),
        "costs": [point.cost_key for point in points],
        "trainings": [[job.key for job in point.jobs] for point in points],
    }
    named = {"kind": "sweep", "fahw": __version__, "versions": versions()}
    manifest = named | {"inputs": inputs, "content_hash": content_key(inputs), "target_accuracy_pct": target}
    counts = {word: sum(point.status == word for point in points) for word in ("done", "failed", "pending")}
    write_json(folder / "manifest.json", with_checksums(folder, manifest | {"points": counts}))


def _target_accuracy_pct(spec: Sweep, points: Iterable[Point]) -> float | None:
    """The sweep's own target, else one point below the best mean validation accuracy that backpropagation reaches; None
    where it was not trained."""
    if spec.target_accuracy_pct is not None:
        return spec.target_accuracy_pct
    baseline_runs = [point.runs for point in points if point.rule == BACKPROPAGATION.name and point.runs]
    means = [sum(run.best_validation_pct for run in runs) / len(runs) for runs in baseline_runs]
    return max(means) - 1.0 if means else None


def _equal_accuracy(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of equal_accuracy.csv: each rule's point of least energy per sample among those at most one point of
    test accuracy below the best backpropagation."""
    trained = [row for row in rows if row.get("accuracy_pct_mean") is not None and "energy_pj_per_sample" in row]
    limit = max((row["accuracy_pct_mean"] for row in trained if row["rule"] == BACKPROPAGATION.name), default=inf) - 1.0
    good = sorted((row for row in trained if row["accuracy_pct_mean"] >= limit), key=itemgetter("energy_pj_per_sample"))
    best: dict[str, dict[str, Any]] = {}
    for row in good:
        best.setdefault(row["rule"], row)
    return list(best.values())


def _summary_row(point: Point, target: float | None) -> dict[str, Any]:
    """The row of a point in summary.csv; what is not known, not reached or cannot be hosted is empty."""
    cost = point.cost
    row: dict[str, Any] = {f"axis.{key}": value for key, value in point.values.items()}
    row |= {"rule": point.rule, "transport": cost["transport"] if cost else point.transport or NONE}
    row |= {"seeds": len(point.runs), "status": point.status, "reason": point.reason}
    accuracy = verdict.spread([run.test_pct for run in point.runs])
    reached = [steps_to for run in point.runs if target is not None and (steps_to := run.steps_to(target)) is not None]
    steps = verdict.spread(reached)
    if accuracy:
        row |= {"accuracy_pct_mean": accuracy.mean, "accuracy_pct_std": accuracy.std, "seeds_reached": len(reached)}
    if steps:
        row |= {"steps_to_target": steps.mean, "steps_to_target_std": steps.std}
    if cost is None:
        return row
    samples = round(cost["energy_pj"] / cost["energy_pj_per_sample"])
    return row | {
        "cycles_per_step": cost["cycles"], "interval_cycles": cost["interval_cycles"],
        "energy_pj_per_step": cost["energy_pj"], "energy_pj_per_sample": cost["energy_pj_per_sample"],
        "energy_to_target_j": steps.mean * cost["energy_pj"] * 1e-12 if steps else None,
        "area_mm2": cost["area_mm2"], "area_used_mm2": cost["area_used_mm2"], "feedback_bits": cost["feedback_bits"],
        "transported_bits_per_step": cost["transported_bits"], "seconds_per_step": cost["seconds"],
        "seconds_per_sample": cost["seconds"] / samples, "power_mw": cost["power_mw"],
        "samples_per_second": cost["samples_per_second"], "static_pj_per_step": cost["static_pj"],
        "spilled_bits": cost["spilled_bits"], "micro_batch": cost["micro_batch"],
    }  # fmt: skip


def _write_uncertainty(folder: Path, points: Sequence[Point]) -> None:
    """Write uncertainty.csv: energy of every point by kind of constant and its uncertainty, from which ranges and
    sensitivities follow."""
    every = sorted({key for point in points if point.cost for key in point.cost["kinds"]})
    columns = ["point", *(f"{kind} {factor:g}" for kind, factor in every)]
    rows = (
        {"point": number} | {f"{kind} {factor:g}": pj for (kind, factor), pj in point.cost["kinds"].items()}
        for number, point in enumerate(points, 1)
        if point.cost
    )
    write_csv(folder / "uncertainty.csv", columns, rows)


def _write_ledger(folder: Path, points: Sequence[Point], rows: Sequence[dict[str, Any]], store: Store) -> None:
    """Write the ledgers, by phase and component: in ledger.csv those of the points on a front and of others spread over
    the sweep; in ledgers/, packed, those of all points where ledger.csv does not have them all."""
    fronts = [number for number, row in enumerate(rows) if any(row[name] for name in _FRONTS)]
    spread = range(0, len(points), max(1, -(-len(points) // MOST_LEDGERS)))
    chosen = sorted({*fronts[:MOST_LEDGERS], *spread})
    wanted = {points[number].cost_key for number in (chosen if len(chosen) == len(points) else range(len(points)))}
    stored = ((key, value) for key, value in store.costs(wanted) if is_record(value) and "ledger" in value)
    ledgers = {key: ledger_entries(value["ledger"]) for key, value in stored}
    write_csv(folder / "ledger.csv", _LEDGER, _ledger_rows(points, chosen, ledgers))
    packed: dict[str, bytes] = {}
    if len(chosen) < len(points):
        for first in range(0, len(points), LEDGERS_PER_FILE):
            numbers = range(first, min(first + LEDGERS_PER_FILE, len(points)))
            text = csv_text(_LEDGER, _ledger_rows(points, numbers, ledgers))
            name = f"{numbers[0] + 1:06d}-{numbers[-1] + 1:06d}.csv.gz"
            packed[name] = gzip.compress(text.encode(), 1, mtime=0)
    for name, content in packed.items():
        write_bytes(folder / "ledgers" / name, content)
    for old in (folder / "ledgers").glob("*.csv.gz"):  # of a sweep that had other points
        if old.name not in packed:
            old.unlink(missing_ok=True)


def _ledger_rows(
    points: Sequence[Point], chosen: Sequence[int], ledgers: dict[str, list[list[Any]]]
) -> Iterator[dict[str, Any]]:
    """The ledger rows of the points with these indices; `ledgers` has them by the key of their cost."""
    for number in chosen:
        for entry in ledgers.get(points[number].cost_key, ()):
            yield dict(zip(_LEDGER, (number + 1, *entry), strict=True))


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Whether each point (expense, accuracy) is one that no other beats: less expense and at least the accuracy, or the
    reverse."""
    front = [False] * len(points)
    complete = [
        (expense, -accuracy, index)
        for index, (expense, accuracy) in enumerate(points)
        if expense is not None and accuracy is not None
    ]
    best = inf  # minus the best accuracy of all points with less expense
    for _, group in groupby(sorted(complete), key=itemgetter(0)):
        tied = list(group)
        if tied[0][1] < best:
            best = tied[0][1]
            for _, accuracy, index in tied:
                front[index] = accuracy == best
    return front
