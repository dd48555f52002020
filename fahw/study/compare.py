"""The main job: train every rule with every seed, price it on the chip, and write a run folder with a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fahw.activity import mean_activity
from fahw.chip.cost import SHARED, get_rule, rule_names, simulate
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError, Problem, check_integer, check_number, check_path
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.learn.kernels.device import device_of
from fahw.learn.training.checks import check_data
from fahw.learn.training.result import TrainResult
from fahw.network.graph import Network
from fahw.network.load import load_model
from fahw.rules.catalogue import BACKPROPAGATION, COMPARED
from fahw.study.comparison import Comparison, Line, target_accuracy_pct
from fahw.study.comparison_folder import write_comparison
from fahw.study.planned_lines import Plan, PlannedLine, planned
from fahw.study.settings import check_folder, training_processes, with_overrides
from fahw.study.splits import all_at_work
from fahw.study.storage.result_files import make_folder
from fahw.study.training import Job, OnProgress, load_result, make_jobs, run_jobs


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
    names = list(dict.fromkeys([BACKPROPAGATION.name, *rule_names(rules)]))
    processes = training_processes(device, workers)
    _check_arguments(out, data_dir, processes, device, seeds, target_points)
    recipe = with_overrides(network.recipe, data=data, epochs=epochs, batch_size=batch_size)
    dataset = load_dataset(recipe.data, data_dir, recipe.image_size)
    check_data(network, recipe, dataset)
    jobs_of = partial(make_jobs, network, recipe, seeds=range(seeds), data=dataset, data_dir=data_dir, device=device)
    jobs_of(names, chip.model_copy(update={"micro_batch": None}))  # says what is wrong with any of them
    plan = planned(chip, network, names, recipe.batch_size)
    if not plan.is_hosted:
        _check_hosted(chip, network, names, recipe.batch_size)
    jobs = [tuple(jobs_of([line.rule], line.trained_chip)) for line in plan.lines]
    folder = make_folder(Path(out))
    run_jobs([job for line_jobs in jobs for job in line_jobs], folder, processes, on_progress)
    comparison = _comparison(folder, network, plan, jobs, target_points)
    write_comparison(comparison, chip, network, jobs, dataset)
    return comparison


def _comparison(
    folder: Path, network: Network, plan: Plan, jobs: Sequence[tuple[Job, ...]], target_points: float
) -> Comparison:
    """The comparison of the planned lines, from the stored results of their `jobs`; the target is of backpropagation on
    one weight memory."""
    results = [tuple(load_result(folder, job) for job in line_jobs) for line_jobs in jobs]
    batch_size = jobs[0][0].setup.recipe.batch_size
    lines = tuple(
        _line(line, network, batch_size, trainings) for line, trainings in zip(plan.lines, results, strict=True)
    )
    baseline = next(line.results for line in lines if line.transport == SHARED)
    return Comparison(folder, target_accuracy_pct(baseline, target_points), lines, plan.baseline_split)


def _check_arguments(
    out: Path | str, data_dir: Path | None, workers: int, device: str, seeds: int, target_points: float
) -> None:
    """Raise ConfigError unless the arguments of `compare` are of their types and within their ranges."""
    check_path("out", out)
    check_folder("data_dir", data_dir)
    check_integer("workers", workers, 1, 10_000)
    device_of(device)
    check_integer("seeds", seeds, 1, 1000)
    check_number("target", target_points, 0, 100)


def _line(planned: PlannedLine, network: Network, batch_size: int, trainings: tuple[TrainResult, ...]) -> Line:
    """A line, priced with what its own trainings showed where the chip uses that."""
    measured = mean_activity([row.activity for result in trainings for row in result.epochs])
    activity = measured if planned.chip.uses_activity else None
    cost, reason = None, ""
    try:
        cost = simulate(planned.chip, network, planned.rule, batch_size, planned.form, activity)
    except ConfigError as error:
        reason = error.problems[0].message
    return Line(planned.rule, planned.transport, cost, reason, trainings, planned.at_baseline)


def _check_hosted(chip: Chip, network: Network, rules: Sequence[str], batch_size: int) -> None:
    """Raise ConfigError where the chip can host none of the rules, before anything is trained."""
    activity = all_at_work(network)
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
