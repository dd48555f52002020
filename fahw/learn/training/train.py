"""A whole training: epochs of steps, judged on a validation set, the same for every rule and arithmetic.

    result = train(TrainingSetup(network, recipe, RULES["dfa"], Precision(), seed=0), data)
    result.test_accuracy_pct    # at the epoch that was best on the validation set

Everything random follows from `seed`, except which images are the validation set: those are the same for every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite

import numpy as np
from torch import Tensor

from fahw.activity import Activity
from fahw.datasets.dataset import Dataset
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.model import Model
from fahw.learn.samples.augment import Augmenter
from fahw.learn.samples.batches import SampleSet, sample_sets
from fahw.learn.state.rounding_losses import LostShares
from fahw.learn.step import forward
from fahw.learn.training.build import build
from fahw.learn.training.checkpoint import Checkpoint
from fahw.learn.training.checks import check_data, check_rates
from fahw.learn.training.result import EpochRow, TrainResult
from fahw.learn.training.setup import TrainingSetup
from fahw.learn.watch.activity_monitor import ActivityMonitor
from fahw.learn.watch.alignment import alignments, gradient_angles
from fahw.learn.watch.findings import findings
from fahw.prng import derive

_EVALUATION_BATCH = 500
_MOST_LEFT_OUT = 0.05
"""The share of the training images that may be left out of every epoch without a warning."""
_PROBE_IMAGES = 64
_LOSS_DIGITS = 6
_LARGEST_LOSS = 1e9


def train(
    setup: TrainingSetup, dataset: Dataset, *, on_epoch: Callable[[EpochRow], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainResult:  # fmt: skip
    """Train on `dataset`, and return what it came to. The training goes on from a `checkpoint` and keeps it up to date;
    it is there until the result is stored. Call within `torch_settings`: small networks are slower on more threads than
    one.

    Raises ConfigError where data, network, recipe and formats do not fit.
    """
    return train_model(setup, dataset, on_epoch=on_epoch, checkpoint=checkpoint)[1]


def train_model(
    setup: TrainingSetup, dataset: Dataset, *, on_epoch: Callable[[EpochRow], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Model, TrainResult]:  # fmt: skip
    """Train as `train` does; returns the model as the last epoch leaves it, and what the training came to."""
    network, recipe, seed = setup.network, setup.recipe, setup.seed
    check_data(network, recipe, dataset)
    check_rates([setup])
    model, warnings = build(setup)
    training_set, validation_set, test_set = sample_sets(model.arithmetic, network, recipe, dataset, setup.device)
    warnings = (*warnings, *_left_out(len(training_set.labels), recipe.batch_size))
    steps, probes = len(training_set.labels) // recipe.batch_size, training_set.probe(recipe.batch_size, _PROBE_IMAGES)
    rows = checkpoint.load(model, recipe.epochs) if checkpoint else []
    for row in rows if on_epoch else ():
        on_epoch(row)  # type: ignore[misc]
    for epoch in range(len(rows) + 1, recipe.epochs + 1):
        loss, activity, lost = _run_epoch(model, setup, training_set, epoch)
        evaluator = model.arithmetic.evaluator(derive(seed, "evaluation", epoch))
        accuracies = [_accuracy_pct(model, evaluator, samples) for samples in (validation_set, test_set)]
        draw = epoch * steps - 1
        probe_arithmetic = model.arithmetic.evaluator(derive(seed, "probe", epoch), batch_statistics=True)
        angles_to_bp = gradient_angles(model, probe_arithmetic, probes, draw)
        rows.append(_row(model, epoch, loss, accuracies, draw, angles_to_bp, activity, lost))
        if on_epoch:
            on_epoch(rows[-1])
        if checkpoint and epoch < recipe.epochs:
            checkpoint.save(model, rows, recipe.epochs)
    best = max(rows, key=lambda row: row.validation_accuracy_pct)
    result = TrainResult(
        setup.rule.name, seed, steps, tuple(rows), best.epoch, best.test_accuracy_pct, warnings,
        findings([rows], setup.precision, setup.rounding),
    )  # fmt: skip
    return model, result


def _left_out(images: int, batch_size: int) -> Iterator[str]:
    """Yield a warning where whole batches leave out much of every epoch."""
    rest = images % batch_size
    if rest > _MOST_LEFT_OUT * images:
        share = f"{rest} of {images} training images ({100 * rest / images:.0f} %) are left out of every epoch"
        yield f"{share}, others each time: batches of {batch_size} (recipe.batch_size) are whole"


def _run_epoch(
    model: Model, setup: TrainingSetup, training_set: SampleSet, epoch: int
) -> tuple[float, Activity, dict[str, dict[str, LostShares]]]:
    """Train for an epoch; returns the mean loss in nats, the activity, and what rounding lost in its last step."""
    batch_size = setup.recipe.batch_size
    steps = len(training_set.labels) // batch_size
    total, monitor = 0.0, ActivityMonitor(model, steps)
    for batch in epoch_batches(setup, training_set, epoch):
        total += monitor.step(*batch)
    return total / (steps * batch_size), monitor.activity(), monitor.lost


def epoch_batches(
    setup: TrainingSetup, training_set: SampleSet, epoch: int
) -> Iterator[tuple[Tensor, Tensor, float, int]]:
    """The steps of an epoch (counted from 1): images, labels, learning rate, and the number of the step in the
    training, from 0."""
    recipe, seed = setup.recipe, setup.seed
    generator = np.random.Generator(np.random.PCG64(derive(seed, "order", epoch)))
    order = generator.permutation(len(training_set.labels))
    rate = recipe.rate(setup.tuning, epoch - 1)
    first = (epoch - 1) * (len(order) // recipe.batch_size)
    augmenter = Augmenter(recipe.augment, seed, epoch, len(order)) if recipe.augment.active else None
    for number, (images, labels) in enumerate(training_set.batches(order, recipe.batch_size, augmenter)):
        yield images, labels, rate, first + number


def _accuracy_pct(model: Model, arithmetic: Arithmetic, samples: SampleSet) -> float:
    correct = 0
    for images, labels in samples.in_order(_EVALUATION_BATCH):
        logits = forward(model.network, arithmetic, model.parameters, images).logits
        correct += int((logits.argmax(1) == labels).sum())
    return 100 * correct / len(samples.labels)


def _row(
    model: Model,
    epoch: int,
    loss: float,
    accuracies: list[float],
    draw: int,
    angles_to_bp: dict[str, float],
    activity: Activity,
    lost: dict[str, dict[str, LostShares]],
) -> EpochRow:
    layer_alignments = alignments(model, draw)
    return EpochRow(
        epoch=epoch,
        train_loss=round(min(loss, _LARGEST_LOSS), _LOSS_DIGITS) if isfinite(loss) else _LARGEST_LOSS,
        validation_accuracy_pct=accuracies[0],
        test_accuracy_pct=accuracies[1],
        angles={name: alignment.angle_deg for name, alignment in layer_alignments.items()},
        norm_ratios={name: alignment.norm_ratio for name, alignment in layer_alignments.items()},
        saturated=model.arithmetic.saturated(model.parameters),
        gradient_angles=angles_to_bp,
        activity=activity,
        lost=lost,
    )
