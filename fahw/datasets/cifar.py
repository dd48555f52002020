"""Reader of CIFAR-10's binary batches; pickled ones are refused, as to open a pickle is to run what is in it.

Binary: per image one label byte, then 3 x 32 x 32 bytes, channels first. Source: A. Krizhevsky,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fahw.datasets.images import Images, Joined, Pixels
from fahw.errors import ConfigError, Problem

SHAPE, CLASSES = (3, 32, 32), 10
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_FOLDERS = ("cifar-10-batches-bin", ".", "cifar-10-batches-py")
_VALUES = 3072
MOST_IMAGES = 50_000
"""The most images of a batch, five times what the published ones have: a file can say more than the disk holds."""

Part = tuple[Pixels | Images, NDArray[np.int64]]


def find_batches(folder: Path) -> list[Path]:
    """The paths of the six batches, in `folder` or in the folder that the published archive makes there; empty where
    there are none.

    Raises ConfigError where only some are there, and where they are pickles alone.
    """
    for below in _FOLDERS:
        paths = [folder / below / f"{name}.bin" for name in BATCHES]
        missing = [path.name for path in paths if not path.is_file()]
        if not missing:
            return paths
        if len(missing) < len(BATCHES):
            raise ConfigError(Problem(str(folder / below), f"{', '.join(missing)} missing"))
    _refuse_pickles(folder)
    return []


def _refuse_pickles(folder: Path) -> None:
    """Raise ConfigError where the batches in `folder` are those of the Python version."""
    places = (folder / below / name for below in _FOLDERS for name in BATCHES)
    pickled = next((path for path in places if path.is_file()), None)
    if pickled is not None:
        message = "a pickled batch, which is not opened, as a pickle can run code: get the binary version ('fahw data"
        message += " fetch cifar10'), or convert it where you trust it (docs/howto.md has a few lines of Python)"
        raise ConfigError(Problem(str(pickled), message))


def read_batches(paths: list[Path]) -> tuple[Part, Part]:
    """The training and the test part of the six batches. Raises ConfigError for a damaged file or a wrong label."""
    parts = [_read_binary(path) for path in paths]
    images, labels = [part[0] for part in parts[:5]], [part[1] for part in parts[:5]]
    return (Joined(images), np.concatenate(labels)), parts[5]


def _read_binary(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """The images and labels of one batch; the images stay on disk, mapped into memory."""
    try:
        size = path.stat().st_size
        if size == 0 or size % (_VALUES + 1):
            raise ConfigError(Problem(str(path), f"{size:,} bytes are not whole records of {_VALUES + 1:,} bytes"))
        if size > MOST_IMAGES * (_VALUES + 1):
            raise ConfigError(Problem(str(path), f"{size // (_VALUES + 1):,} images; at most {MOST_IMAGES:,} are read"))
        records = np.memmap(path, np.uint8, "r").reshape(-1, _VALUES + 1)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    labels = records[:, 0].astype(np.int64)
    bad = np.flatnonzero(labels >= CLASSES)
    if len(bad):
        raise ConfigError(Problem(str(path), f"label {bad[0]} is {labels[bad[0]]}, expected 0 to {CLASSES - 1}"))
    return records[:, 1:].reshape(-1, *SHAPE), labels
