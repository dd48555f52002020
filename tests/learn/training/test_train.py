"""Whole trainings: they learn, repeat bit for bit, and refuse data that do not fit."""

from dataclasses import replace
from math import isfinite

import numpy as np
import pytest

from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision
from fahw.network.recipe import Ranges
from fahw.rules.catalogue import COMPARED
from tests.support.models import chain, convolutional, mlp
from tests.support.trainings import RECIPE, TOY, run

RULE_NAMES = sorted(COMPARED)


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_rule_learns_an_easy_task(rule, precision):
    result = run(rule, mlp(16, 40, 4), precision=precision, epochs=8)

    assert result.test_accuracy_pct >= 90
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
def test_the_same_seed_gives_the_same_result_and_another_seed_another(precision):
    one, again, other = (run("brsf", precision=precision, seed=seed) for seed in (5, 5, 6))

    assert one == again
    assert one.epochs != other.epochs


def test_the_reported_accuracy_is_at_the_first_epoch_that_is_best_on_the_validation_set():
    result = run(epochs=4)

    best = max(row.validation_accuracy_pct for row in result.epochs)
    first = next(row for row in result.epochs if row.validation_accuracy_pct == best)
    assert [row.epoch for row in result.epochs] == [1, 2, 3, 4]
    assert (result.best_epoch, result.test_accuracy_pct) == (first.epoch, first.test_accuracy_pct)


def test_steps_count_whole_batches_of_what_the_validation_set_leaves():
    assert run().steps_per_epoch == 360 // 16


def test_epochs_are_reported_as_they_end():
    seen = []

    result = run(epochs=2, on_epoch=seen.append)

    assert tuple(seen) == result.epochs


def test_angles_are_reported_for_layers_that_send_an_error_down():
    network = mlp(16, 12, 8, 4)
    last_two = [layer.name for layer in network.weighted[1:]]

    assert list(run("fa", network).epochs[0].angles) == last_two
    assert run("bp", network).epochs[0].angles == dict.fromkeys(last_two, pytest.approx(0, abs=1e-6))
    assert run("dfa", network).epochs[0].angles == {}


def test_feedback_alignment_turns_the_weights_towards_the_feedback():
    angles = [row.angles["linear2"] for row in run("fa", mlp(16, 40, 4), epochs=12).epochs]

    assert angles[-1] < 80
    assert angles[-1] < angles[0]


def test_saturated_velocities_show():
    tight = RECIPE.model_copy(update={"ranges": Ranges(activation=32, velocity_headroom=0.002)})

    assert run().epochs[0].saturated["optimizer"] == 0
    assert run(recipe=tight).epochs[0].saturated["optimizer"] > 0.01
    assert run(precision=FP32).epochs[0].saturated == {}


def test_a_learning_rate_drop_takes_effect_in_its_epoch():
    dropping = RECIPE.model_copy(update={"drop_at": (0.5,), "drop_factor": 1e-6, "epochs": 2})
    plain, dropped = run(epochs=2), run(recipe=dropping)

    assert plain.epochs[0] == dropped.epochs[0]
    assert plain.epochs[1] != dropped.epochs[1]


def test_a_narrow_accumulator_is_a_warning():
    assert run().warnings == ()
    assert any("forward" in text for text in run(precision=Precision(accumulator=16)).warnings)


def test_images_are_reshaped_where_only_the_shape_differs():
    conv = chain((1, 4, 4), ("conv2d", {"out": 3, "kernel": (3, 3)}), ("flatten", {}), ("linear", {"out": 4}))

    assert run(network=conv, epochs=1).test_accuracy_pct > 50


def test_images_that_do_not_fit_are_refused_with_both_shapes():
    with pytest.raises(ConfigError) as caught:
        run(network=convolutional())

    assert "(2, 8, 7)" in str(caught.value)
    assert "(1, 4, 4)" in str(caught.value)


def test_more_classes_than_outputs_are_refused():
    with pytest.raises(ConfigError, match="3 outputs, 'toy' has 4 classes"):
        run(network=mlp(16, 3))


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ConfigError, match="batch of 1000"):
        run(recipe=RECIPE.model_copy(update={"batch_size": 1000}))


def test_a_single_sample_per_batch_trains():
    recipe = RECIPE.model_copy(update={"batch_size": 1, "learning_rate": 0.005, "epochs": 1})

    assert run(recipe=recipe).test_accuracy_pct > 60


def test_a_diverged_training_is_reported_in_finite_numbers():
    wild = RECIPE.model_copy(update={"learning_rate": 1e3, "momentum": 0.99, "epochs": 4})

    rows = run(recipe=wild, precision=FP32).epochs

    assert rows[-1].train_loss > 100
    assert all(isfinite(x) for row in rows for x in (row.train_loss, *row.angles.values(), *row.norm_ratios.values()))


def test_labels_do_not_leak_from_the_test_set():
    shuffled = replace(TOY, test_labels=np.roll(TOY.test_labels, 1))
    same, other = run(), run(dataset=shuffled)

    assert [r.train_loss for r in same.epochs] == [r.train_loss for r in other.epochs]
    assert [r.validation_accuracy_pct for r in same.epochs] == [r.validation_accuracy_pct for r in other.epochs]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_rule_learns_the_digits_in_8_bits(rule):
    recipe = RECIPE.model_copy(update={"epochs": 20, "batch_size": 32})

    result = run(rule, mlp(64, 128, 64, 10), recipe, dataset=load_dataset("digits"))

    assert result.test_accuracy_pct >= 92


def test_weights_that_never_leave_zero_are_said():
    """Two bits over four times the largest weight that is drawn: every word is zero, and the training says so."""
    result = run(precision=Precision(weight=2), epochs=1)
    assert any("2-bit forward weights" in text and "become zero" in text for text in result.losses)


@pytest.mark.parametrize(("batch", "left"), [(16, None), (110, "30 of 360 training images (8 %)")])
def test_images_that_whole_batches_leave_out_are_said(batch, left):
    """360 images are 22 batches of 16 and 8 images, or 3 batches of 110 and 30 images."""
    result = run(recipe=RECIPE.model_copy(update={"batch_size": batch, "epochs": 1}), precision=FP32)
    said = [text for text in result.warnings if "left out of every epoch" in text]
    assert said == [] if left is None else left in said[0]


@pytest.mark.parametrize("shape", [(16,), (1, 4, 4)])
def test_images_are_read_as_they_are_or_flat(shape):
    assert run(network=chain(shape, *flat(shape), ("linear", {"out": 4})), epochs=1).epochs


def flat(shape):
    return [("flatten", {})] if len(shape) > 1 else []


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 1, 4), (2, 2, 4), (4, 4)])
def test_images_are_not_read_in_another_shape(shape):
    """As many values are not enough: pixels would land in the wrong places."""
    with pytest.raises(ConfigError, match=r"takes inputs of shape .* set input to \[1, 4, 4\], or to \[16\]"):
        run(network=chain(shape, ("flatten", {}), ("linear", {"out": 4})), epochs=1)
