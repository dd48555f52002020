"""The main job: train every rule with every seed, price it on the chip, and write a run folder with a report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fahw
from fahw.activity import NAMES, Activity, LayerActivity, mean_activity
from fahw.chip.cost import SHARED, Cost, get_rule, simulate
from fahw.chip.forms import forms_of
from fahw.chip.ledger import COLUMNS
from fahw.chip.roofline import COLUMNS as ROOFLINE_COLUMNS
from fahw.config.chip import Chip
from fahw.config.load import load_chip
from fahw.config.recipe import Recipe
from fahw.errors import ConfigError, Problem, a_kind, real, whole
from fahw.learn.data import Dataset, load
from fahw.learn.device import device_of
from fahw.learn.findings import findings
from fahw.learn.train import EpochRow, TrainResult, check_fit
from fahw.network import Network, load_model
from fahw.report.page import write_report
from fahw.report.priced import details_of, roofline_rows
from fahw.rules import BACKPROPAGATION, COMPARED, RULES
from fahw.study import verdict
from fahw.study.overrides import check_folder, trainers, with_overrides
from fahw.study.results import SUMMARY_COLUMNS, content_key, make_folder, versions, write_csv, write_json
from fahw.study.training import Job, OnProgress, load_result, make_jobs, run_jobs
from fahw.work.step import NONE

_LAYER_COLUMNS = ("angle_deg", "norm_ratio", "gradient_angle_deg", *NAMES)
"""Kinds of columns of epochs.csv that every layer may have."""
_ROUNDING_COLUMNS = ("rule", "seed", "epoch", "layer", "tensor", "saturated", "underflowed", "stagnated")


@dataclass(frozen=True)
class Line:
    """One row of the comparison: a rule under one form of transport. `cost` is None where the chip cannot host it."""

    rule: str
    transport: str
    cost: Cost | None
    reason: str
    results: tuple[TrainResult, ...]

    @property
    def accuracy(self) -> verdict.Spread | None:
        """Test accuracy over the seeds, percent."""
        return verdict.spread([result.test_accuracy_pct for result in self.results])

    def steps_to(self, target_pct: float) -> list[int]:
        """Steps to the first epoch whose validation accuracy reaches the target, for the seeds that reach it."""
        return [steps for result in self.results if (steps := _steps_to(result, target_pct)) is not None]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `folder` holds the same as files."""

    folder: Path
    target_pct: float
    lines: tuple[Line, ...]


def _steps_to(result: TrainResult, target_pct: float) -> int | None:
    reached = (row.epoch for row in result.epochs if row.validation_accuracy_pct >= target_pct)
    epoch = next(reached, None)
    return None if epoch is None else epoch * result.steps_per_epoch


def compare(
    chip: Chip | str | Path = "edge_dual",
    model: Network | str | Path = "mlp_digits",
    *,
    out: Path | str,
    rules: Sequence[str] = COMPARED,
    data: str | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    batch_size: int | None = None,
    target_points: float = 1.0,
    data_dir: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    on_progress: OnProgress = lambda done, total, what: None,
) -> Comparison:
    """Compare rules on a chip: accuracy in its arithmetic, energy, time, area. Backpropagation is always among them.

    Finished (rule, seed) results found in `out` are used as they are. `device`: cpu, cuda or cuda:N, of the trainings;
    `workers`: processes, one per core where None, and one alone on CUDA. Raises ConfigError for wrong input.
    """
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    network = model if isinstance(model, Network) else load_model(model)
    names = list(dict.fromkeys([BACKPROPAGATION.name, *_rule_names(rules)]))
    processes = trainers(device, workers)
    _check(out, data_dir, processes, device, seeds, target_points)
    recipe = with_overrides(network.recipe, data=data, epochs=epochs, batch_size=batch_size)
    dataset = load(recipe.data, data_dir, recipe.image_size)
    check_fit(network, recipe, dataset)
    made = partial(make_jobs, network, recipe, seeds=range(seeds), data=dataset, data_dir=data_dir, device=device)
    jobs, fresh = made(names, chip), made([BACKPROPAGATION.name], chip.without_feedback_memory())
    _check_hosted(chip, network, names, recipe.batch_size)
    folder = make_folder(Path(out))
    run_jobs([*jobs, *fresh], folder, processes, on_progress)
    baseline = tuple(load_result(folder, job) for job in fresh)
    results = {name: tuple(load_result(folder, job) for job in jobs if job.rule == name) for name in names}
    lines = tuple(line for name in names for line in _lines(chip, network, jobs[0].recipe, name, results, baseline))
    comparison = Comparison(folder, _target(baseline, target_points), lines)
    _write(comparison, chip, network, jobs, dataset)
    return comparison


def _check(out: Path | str, data_dir: Path | None, workers: int, device: str, seeds: int, target_points: float) -> None:
    a_kind("out", out, (str, Path), "the path of a folder")
    check_folder("data_dir", data_dir)
    whole("workers", workers, 1, 10_000)
    device_of(device)
    whole("seeds", seeds, 1, 1000)
    real("target", target_points, 0, 100)


