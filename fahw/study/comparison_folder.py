"""The run folder of a comparison: summary, ledger, epochs, manifest and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fahw.activity import NAMES
from fahw.chip.ledger import LEDGER_COLUMNS
from fahw.chip.roofline import ROOFLINE_COLUMNS
from fahw.datasets.dataset import Dataset
from fahw.hardware.chip import Chip
from fahw.learn.training.result import EpochRow, TrainResult
from fahw.learn.watch.findings import findings
from fahw.network.graph import Network
from fahw.report.changes import with_checksums
from fahw.report.cost_files import details_of, roofline_rows
from fahw.report.page import write_report
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.comparison import Comparison, Line, summary_row
from fahw.study.costs import verdict
from fahw.study.splits import has_norms
from fahw.study.storage.result_files import SUMMARY_COLUMNS, content_key, versions, write_json
from fahw.study.training import Job
from fahw.tables import write_csv
from fahw.version import __version__

_LAYER_COLUMNS = ("angle_deg", "norm_ratio", "gradient_angle_deg", *NAMES)
"""Kinds of columns of epochs.csv that a layer may have, in their order."""
_ROUNDING_COLUMNS = ("rule", "seed", "epoch", "layer", "tensor", "saturated", "underflowed", "stagnated")


def write_comparison(
    comparison: Comparison, chip: Chip, network: Network, jobs: Sequence[tuple[Job, ...]], dataset: Dataset
) -> None:
    """Write summary.csv, ledger.csv, epochs.csv and their like, manifest.json, and the report on them."""
    folder, lines = comparison.folder, comparison.lines
    write_csv(folder / "summary.csv", SUMMARY_COLUMNS, (summary_row(line, comparison.target_pct) for line in lines))
    ledger = (
        {"rule": line.name, "transport": line.transport} | {name: getattr(row, name) for name in LEDGER_COLUMNS}
        for line in lines
        if line.cost
        for row in line.cost.ledger
    )
    write_csv(folder / "ledger.csv", ("rule", "transport", *LEDGER_COLUMNS), ledger)
    roofline = (
        {"rule": line.name, "transport": line.transport} | row
        for line in lines
        if line.cost
        for row in roofline_rows(line.cost)
    )
    write_csv(folder / "roofline.csv", ("rule", "transport", *ROOFLINE_COLUMNS), roofline)
    _write_epochs(folder, lines)
    write_csv(folder / "rounding.csv", _ROUNDING_COLUMNS, _rounding_rows(lines))
    write_json(folder / "details.json", _details(comparison, chip, network, jobs[0][0].setup.recipe.batch_size))
    write_json(folder / "manifest.json", with_checksums(folder, _manifest(comparison, chip, network, jobs, dataset)))
    write_report(folder)


def _write_epochs(folder: Path, lines: Sequence[Line]) -> None:
    """Write epochs.csv: loss, accuracies and what was measured of each layer, by rule, seed and epoch."""
    results = _results_by_name(lines)
    layer_values = {
        id(row): _by_layer(row) for trainings in results.values() for result in trainings for row in result.epochs
    }
    layer_columns = dict.fromkeys(name for columns in layer_values.values() for name in columns)
    rows = (
        {"rule": rule, "seed": result.seed, "epoch": row.epoch, "train_loss": row.train_loss}
        | {"validation_accuracy_pct": row.validation_accuracy_pct, "test_accuracy_pct": row.test_accuracy_pct}
        | layer_values[id(row)]
        for rule, trainings in results.items()
        for result in trainings
        for row in result.epochs
    )
    columns = ["rule", "seed", "epoch", "train_loss", "validation_accuracy_pct", "test_accuracy_pct"]
    columns += sorted(layer_columns, key=lambda name: (_LAYER_COLUMNS.index(name.partition(".")[0]), name))
    write_csv(folder / "epochs.csv", columns, rows)


def _results_by_name(lines: Sequence[Line]) -> dict[str, tuple[TrainResult, ...]]:
    """The trainings of each rule, those of its first line; and those of other lines that trained at other splits of the
    batch, by the line's label."""
    found: dict[str, tuple[TrainResult, ...]] = {}
    splits: dict[str, int] = {}
    for line in lines:
        size = line.cost.micro_batch if line.cost else 0
        if line.name not in found:
            found[line.name], splits[line.name] = line.results, size
        elif size and size != splits[line.name] and line.results != found[line.name]:
            found[f"{line.name} {line.transport}"] = line.results
    return found


