"""Whether a training can start: data, network, recipe and formats fit each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fahw.datasets.dataset import Dataset
from fahw.datasets.suitability import size_mismatches
from fahw.errors import ConfigError, Problem
from fahw.learn.samples.batches import augment_problems, validation_size
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.update.optimizer import float_underflows, underflows
from fahw.network.error_path import check_trainable
from fahw.network.graph import Network
from fahw.network.recipe import Recipe

_MOST_PARAMETERS = 200_000_000
_MOST_VALUES = 1_000_000_000


def check_data(network: Network, recipe: Recipe, dataset: Dataset) -> None:
    """Raise ConfigError unless the images fit the input, the labels the output, and a batch the training set."""
    check_trainable(network)
    reasons = size_mismatches(network, dataset.name, dataset.shape, dataset.classes)
    problems = [Problem(network.name, text) for text in reasons]
    if network.parameters > _MOST_PARAMETERS:
        text = f"has {network.parameters:,} parameters; at most {_MOST_PARAMETERS:,} can be trained here"
        problems.append(Problem(network.name, text))
    values = recipe.batch_size * max(layer.outputs for layer in network.layers)
    if values > _MOST_VALUES:
        text = f"a batch needs {values:,} values at the output of one layer; at most {_MOST_VALUES:,} can be held here"
        problems.append(Problem(network.name, text))
    problems += augment_problems(recipe, dataset)
    images = len(dataset.train_labels) - validation_size(recipe, dataset)
    if images < recipe.batch_size:
        text = f"a batch of {recipe.batch_size} (recipe.batch_size) is larger than the {images} training images"
        text += f" that recipe.validation leaves of '{dataset.name}'"
        problems.append(Problem(network.name, text))
    if problems:
        raise ConfigError(problems)


def check_rates(setups: Iterable[TrainingSetup]) -> None:
    """Raise ConfigError where a learning rate, a weight decay or a clipping value is too small for the formats; a
    problem that several of the trainings have is said once."""
    problems: dict[str, Problem] = {}
    for setup in setups:
        if setup.precision.is_float:
            continue
        for problem in _underflows(setup):
            named = replace(problem, message=f"{setup.rule.name}: {problem.message}")
            problems.setdefault(f"{setup.rule.name} {problem.place}", named)
    if problems:
        raise ConfigError(problems.values())


def _underflows(setup: TrainingSetup) -> Iterable[Problem]:
    """The recipe's constants that are too small to move a weight of the formats, as problems."""
    recipe, tuning, rounding = setup.recipe, setup.tuning, setup.rounding
    master = setup.precision.number("master").float_form
    if master is not None:
        return float_underflows(recipe, tuning, master)
    dynamic = setup.precision.is_dynamic("master")
    return underflows(recipe, tuning, {} if dynamic else setup.scales, rounding.update, rounding.random_bits)