def _rule_names(rules: Sequence[str]) -> list[str]:
    """Names of known rules, at least one. Raises ConfigError with every unknown one."""
    if isinstance(rules, str) or not isinstance(rules, Collection) or not rules:
        raise ConfigError(Problem("rules", f"name at least one rule of {', '.join(RULES)} (got {rules!r})"))
    names: list[str] = []
    problems: list[Problem] = []
    for rule in rules:
        try:
            names.append(get_rule(rule).name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return names


def _lines(
    chip: Chip, network: Network, recipe: Recipe, rule: str, results: Mapping[str, tuple[TrainResult, ...]],
    baseline: tuple[TrainResult, ...],
) -> Iterator[Line]:  # fmt: skip
    """A rule under each form of transport, priced with what its own trainings showed where the chip uses that; bp also
    on the chip with one weight memory, whose trainings are `baseline`."""
    for form in forms_of(chip, rule):
        found = baseline if form == SHARED else results[rule]
        measured = mean_activity([row.activity for result in found for row in result.epochs])
        activity = measured if chip.uses_activity else None
        try:
            cost = simulate(chip, network, rule, recipe.batch_size, None if form == NONE else form, activity)
            yield Line(rule, form, cost, "", found)
        except ConfigError as error:
            yield Line(rule, form, None, error.problems[0].message, found)


def _check_hosted(chip: Chip, network: Network, rules: Sequence[str], batch_size: int) -> None:
    """Raise ConfigError where the chip can host none of the rules, before anything is trained."""
    activity = Activity({layer.name: LayerActivity(0.0, 0.0, 1.0, 1.0) for layer in network.weighted}, 1)
    forms: list[str | None] = [None, SHARED]
    problems: list[Problem] = []
    for rule in rules:
        for form in forms if get_rule(rule) == BACKPROPAGATION else forms[:1]:
            try:
                simulate(chip, network, rule, batch_size, form, activity)
                return
            except ConfigError as error:
                problems += error.problems
    raise ConfigError(list(dict.fromkeys(problems)))


def _target(results: Sequence[TrainResult], points: float) -> float:
    """Mean of BP's best validation accuracies, minus `points`, percent."""
    best = [result.epochs[result.best_epoch - 1].validation_accuracy_pct for result in results]
    mean = verdict.spread(best)
    assert mean is not None
    return mean.mean - points


def summary_row(line: Line, target_pct: float) -> dict[str, Any]:
    """The row of summary.csv; what was not reached or cannot be hosted is empty."""
    cost, accuracy, steps = line.cost, line.accuracy, verdict.spread(line.steps_to(target_pct))
    row: dict[str, Any] = {"rule": line.rule, "transport": line.transport, "seeds": len(line.results)}
    if accuracy:
        row |= {"accuracy_pct_mean": accuracy.mean, "accuracy_pct_std": accuracy.std}
    if steps:
        row["steps_to_target"] = steps.mean
    if cost is None:
        return row
    return row | {
        "cycles_per_step": cost.cycles, "interval_cycles": cost.interval_cycles, "energy_pj_per_step": cost.energy_pj,
        "energy_pj_per_sample": cost.energy_pj_per_sample,
        "energy_to_target_j": steps.mean * cost.energy_pj * 1e-12 if steps else None,
        "area_mm2": cost.area_mm2, "area_used_mm2": cost.area_used_mm2, "feedback_bits": cost.feedback_bits,
        "transported_bits_per_step": cost.transported_bits,
    }  # fmt: skip


def _write(comparison: Comparison, chip: Chip, network: Network, jobs: Sequence[Job], dataset: Dataset) -> None:
    folder, lines = comparison.folder, comparison.lines
    write_csv(folder / "summary.csv", SUMMARY_COLUMNS, (summary_row(line, comparison.target_pct) for line in lines))
    ledger = (
        {"rule": line.rule, "transport": line.transport} | {name: getattr(row, name) for name in COLUMNS}
        for line in lines
        if line.cost
        for row in line.cost.ledger
    )
    write_csv(folder / "ledger.csv", ("rule", "transport", *COLUMNS), ledger)
    roofline = (
        {"rule": line.rule, "transport": line.transport} | row
        for line in lines
        if line.cost
        for row in roofline_rows(line.cost)
    )
    write_csv(folder / "roofline.csv", ("rule", "transport", *ROOFLINE_COLUMNS), roofline)
    _write_epochs(folder, lines)
    write_csv(folder / "rounding.csv", _ROUNDING_COLUMNS, _rounding_rows(lines))
    write_json(folder / "manifest.json", _manifest(comparison, chip, network, jobs, dataset))
    write_json(folder / "details.json", _details(comparison, chip, network, jobs[0].recipe.batch_size))
    write_report(folder)


def _write_epochs(folder: Path, lines: Sequence[Line]) -> None:
    results = {line.rule: line.results for line in reversed(lines)}
    results = {line.rule: results[line.rule] for line in lines}
    measured = {id(row): _by_layer(row) for group in results.values() for r in group for row in r.epochs}
    found = dict.fromkeys(name for columns in measured.values() for name in columns)
    rows = (
        {"rule": rule, "seed": result.seed, "epoch": row.epoch, "train_loss": row.train_loss}
        | {"validation_accuracy_pct": row.validation_accuracy_pct, "test_accuracy_pct": row.test_accuracy_pct}
        | measured[id(row)]
        for rule, group in results.items()
        for result in group
        for row in result.epochs
    )
    columns = ["rule", "seed", "epoch", "train_loss", "validation_accuracy_pct", "test_accuracy_pct"]
    columns += sorted(found, key=lambda name: (_LAYER_COLUMNS.index(name.partition(".")[0]), name))
    write_csv(folder / "epochs.csv", columns, rows)


def _rounding_rows(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """What rounding lost in the last step of every epoch, by rule, seed, epoch, layer and tensor."""
    for rule, results in {line.rule: line.results for line in reversed(lines)}.items():
        for result in results:
            for row in result.epochs:
                for layer, tensors in row.lost.items():
                    for tensor, lost in tensors.items():
                        where = {
                            "rule": rule,
                            "seed": result.seed,
                            "epoch": row.epoch,
                            "layer": layer,
                            "tensor": tensor,
                        }
                        yield where | asdict(lost)


def _losses(lines: Sequence[Line], chip: Chip) -> list[dict[str, str]]:
    """The same in sentences, where a threshold is passed."""
    trained = {line.rule: [result.epochs for result in line.results] for line in lines if line.results}
    return [
        {"rule": rule, "text": text}
        for rule, epochs in trained.items()
        for text in findings(epochs, chip.precision, chip.rounding)
    ]


def _by_layer(row: EpochRow) -> dict[str, float]:
    """What an epoch says of each layer, as `kind.layer`."""
    kinds = {"angle_deg": row.angles, "norm_ratio": row.norm_ratios, "gradient_angle_deg": row.gradient_angles}
    for name in NAMES:
        kinds[name] = {layer: getattr(seen, name) for layer, seen in row.activity.layers.items()}
    return {f"{kind}.{layer}": value for kind, values in kinds.items() for layer, value in values.items()}


def _manifest(
    comparison: Comparison, chip: Chip, network: Network, jobs: Sequence[Job], dataset: Dataset
) -> dict[str, Any]:
    inputs = {
        "chip": chip.model_dump(mode="json", by_alias=True),
        "model": {
            "name": network.name,
            "input": network.input_shape,
            "layers": [asdict(layer) for layer in network.layers],
        },
        "recipe": jobs[0].recipe.model_dump(mode="json"),
        "data": {"name": dataset.name, "sha256": dataset.content_hash},
        "rules": list(dict.fromkeys(job.rule for job in jobs)),
        "seeds": sorted({job.seed for job in jobs}),
        "trainings": {f"{job.rule}/{job.seed}": job.key for job in jobs},
        "activity": "measured" if chip.uses_activity else "not used",
    }
    return {
        "kind": "compare",
        "fahw": fahw.__version__,
        "versions": versions(),
        "target_accuracy_pct": comparison.target_pct,
        "inputs": inputs,
        "content_hash": content_key(inputs),
    }


def _details(comparison: Comparison, chip: Chip, network: Network, batch_size: int) -> dict[str, Any]:
    """What the report shows beyond the tables: figures of merit, placements, timelines, verdicts, sources."""
    lines, losses = comparison.lines, _losses(comparison.lines, chip)
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
        "read_overhead": chip.transposed_access.read_overhead,
    }


def _line_details(line: Line) -> dict[str, Any]:
    cost = line.cost
    base: dict[str, Any] = {"rule": line.rule, "transport": line.transport, "reason": line.reason}
    base |= {"reached": None, "warnings": sorted({text for result in line.results for text in result.warnings})}
    if cost is None:
        return base
    return base | details_of(cost)


def _verdict(line: Line, best: Line, target_pct: float, overhead: verdict.Overhead) -> dict[str, Any]:
    assert line.cost is not None
    assert best.cost is not None
    assert line.accuracy is not None
    assert best.accuracy is not None
    step = verdict.saving(line.cost.ledger, best.cost.ledger)
    mine, theirs = (verdict.spread(item.steps_to(target_pct)) for item in (line, best))
    to_target = None
    if mine and theirs:
        to_target = verdict.saving(line.cost.ledger, best.cost.ledger, mine.mean, theirs.mean)
    return {
        "rule": line.rule, "transport": line.transport,
        "saving_per_step": asdict(step) | {"winner": step.winner},
        "saving_to_target": asdict(to_target) | {"winner": to_target.winner} if to_target else None,
        "seeds_reached": mine.count if mine else 0, "seeds": len(line.results),
        "accuracy_difference_pct": line.accuracy.mean - best.accuracy.mean,
        "beyond_noise": verdict.beyond_noise(line.accuracy, best.accuracy),
        "break_even_overhead_scale": overhead.break_even(line.cost.energy_pj),
    }  # fmt: skip
