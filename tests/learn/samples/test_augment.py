"""Augmented images: against plain loops, the same at any place of a training, and never in validation or test."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fahw.learn.samples.batches as batches_module
from fahw.datasets.dataset import load_dataset
from fahw.errors import ConfigError
from fahw.formats.precision import FP32, Precision
from fahw.learn.arithmetic.floating import Floating
from fahw.learn.samples.augment import Augmenter
from fahw.learn.samples.batches import sample_sets
from fahw.learn.training.checks import check_data
from fahw.network.recipe import Augment, Recipe
from tests.support.models import chain, mlp
from tests.support.trainings import RECIPE, TOY, run

PINNED = ([1, 1, 4, 0, 3, 0, 0, 1], [0, 0, 2, 0, 0, 1, 3, 1], [False, False, True, False, True, False, True, False])
BOTH = Augment(crop_padding=2, horizontal_flip=True)


def slow(augmenter, images, places):
    """Pixel by pixel: what lies outside the image is 0."""
    out = np.zeros_like(images)
    for n, place in enumerate(places):
        for c, y, x in np.ndindex(images.shape[1:]):
            column = images.shape[3] - 1 - x if augmenter.mirrored[place] else x
            source = (
                y + augmenter.top[place] - augmenter.padding,
                column + augmenter.left[place] - augmenter.padding,
            )
            if 0 <= source[0] < images.shape[2] and 0 <= source[1] < images.shape[3]:
                out[n, c, y, x] = images[n, c, *source]
    return out


@given(
    st.integers(0, 2**63), st.integers(0, 3), st.booleans(), st.sampled_from([np.uint8, np.uint16]), st.integers(1, 3)
)
def test_crops_and_flips_are_exact_on_whole_pixels(seed, padding, flip, kind, channels):
    images = np.random.default_rng(seed).integers(0, 200, (5, channels, 4, 6)).astype(kind)
    augmenter = Augmenter(Augment(crop_padding=padding, horizontal_flip=flip), seed, 3, 9)
    places = np.array([8, 0, 4, 4, 1])

    changed = augmenter(images, places)

    assert changed.dtype == kind
    assert np.array_equal(changed, slow(augmenter, images, places))


def test_the_draws_are_pinned_uniform_and_differ_by_epoch_and_seed():
    first = Augmenter(BOTH, 0, 1, 50_000)

    # Pinned: the same on any machine and with any numpy.
    assert (first.top[:8].tolist(), first.left[:8].tolist()) == PINNED[:2]
    assert first.mirrored[:8].tolist() == PINNED[2]
    for places in (first.top, first.left):
        assert np.bincount(places, minlength=5) == pytest.approx([10_000] * 5, rel=0.05)
    assert first.mirrored.mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef([first.top, first.left, first.mirrored])[np.triu_indices(3, 1)]).max() < 0.02
    for other in (Augmenter(BOTH, 0, 2, 50_000), Augmenter(BOTH, 1, 1, 50_000)):
        assert (other.top == first.top).mean() < 0.25


def test_what_happens_to_an_image_does_not_depend_on_its_batch():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    everything = Augmenter(BOTH, 7, 2, 40)(images, np.arange(40))
    some = np.array([31, 2, 17])

    assert np.array_equal(Augmenter(BOTH, 7, 2, 40)(images[some], some), everything[some])


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
def test_augmented_trainings_repeat_and_differ_from_plain_ones(precision):
    augmented = RECIPE.model_copy(update={"augment": Augment(crop_padding=1, horizontal_flip=True)})
    network = chain((1, 4, 4), ("flatten", {}), ("linear", {"out": 12}), ("relu", {}), ("linear", {"out": 4}))
    one, again, plain = (run("bp", network, recipe, precision, epochs=2) for recipe in (augmented, augmented, RECIPE))

    assert one == again
    assert one.epochs[0].train_loss != plain.epochs[0].train_loss


def test_only_training_batches_are_augmented():
    network, recipe = mlp(16, 8, 4), RECIPE
    training, validation, _ = sample_sets(Floating(0.9, 8), network, recipe, TOY)
    order = np.arange(16)
    augmenter = Augmenter(BOTH, 0, 1, 16)

    changed = next(training.batches(order, 16, augmenter))[0]
    plain = next(training.batches(order, 16))[0]
    assert (changed != plain).any()
    assert (next(training.in_order(16))[0] == plain).all()
    assert len(validation.labels) == 40


@pytest.mark.parametrize("precision", [Precision(), FP32], ids=["integer", "float"])
def test_data_encoded_batch_by_batch_train_to_the_same_bits(precision, monkeypatch):
    held = run("dfa", precision=precision)
    monkeypatch.setattr(batches_module, "_MOST_VALUES_HELD", 0)

    assert run("dfa", precision=precision) == held


def test_the_three_parts_have_no_image_in_common_and_do_not_follow_the_seed():
    data = load_dataset("digits")
    parts = sample_sets(Floating(0.9, 8), mlp(64, 8, 10), Recipe(), data)
    again = sample_sets(Floating(0.9, 8), mlp(64, 8, 10), Recipe(), data)
    seen = [{image.numpy().tobytes() for batch, _ in part.in_order(100) for image in batch} for part in parts]

    assert [len(part.labels) for part in parts] == [1293, 144, 360]
    assert not any(a & b for a, b in combinations(seen, 2))
    assert all((a.labels == b.labels).all() for a, b in zip(parts, again, strict=True))


def test_augmentation_that_does_not_fit_the_images_is_refused():
    flat = replace(TOY, train_images=TOY.train_images.reshape(-1, 16), test_images=TOY.test_images.reshape(-1, 16))
    for dataset, padding, message in ((flat, 1, r"needs images of \(channels"), (TOY, 4, r"4 is not smaller than")):
        recipe = RECIPE.model_copy(update={"augment": Augment(crop_padding=padding)})
        with pytest.raises(ConfigError, match=message):
            check_data(mlp(16, 8, 4), recipe, dataset)
