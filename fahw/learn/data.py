"""Data sets as arrays: the bundled digits, and the MNIST family from files on disk.

    data = load("digits")
    data.train_images / data.maximum    # (1437, 1, 8, 8), in [0, 1]

Nothing is downloaded here; `fetch` does that, and only when asked.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fahw.errors import ConfigError, Problem
from fahw.learn.catalogue import DATASETS, Entry, RemoteFile, entry
from fahw.learn.fetch import fetch, is_right
from fahw.learn.idx import read_idx

__all__ = ["Dataset", "DATASETS", "load", "fetch", "data_folder"]

_TEST_EVERY = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels. `image / maximum` lies in [0, 1].

    `train_images`, `test_images`: uint8, (n, channels, height, width). `train_labels`, `test_labels`: int64, (n,),
    0 to `classes` - 1.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    maximum: int

    @property
    def shape(self) -> tuple[int, ...]:
        """One image: (channels, height, width)."""
        return self.train_images.shape[1:]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the shapes and values, in hexadecimal: what a result was computed from, wherever it came from."""
        digest = hashlib.sha256(f"{self.classes} {self.maximum}".encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f" {array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """The data set `name` (a key of `DATASETS`), read from `data_folder(data_dir)` unless it ships with fahw.

    Files may lie in that folder or in its subfolder of the set's name, gzip-packed or not. Raises ConfigError for an
    unknown name and for a missing, damaged or wrong file.
    """
    known = entry(name)
    return _load_files(known, data_folder(data_dir)) if known.files else _load_digits(known)


def data_folder(data_dir: Path | None = None) -> Path:
    """Where data sets lie: `data_dir`, else $FAHW_DATA, else `fahw` in the user's cache folder."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if given := os.environ.get("FAHW_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fahw"


def _load_digits(known: Entry) -> Dataset:
    """The bundled digits. Sorted by class, every fifth image is for testing: 360, each class in proportion."""
    packed = (resources.files("fahw") / "data" / "digits.csv.gz").read_bytes()
    _, _, body = gzip.decompress(packed).decode("ascii").partition("\n")
    table = np.array(body.replace("\n", ",").rstrip(",").split(","), np.uint8).reshape(-1, 65)
    labels, images = table[:, 0].astype(np.int64), table[:, 1:].reshape(-1, *known.shape)
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::_TEST_EVERY]] = True
    return Dataset(known.name, images[~test], labels[~test], images[test], labels[test], known.classes, known.maximum)


def _load_files(known: Entry, root: Path) -> Dataset:
    advice = f"run 'fahw data fetch {known.name}', or give the folder that holds the files (--data-dir or FAHW_DATA)"
    paths = _find_all(known, root, advice)
    _refuse_other_set(known, paths[1], known.files[1])
    train = _read_part(known, paths[0], paths[1], advice)
    test = _read_part(known, paths[2], paths[3], advice)
    return Dataset(known.name, *train, *test, known.classes, known.maximum)


def _find_all(known: Entry, root: Path, advice: str) -> list[Path]:
    """The set's files, all from one folder: the sets of the MNIST family use the same file names."""
    searched = [root / known.name, root]
    for folder in searched:
        found = [_find(folder, file) for file in known.files]
        if all(found):
            return [path for path in found if path]
        if any(found):
            missing = [file.name for file, path in zip(known.files, found, strict=True) if not path]
            raise ConfigError(Problem(str(folder), f"{', '.join(missing)} missing (packed or not); {advice}"))
    names = ", ".join(file.name for file in known.files)
    raise ConfigError(Problem(str(root), f"no {known.name} here or in '{known.name}/' (looked for {names}); {advice}"))


def _find(folder: Path, file: RemoteFile) -> Path | None:
    bare = file.name.removesuffix(".gz")
    dotted = bare.replace("-idx", ".idx")  # as some mirrors name the unpacked files
    return next((folder / name for name in (file.name, bare, dotted) if (folder / name).is_file()), None)


def _refuse_other_set(known: Entry, path: Path, file: RemoteFile) -> None:
    """Fashion-MNIST's files are named as MNIST's are: a mix-up would go unnoticed, so the small file is recognised."""
    for other in DATASETS.values():
        for theirs in other.files:
            if other is not known and theirs.name == file.name and is_right(path, theirs):
                raise ConfigError(
                    Problem(str(path), f"this is {other.name}, not {known.name}; keep it in another folder")
                )


def _read_part(known: Entry, images: Path, labels: Path, advice: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels = read_idx(images, known.shape[1:], advice)
    classes = read_idx(labels, (), advice)
    if len(pixels) != len(classes):
        message = f"{len(classes)} labels, but {images.name} holds {len(pixels)} images; {advice}"
        raise ConfigError(Problem(str(labels), message))
    if int(classes.max()) >= known.classes:
        at = int(np.argmax(classes >= known.classes))
        message = f"label {at} is {classes[at]}, expected 0 to {known.classes - 1}; {advice}"
        raise ConfigError(Problem(str(labels), message))
    return pixels.reshape(-1, *known.shape), classes.astype(np.int64)
