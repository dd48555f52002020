"""A whole training: epochs of steps, judged on a validation set, the same for every rule and arithmetic.

    result = train(network, recipe, RULES["dfa"], precision=Precision(), rounding=RoundingModes(), seed=0, dataset=data)
    result.test_accuracy_pct    # at the epoch that was best on the validation set

Everything random follows from `seed`, except which images are the validation set: those are the same for every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from fahw.activity import Activity
from fahw.config.numbers import Float
from fahw.config.precision import Precision, RoundingModes
from fahw.config.recipe import Recipe, Tuning
from fahw.errors import ConfigError, Problem
from fahw.learn.augment import Augmenter
from fahw.learn.batches import Part, augment_problems, split, validation_size
from fahw.learn.checkpoint import Checkpoint
from fahw.learn.data import Dataset
from fahw.learn.delays import IN_TIME, Delays, Pending
from fahw.learn.descent import float_underflows, underflows
from fahw.learn.device import CPU
from fahw.learn.emulated import Emulated
from fahw.learn.emulated_words import EmulatedWords
from fahw.learn.feedback import Feedback, FloatWords, IntegerWords, Words, check_trained
from fahw.learn.findings import findings
from fahw.learn.fit import misfits
from fahw.learn.floating import Floating
from fahw.learn.formats import RANDOM_BITS, network_scales, overflow_problems
from fahw.learn.integer import Integer
from fahw.learn.metrics import alignments, gradient_angles
from fahw.learn.observe import Observer
from fahw.learn.step import Arithmetic, Model, forward, placed
from fahw.learn.tally import Lost
from fahw.network import Network, untrainable
from fahw.prng import Lfsr, derive
from fahw.rules import Rule

_EVALUATION_BATCH = 500
_PROBE_IMAGES = 64
_LOSS_DIGITS = 6
_LARGEST_LOSS = 1e9
_MOST_PARAMETERS = 200_000_000
_MOST_VALUES = 1_000_000_000


@dataclass(frozen=True)
class EpochRow:
    """What one epoch (counted from 1) came to.

    `train_loss`: mean cross-entropy over its batches, at most 1e9. `angles`, `norm_ratios`: by layer, at its end; empty
    for direct rules. `gradient_angles`: degrees from backpropagation's gradient, by layer. `activity`: shares of zeros
    and changes over some of its steps. `saturated`: share of the stored integers at an end of their range, by kind of
    tensor. `lost`: what rounding lost in its last step, by layer and tensor.
    """

    epoch: int
    train_loss: float
    validation_accuracy_pct: float
    test_accuracy_pct: float
    angles: dict[str, float]
    norm_ratios: dict[str, float]
    saturated: dict[str, float]
    gradient_angles: dict[str, float]
    activity: Activity
    lost: dict[str, dict[str, Lost]]


@dataclass(frozen=True)
class TrainResult:
    """One training. `best_epoch` is the first with the best validation accuracy, `test_accuracy_pct` the test accuracy
    there. `warnings`: accumulators that could overflow. `losses`: what the number formats lost, in sentences."""

    rule: str
    seed: int
    steps_per_epoch: int
    epochs: tuple[EpochRow, ...]
    best_epoch: int
    test_accuracy_pct: float
    warnings: tuple[str, ...]
    losses: tuple[str, ...]


def train(
    network: Network, recipe: Recipe, rule: Rule, *, precision: Precision, rounding: RoundingModes, seed: int,
    dataset: Dataset, epochs: int | None = None, on_epoch: Callable[[EpochRow], None] | None = None,
    delays: Delays = IN_TIME, checkpoint: Checkpoint | None = None, device: torch.device = CPU,
) -> TrainResult:  # fmt: skip
    """Train `network` under `rule`; `epochs` replaces the recipe's. With `delays` the error meets weights as the last
    transport found them, and updates come late. A `checkpoint` is gone on from, kept up to date and at last removed.
    Call within `settled`: small networks are slower on more threads than one.

    Raises ConfigError where data and network do not fit.
    """
    return fit(
        network, recipe, rule, precision=precision, rounding=rounding, seed=seed, dataset=dataset, epochs=epochs,
        on_epoch=on_epoch, delays=delays, checkpoint=checkpoint, device=device,
    )[1]  # fmt: skip


def fit(
    network: Network, recipe: Recipe, rule: Rule, *, precision: Precision, rounding: RoundingModes, seed: int,
    dataset: Dataset, epochs: int | None = None, on_epoch: Callable[[EpochRow], None] | None = None,
    delays: Delays = IN_TIME, checkpoint: Checkpoint | None = None, device: torch.device = CPU,
) -> tuple[Model, TrainResult]:  # fmt: skip
    """As `train`, with the model as the last epoch leaves it."""
    if epochs is not None:
        recipe = recipe.model_copy(update={"epochs": epochs})
    check_fit(network, recipe, dataset)
    check_rates(network, recipe, [rule], precision, rounding)
    tuning = recipe.tuning(rule.name)
    model, warnings = build(network, tuning, rule, precision, rounding, recipe.batch_size, seed, delays, device)
    training, validation, test = split(model.arithmetic, network, recipe, dataset, device)
    steps, probe = len(training.labels) // recipe.batch_size, training.probe(recipe.batch_size, _PROBE_IMAGES)
    rows: list[EpochRow] = []
    if checkpoint and (saved := checkpoint.load(device)):
        model, rows = saved
        for row in rows if on_epoch else ():
            on_epoch(row)  # type: ignore[misc]
    for epoch in range(len(rows) + 1, recipe.epochs + 1):
        loss, activity, lost = _run_epoch(model, training, recipe, tuning, epoch, seed)
        evaluator = model.arithmetic.evaluator(derive(seed, "evaluation", epoch))
        accuracies = [_accuracy_pct(model, evaluator, part) for part in (validation, test)]
        draw = epoch * steps - 1
        aside = model.arithmetic.evaluator(derive(seed, "probe", epoch), batch_statistics=True)
        turned = gradient_angles(model, aside, probe, draw)
        rows.append(_row(model, epoch, loss, accuracies, draw, turned, activity, lost))
        if on_epoch:
            on_epoch(rows[-1])
        if checkpoint and epoch < recipe.epochs:
            checkpoint.save(lambda: (model, rows))
    if checkpoint:
        checkpoint.remove()
    best = max(rows, key=lambda row: row.validation_accuracy_pct)
    result = TrainResult(
        rule.name, seed, steps, tuple(rows), best.epoch, best.test_accuracy_pct, warnings,
        findings([rows], precision, rounding),
    )  # fmt: skip
    return model, result


def build(
    network: Network, tuning: Tuning, rule: Rule, precision: Precision, rounding: RoundingModes, batch_size: int,
    seed: int, delays: Delays = IN_TIME, device: torch.device = CPU,
) -> tuple[Model, tuple[str, ...]]:  # fmt: skip
    """A model before its first step, and what could overflow in it. Raises ConfigError where the formats have no
    arithmetic for the rule."""
    check_trained([rule], precision)
    arithmetic, words, warnings = _numbers(network, tuning, rule, precision, rounding, batch_size, seed, device)
    parameters = {layer.name: placed(arithmetic.initial(layer, seed), device) for layer in network.trained}
    feedback = Feedback(rule, words, None, delays.transport_period, tuning.weight_decay, device)
    return Model(network, arithmetic, parameters, feedback, Pending(delays.update_delay)), warnings


def _numbers(
    network: Network, tuning: Tuning, rule: Rule, precision: Precision, rounding: RoundingModes, batch_size: int,
    seed: int, device: torch.device,
) -> tuple[Arithmetic, Words, tuple[str, ...]]:  # fmt: skip
    """The arithmetic of the formats, the source of its feedback words, and what could overflow."""
    if precision.is_float:
        floating = Floating(tuning.momentum, batch_size, seed=seed, tuning=tuning)
        return floating, FloatWords(network, rule, tuning.feedback_gain, seed, torch.float32), ()
    scales = network_scales(network, precision, tuning, rule, batch_size)
    random, warnings = Lfsr(derive(seed, "rounding")), tuple[str, ...]()
    if isinstance(precision.accumulator, int):
        warnings = overflow_problems(network, scales, rule, batch_size, precision.accumulator)
    if not (precision.is_integer and rounding.random_bits == RANDOM_BITS):
        emulated = Emulated(network, precision, rounding, scales, tuning, batch_size, random, seed)
        feedback = EmulatedWords(network, rule, precision, scales, tuning.feedback_gain, seed)
        return emulated, feedback, tuple(f"{problem} (training does not wrap it)" for problem in warnings)
    integer = Integer(
        network, rule, precision, rounding, scales, tuning.momentum, batch_size, random, None, tuning, device
    )
    return integer, IntegerWords(network, rule, precision, scales, seed), warnings


def check_fit(network: Network, recipe: Recipe, dataset: Dataset) -> None:
    """Raise ConfigError unless the images fit the input, the labels the output, and a batch the training set."""
    untrainable(network)
    found = misfits(network, dataset.name, dataset.shape, dataset.classes)
    problems = [Problem(network.name, text) for text in found]
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


def check_rates(
    network: Network, recipe: Recipe, rules: Iterable[Rule], precision: Precision, rounding: RoundingModes
) -> None:
    """Raise ConfigError where a learning rate, a weight decay or a clipping value is too small for the formats."""
    if precision.is_float:
        return
    problems: dict[str, Problem] = {}
    for rule in rules:
        tuning = recipe.tuning(rule.name)
        scales = network_scales(network, precision, tuning, rule, recipe.batch_size)
        master, dynamic = precision.number("master"), precision.scale.is_dynamic("master")
        if isinstance(master, Float):
            found = float_underflows(recipe, tuning, master)
        else:
            found = underflows(recipe, tuning, {} if dynamic else scales, rounding.update, rounding.random_bits)
        for problem in found:
            named = replace(problem, message=f"{rule.name}: {problem.message}")
            problems.setdefault(f"{rule.name} {problem.place}", named)
    if problems:
        raise ConfigError(problems.values())


def _run_epoch(
    model: Model, training: Part, recipe: Recipe, tuning: Tuning, epoch: int, seed: int
) -> tuple[float, Activity, dict[str, dict[str, Lost]]]:
    """Train for an epoch; the mean loss, what was seen on the way, and what rounding lost in its last step."""
    steps = len(training.labels) // recipe.batch_size
    total, observer = 0.0, Observer(model, steps)
    for batch in epoch_batches(training, recipe, tuning, epoch, seed):
        total += observer.step(*batch)
    return total / (steps * recipe.batch_size), observer.activity(), observer.lost


def epoch_batches(
    training: Part, recipe: Recipe, tuning: Tuning, epoch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, float, int]]:
    """The steps of an epoch (counted from 1): images, labels, learning rate, and the number of the step in the
    training, from 0."""
    generator = np.random.Generator(np.random.PCG64(derive(seed, "order", epoch)))
    order = generator.permutation(len(training.labels))
    rate = recipe.rate(tuning, epoch - 1)
    first = (epoch - 1) * (len(order) // recipe.batch_size)
    augmenter = Augmenter(recipe.augment, seed, epoch, len(order)) if recipe.augment.active else None
    for number, (images, labels) in enumerate(training.batches(order, recipe.batch_size, augmenter)):
        yield images, labels, rate, first + number


def _accuracy_pct(model: Model, arithmetic: Arithmetic, part: Part) -> float:
    right = 0
    size = _EVALUATION_BATCH
    for images, labels in part.in_order(size):
        logits = forward(model.network, arithmetic, model.parameters, images).logits
        right += int((logits.argmax(1) == labels).sum())
    return 100 * right / len(part.labels)


def _row(
    model: Model,
    epoch: int,
    loss: float,
    accuracies: list[float],
    draw: int,
    turned: dict[str, float],
    activity: Activity,
    lost: dict[str, dict[str, Lost]],
) -> EpochRow:
    found = alignments(model, draw)
    return EpochRow(
        epoch=epoch,
        train_loss=round(min(loss, _LARGEST_LOSS), _LOSS_DIGITS) if isfinite(loss) else _LARGEST_LOSS,
        validation_accuracy_pct=accuracies[0],
        test_accuracy_pct=accuracies[1],
        angles={name: a.angle_deg for name, a in found.items()},
        norm_ratios={name: a.norm_ratio for name, a in found.items()},
        saturated=model.arithmetic.saturated(model.parameters),
        gradient_angles=turned,
        activity=activity,
        lost=lost,
    )
