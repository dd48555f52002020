"""Adversarial robustness of several rules on one network: each is trained, then attacked in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fahw.chip.cost import get_rule
from fahw.datasets.dataset import Dataset, load_dataset
from fahw.errors import ConfigError, Problem, check_integer
from fahw.hardware.chip import Chip
from fahw.learn.kernels.device import device_of, torch_settings
from fahw.learn.model import Model
from fahw.learn.samples.batches import Probe
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.training.train import train_model
from fahw.learn.watch.attack import RobustnessRow, robustness
from fahw.network.graph import Network
from fahw.prng import derive
from fahw.rules.catalogue import BACKPROPAGATION
from fahw.study.storage.result_files import make_folder
from fahw.study.training import Job, make_job
from fahw.tables import write_csv

EPSILONS = (0.0, 0.02, 0.05, 0.1, 0.2)
ROBUSTNESS_COLUMNS = ("rule", "seed", "attack", "epsilon", "images", "accuracy_pct")


@dataclass(frozen=True)
class Robustness:
    """One rule's accuracies over epsilon, on `images` test images, with the weights of the last epoch."""

    rule: str
    seed: int
    images: int
    rows: tuple[RobustnessRow, ...]

    @property
    def masked(self) -> list[float]:
        """Epsilons at which the images of another network did more harm than the attacks on this one's own gradient,
        by more than two standard deviations of the counts: there, the gradient hides what it should show."""
        accuracies = {(row.attack, row.epsilon): row.accuracy_pct for row in self.rows}
        noise = 100 / self.images**0.5  # two deviations of a share near one half
        epsilons = dict.fromkeys(row.epsilon for row in self.rows)
        return [
            epsilon
            for epsilon in epsilons
            if accuracies["transfer", epsilon] + noise < min(accuracies["fgsm", epsilon], accuracies["pgd", epsilon])
        ]


def attack(
    network: Network | str | Path,
    rules: Sequence[str] = (BACKPROPAGATION.name,),
    chip: Chip | str | Path | None = None,
    *,
    data: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    epsilons: Sequence[float] = EPSILONS,
    images: int = 1000,
    data_dir: Path | None = None,
    device: str = "cpu",
    out: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[Robustness, ...]:
    """Train `network` under each rule, and once more in float under backpropagation from another seed; then attack.

    `images` of the test set are used, the same ones for every rule and seed. `out`: folder for `robustness.csv`.
    `device`: cpu, cuda or cuda:N, of the trainings and the attacks.
    Raises ConfigError for wrong input, before anything trains.
    """
    _check_arguments(rules, epsilons, images)
    jobs = [
        make_job(network, rule, chip, data=data, epochs=epochs, seed=seed, data_dir=data_dir, device=device)
        for rule in dict.fromkeys(rules)
    ]
    if out is not None:
        make_folder(out)
    dataset = load_dataset(jobs[0].data, data_dir, jobs[0].setup.recipe.image_size)
    with torch_settings(device_of(device)):
        results = _attack_all(jobs, dataset, sorted(set(epsilons)), images, on_progress)
    if out is not None:
        write_csv(out / "robustness.csv", ROBUSTNESS_COLUMNS, _robustness_rows(results))
    return results


def _check_arguments(rules: Sequence[str], epsilons: Sequence[float], images: int) -> None:
    """Raise ConfigError with every unknown rule and every epsilon that is not 0 to 1, or where a count is wrong."""
    problems = [
        Problem("epsilons", f"must be 0 to 1 (got {epsilon:g})") for epsilon in epsilons if not 0 <= epsilon <= 1
    ]
    for rule in rules:
        try:
            get_rule(rule)
        except ConfigError as error:
            problems += error.problems
    if problems or not epsilons or not rules:
        raise ConfigError(problems or Problem("attack", "name at least one rule and one epsilon"))
    check_integer("images", images, 1, 10_000_000)


def _attack_all(
    jobs: Sequence[Job], dataset: Dataset, epsilons: Sequence[float], images: int, on_progress: Callable[[str], None]
) -> tuple[Robustness, ...]:
    """The robustness of every job's network, against its own gradient and against images made with another network."""
    first = jobs[0]
    seed = derive(first.setup.seed, "surrogate")
    surrogate_setup = TrainingSetup(first.setup.network, first.setup.recipe, BACKPROPAGATION, seed=seed)
    on_progress("training the network that the black-box images are made with")
    surrogate = _trained_model(replace(first, setup=surrogate_setup), dataset)
    attacked = _attacked_images(first, dataset, images)
    results = []
    for job in jobs:
        on_progress(f"training {job.setup.rule.name}")
        model = _trained_model(job, dataset)
        on_progress(f"attacking {job.setup.rule.name}")
        evaluation_seed = derive(job.setup.seed, "evaluation", job.setup.recipe.epochs)
        rows = robustness(model, surrogate, attacked, epsilons, job.setup.seed, evaluation_seed)
        results.append(Robustness(job.setup.rule.name, job.setup.seed, len(attacked.labels), rows))
    return tuple(results)


def _trained_model(job: Job, dataset: Dataset) -> Model:
    """The network of a job with the weights of its last epoch."""
    return train_model(job.setup.on(device_of(job.device)), dataset)[0]


def _attacked_images(job: Job, dataset: Dataset, images: int) -> Probe:
    """The test images that are attacked, in their own order: a random choice where there are more than are wanted."""
    rows = np.arange(len(dataset.test_labels))
    if images < len(rows):
        generator = np.random.Generator(np.random.PCG64(derive(0, "attacked images")))
        rows = np.sort(generator.permutation(len(rows))[:images])
    pixels = dataset.test_images[rows].reshape(-1, *job.setup.network.input_shape)
    labels = torch.from_numpy(dataset.test_labels[rows]).to(device_of(job.device))
    return Probe(pixels, labels, dataset.maximum)


def _robustness_rows(results: Sequence[Robustness]) -> list[dict[str, object]]:
    """The rows of robustness.csv."""
    return [
        {
            "rule": result.rule,
            "seed": result.seed,
            "attack": row.attack,
            "epsilon": row.epsilon,
            "images": result.images,
        }
        | {"accuracy_pct": row.accuracy_pct}
        for result in results
        for row in result.rows
    ]
