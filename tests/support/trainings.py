"""Whole trainings of a toy task that is learned in a second."""

import numpy as np

from fahw.datasets.dataset import Dataset
from fahw.learn.training.train import train
from fahw.network.recipe import Ranges, Recipe, RuleTuning
from tests.support.models import mlp, setup_of

RECIPE = Recipe(
    learning_rate=0.05,
    epochs=3,
    batch_size=16,
    ranges=Ranges(activation=32),
    rules={"fa": RuleTuning(learning_rate=0.02), "dfa": RuleTuning(learning_rate=0.02)},
)
"""Enough for backpropagation and its relatives on the toy task; random feedback needs more steps."""


def toy(count=400, classes=4, size=4):
    """Four noisy patterns of one bright quarter each."""
    generator = np.random.default_rng(0)

    def part(n):
        labels = generator.integers(0, classes, n)
        images = generator.integers(0, 100, (n, 1, size, size))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[0, row * 2 : row * 2 + 2, column * 2 : column * 2 + 2] += 120
        return images.astype(np.uint8), labels.astype(np.int64)

    return Dataset("toy", *part(count), *part(100), classes, 255)


TOY = toy()


def run(rule="bp", network=None, recipe=RECIPE, precision=None, dataset=TOY, epochs=None, rounding=None, **others):
    """The result of a training; `others`: of its setup (seed, delays), `on_epoch` and `checkpoint`."""
    given = {name: others.pop(name) for name in ("on_epoch", "checkpoint") if name in others}
    recipe = recipe if epochs is None else recipe.model_copy(update={"epochs": epochs})
    setup = setup_of(network or mlp(16, 12, 8, 4), rule, precision, rounding, recipe=recipe, **others)
    return train(setup, dataset, **given)