def _rounding_rows(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """The rows of rounding.csv: what rounding lost in the last step of every epoch."""
    for rule, results in reversed(_results_by_name(lines).items()):
        for result in results:
            for row in result.epochs:
                for layer, tensors in row.lost.items():
                    for tensor, lost in tensors.items():
                        address = {
                            "rule": rule,
                            "seed": result.seed,
                            "epoch": row.epoch,
                            "layer": layer,
                            "tensor": tensor,
                        }
                        yield address | asdict(lost)


def _rounding_findings(lines: Sequence[Line], chip: Chip) -> list[dict[str, str]]:
    """Rule and sentence of each loss by rounding that exceeds the limits in `fahw.learn.watch.findings`."""
    epochs_by_rule = {
        rule: [result.epochs for result in results] for rule, results in _results_by_name(lines).items() if results
    }
    return [
        {"rule": rule, "text": text}
        for rule, epochs in epochs_by_rule.items()
        for text in findings(epochs, chip.precision, chip.rounding)
    ]


def _by_layer(row: EpochRow) -> dict[str, float]:
    """The measured values of an epoch, keyed by column `kind.layer`."""
    values_by_kind = {"angle_deg": row.angles, "norm_ratio": row.norm_ratios, "gradient_angle_deg": row.gradient_angles}
    for name in NAMES:
        values_by_kind[name] = {layer: getattr(activity, name) for layer, activity in row.activity.layers.items()}
    return {f"{kind}.{layer}": value for kind, values in values_by_kind.items() for layer, value in values.items()}


def _manifest(
    comparison: Comparison, chip: Chip, network: Network, jobs: Sequence[tuple[Job, ...]], dataset: Dataset
) -> dict[str, Any]:
    """The content of manifest.json: all inputs with their hash, versions and the target."""
    inputs = {
        "chip": chip.model_dump(mode="json", by_alias=True),
        "model": {
            "name": network.name,
            "input": network.input_shape,
            "layers": [layer.description() for layer in network.layers],
        },
        "recipe": jobs[0][0].setup.recipe.model_dump(mode="json"),
        "data": {"name": dataset.name, "sha256": dataset.content_hash},
        "rules": list(dict.fromkeys(line.rule for line in comparison.lines)),
        "seeds": sorted({job.setup.seed for job in jobs[0]}),
        "trainings": _trainings(comparison, jobs),
        "activity": "measured" if chip.uses_activity else "not used",
    }
    return {
        "kind": "compare",
        "fahw": __version__,
        "versions": versions(),
        "target_accuracy_pct": comparison.target_pct,
        "inputs": inputs,
        "content_hash": content_key(inputs),
    }


def _trainings(comparison: Comparison, jobs: Sequence[tuple[Job, ...]]) -> dict[str, str]:
    """The key of every training by rule and seed; under the label of its line where the rule's first has another."""
    keys: dict[str, str] = {}
    for line, line_jobs in zip(comparison.lines, jobs, strict=True):
        for job in line_jobs:
            seed = job.setup.seed
            if keys.setdefault(f"{line.name}/{seed}", job.key) != job.key and comparison.baseline_split is not None:
                keys[f"{line.name} {line.transport}/{seed}"] = job.key
    return keys


def _details(comparison: Comparison, chip: Chip, network: Network, batch_size: int) -> dict[str, Any]:
    """The content of details.json, which the report shows beyond the tables: figures of merit, placements, timelines,
    verdicts, sources."""
    lines, losses = comparison.lines, _rounding_findings(comparison.lines, chip)
    baselines = [line for line in lines if line.rule == BACKPROPAGATION.name and line.cost]
    if not baselines:
        return {"lines": [_line_details(line) for line in lines], "verdicts": [], "baseline": None, "losses": losses}
    best = min(baselines, key=lambda line: line.cost.energy_pj if line.cost else 0.0)
    rivals = [line for line in lines if line.rule != BACKPROPAGATION.name and line.cost]
    overhead = verdict.transposed_overhead(chip, network, batch_size)
    verdicts = [_verdict(line, best, comparison.target_pct, overhead) for line in rivals]
    return {
        "baseline": {"rule": best.rule, "transport": best.transport, "form": best.cost.form if best.cost else ""},
        "lines": [_line_details(line) for line in lines],
        "verdicts": verdicts,
        "losses": losses,
        "read_overhead": _read_overhead(chip),
        "split": {"baseline": comparison.baseline_split, "is_learned": has_norms(network)},
    }


def _read_overhead(chip: Chip) -> float | None:
    """What a transposed read of the weights takes more, as a share."""
    memory = chip.home("weight")
    return None if memory is None else chip.transposed_access.of(memory, chip.technology).read


def _line_details(line: Line) -> dict[str, Any]:
    """The details of a line: why it has no cost, or all that the report shows of it."""
    cost = line.cost
    base: dict[str, Any] = {"rule": line.name, "transport": line.transport, "reason": line.reason}
    base |= {"reached": None, "warnings": sorted({text for result in line.results for text in result.warnings})}
    if cost is None:
        return base
    return base | details_of(cost)


def _verdict(line: Line, best: Line, target_pct: float, overhead: verdict.Overhead) -> dict[str, Any]:
    """The verdict on a line of another rule against `best`, the best line of backpropagation."""
    assert line.cost is not None
    assert best.cost is not None
    assert line.accuracy is not None
    assert best.accuracy is not None
    per_step = verdict.saving(line.cost.ledger, best.cost.ledger)
    rule_steps, baseline_steps = (verdict.spread(item.steps_to(target_pct)) for item in (line, best))
    to_target = None
    if rule_steps and baseline_steps:
        to_target = verdict.saving(line.cost.ledger, best.cost.ledger, rule_steps.mean, baseline_steps.mean)
    return {
        "rule": line.name, "transport": line.transport,
        "saving_per_step": asdict(per_step) | {"winner": per_step.winner},
        "saving_to_target": asdict(to_target) | {"winner": to_target.winner} if to_target else None,
        "seeds_reached": rule_steps.count if rule_steps else 0, "seeds": len(line.results),
        "accuracy_difference_pct": line.accuracy.mean - best.accuracy.mean,
        "beyond_noise": verdict.beyond_noise(line.accuracy, best.accuracy),
        "break_even_overhead_scale": overhead.break_even(line.cost.energy_pj),
    }  # fmt: skip
