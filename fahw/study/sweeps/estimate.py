"""How long a sweep will take: a few of its points are priced and a few training steps run, and their times scaled."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fahw.errors import ConfigError
from fahw.study.costs.cost_record import Request, price_records
from fahw.study.sweeps.setups import Setup

_TIMED_PLACES, _NEIGHBOURS = 4, 2
"""Places of the sweep where costs are timed, and points priced at each: neighbours share work, as in the sweep."""
_TIMED_KINDS = 4
"""Kinds of trainings that are timed; the others are taken to last as long as these on average."""
_TIMED_BATCHES = 3
"""Batches of a training that are timed."""


def time_estimate(costs: Sequence[Request], trainings: Mapping[Any, Sequence[Setup]]) -> str:
    """The estimate in a sentence. `costs`: all that is to be priced; `trainings`: the trainings by kind."""
    cores = os.cpu_count() or 1
    step = max(_NEIGHBOURS, -(-len(costs) // _TIMED_PLACES))
    chosen = [request for at in range(0, len(costs), step) for request in costs[at : at + _NEIGHBOURS]]
    price_records([chosen[0]])  # what is made once is made here
    start = time.process_time()
    price_records(chosen)
    seconds = (time.process_time() - start) / len(chosen) * len(costs)
    words = [f"costs about {_duration(seconds)}"]
    if trainings:
        learned = _training_seconds(trainings)
        words.append(f"trainings {'of unknown length' if learned is None else f'about {_duration(learned)}'}")
        seconds += learned or 0.0
    shared = f", so about {_duration(seconds / cores)} on {cores} cores" if cores > 1 else ""
    return f"on one core of this machine: {', '.join(words)}{shared}"


def _training_seconds(trainings: Mapping[Any, Sequence[Setup]]) -> float | None:
    """Seconds of all trainings on one core; None where the data are not on this machine."""
    kinds = list(trainings.values())
    chosen = kinds[:: max(1, len(kinds) // _TIMED_KINDS)][:_TIMED_KINDS]
    try:
        seconds = [_seconds_of_one(setups[0]) for setups in chosen]
    except ConfigError:
        return None
    return sum(seconds) / len(seconds) * sum(map(len, kinds))


def _seconds_of_one(setup: Setup) -> float:
    """Seconds of one training: those of a few batches, timed, times the batches of all epochs."""
    from fahw.datasets.dataset import load_dataset
    from fahw.learn.samples.batches import validation_size
    from fahw.study.training import make_jobs, train_on

    recipe, network = setup.recipe, setup.request.network
    data = load_dataset(recipe.data, None, recipe.image_size)
    training_samples = len(data.train_labels) - validation_size(recipe, data)
    steps, batch = training_samples // recipe.batch_size * recipe.epochs, recipe.batch_size
    evaluated_samples = (validation_size(recipe, data) + len(data.test_labels)) * recipe.epochs
    sample_count = min(len(data.train_labels), int((batch * _TIMED_BATCHES + 1) / (1 - recipe.validation)) + 2)
    few_data = replace(
        data, train_images=data.train_images[:sample_count], train_labels=data.train_labels[:sample_count],
        test_images=data.test_images[:batch], test_labels=data.test_labels[:batch],
    )  # fmt: skip
    short = recipe.model_copy(update={"epochs": 1})
    job = make_jobs(network, short, [setup.request.rule], setup.request.chip.unpack(), [0], few_data)[0]
    train_on(job, few_data)
    start = time.perf_counter()
    train_on(job, few_data)
    timed = time.perf_counter() - start
    return timed * max(1.0, (steps + evaluated_samples / batch / 3) / (_TIMED_BATCHES + 1))


def _duration(seconds: float) -> str:
    """The duration in one unit, as in `2 min` for 90 seconds: an estimate says no more than it knows."""
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
