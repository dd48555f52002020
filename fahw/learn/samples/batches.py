"""The training, validation and test set of a data set as batches of network inputs.

Small sets are encoded once; large ones, and images that change from epoch to epoch, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fahw.datasets.dataset import Dataset
from fahw.datasets.images import Images, Pixels
from fahw.errors import Problem
from fahw.learn.arithmetic.arithmetic import Arithmetic
from fahw.learn.kernels.device import CPU
from fahw.learn.samples.augment import Augmenter
from fahw.network.graph import Network
from fahw.network.recipe import Recipe
from fahw.prng import derive

_MOST_VALUES_HELD = 1 << 26
"""The most values of a set that is encoded at once and stays in memory."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A batch of images before they are encoded, `(n, *input_shape)`, and their labels, on the device that is to
    compute."""

    pixels: Pixels
    labels: Tensor
    maximum: int


class SampleSet:
    """A training, validation or test set: the images at `rows` of `images`, encoded by `arithmetic` as `(n, *shape)`,
    and their labels, on the device."""

    def __init__(
        self, arithmetic: Arithmetic, images: Pixels | Images, labels: NDArray[np.int64], rows: NDArray[np.int64],
        shape: tuple[int, ...], maximum: int, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self._device = device
        self.labels = torch.from_numpy(labels[rows]).to(device)
        self._arithmetic, self._images, self._rows = arithmetic, images, rows
        self._shape, self._maximum = shape, maximum
        self._held = self._encoded(images[rows]) if len(rows) * prod(shape) <= _MOST_VALUES_HELD else None

    def batches(
        self, order: NDArray[np.int64], size: int, augmenter: Augmenter | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole batches of `size` samples in the given order of samples, inputs and labels; a rest is left out."""
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield self._inputs(chosen, augmenter), self.labels[self._index(chosen)]

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in batches of `size`, inputs and labels, never augmented; the last batch may be smaller."""
        for start in range(0, len(self.labels), size):
            chosen = np.arange(start, min(start + size, len(self.labels)))
            yield self._inputs(chosen, None), self.labels[start : start + size]

    def probe(self, size: int, least: int) -> list[Probe]:
        """The first images as probes of `size` images each, at least `least` images in all where there are as many."""
        count = max(1, min(-(-least // size), len(self.labels) // size))
        probes = []
        for start in range(0, count * size, size):
            images = self._images[self._rows[start : start + size]].reshape(-1, *self._shape)
            probes.append(Probe(images, self.labels[start : start + size], self._maximum))
        return probes

    def _inputs(self, chosen: NDArray[np.int64], augmenter: Augmenter | None) -> Tensor:
        if self._held is not None and augmenter is None:
            return self._held[self._index(chosen)]
        images = self._images[self._rows[chosen]]
        return self._encoded(augmenter(images, chosen) if augmenter else images)

    def _index(self, chosen: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(chosen).to(self._device)

    def _encoded(self, images: Pixels) -> Tensor:
        return self._arithmetic.encode(images.reshape(-1, *self._shape), self._maximum).to(self._device)


def validation_size(recipe: Recipe, dataset: Dataset) -> int:
    """How many training images the recipe keeps apart to choose the epoch; at least one."""
    return max(1, round(recipe.validation * len(dataset.train_labels)))


def sample_sets(
    arithmetic: Arithmetic, network: Network, recipe: Recipe, dataset: Dataset, device: torch.device = CPU
) -> list[SampleSet]:
    """The training, validation and test set: the same for every seed, without an image in common."""
    generator = np.random.Generator(np.random.PCG64(derive(0, "split")))
    order = generator.permutation(len(dataset.train_labels))
    validation_count = validation_size(recipe, dataset)
    training = (dataset.train_images, dataset.train_labels)
    test = (dataset.test_images, dataset.test_labels)
    rows_of_sets = [
        (*training, order[validation_count:]),
        (*training, order[:validation_count]),
        (*test, np.arange(len(dataset.test_labels))),
    ]
    return [SampleSet(arithmetic, *samples, network.input_shape, dataset.maximum, device) for samples in rows_of_sets]


def augment_problems(recipe: Recipe, dataset: Dataset) -> list[Problem]:
    """The reasons why the recipe's augmentation cannot be applied to these images; none where it can."""
    if not recipe.augment.active:
        return []
    if len(dataset.shape) != 3:
        text = f"needs images of (channels, height, width); those of '{dataset.name}' have shape {dataset.shape}"
        return [Problem("recipe.augment", text)]
    if recipe.augment.crop_padding >= min(dataset.shape[1:]):
        text = f"{recipe.augment.crop_padding} is not smaller than the images, {dataset.shape[1:]}"
        return [Problem("recipe.augment.crop_padding", text)]
    return []
