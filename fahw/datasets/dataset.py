"""Data sets as arrays: the bundled digits, known sets from files on disk, and the user's own.

    data = load("digits")
    data.train_images / data.maximum    # (1437, 1, 8, 8), in [0, 1]
    load("cifar10", Path("data"));  load("my_set.npz");  load("my_images/")

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

from fahw.datasets.catalogue import DATASETS, DatasetEntry, RemoteFile
from fahw.datasets.cifar import find_batches, read_batches
from fahw.datasets.fetch import is_right
from fahw.datasets.idx import read_idx
from fahw.datasets.image_folder import read_folder
from fahw.datasets.images import Images, Pixels, blocks
from fahw.datasets.npz import read_npz
from fahw.errors import ConfigError, Problem, suggestion

_TEST_EVERY = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels. `image / maximum` lies in [0, 1].

    `train_images`, `test_images`: uint8 (uint16 where `maximum` is above 255), (n, channels, height, width) or
    (n, features); large sets stay on disk and yield arrays where they are indexed. `train_labels`, `test_labels`:
    int64, (n,), 0 to `classes` - 1.
    """

    name: str
    train_images: Pixels | Images
    train_labels: NDArray[np.int64]
    test_images: Pixels | Images
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
            if isinstance(array, Images):
                array.update_digest(digest)
                continue
            for _, block in blocks(array):
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()


def load_dataset(name: str, data_dir: Path | None = None, image_size: tuple[int, int] | None = None) -> Dataset:
    """The data set `name`: a key of `DATASETS`, read from `data_folder(data_dir)` unless it ships with fahw, or the
    path of an .npz file, of a folder of images or of CIFAR-10's batches (also relative to that folder).

    Files may lie in that folder or in its subfolder of the set's name, gzip-packed or not. `image_size`: (height,
    width) that the images of a folder are scaled and cropped to. Raises ConfigError for an unknown name and for a
    missing, damaged or wrong file.
    """
    path = check_name(name, data_dir)
    if path is not None:
        return _load_path(name, path, image_size)
    known = DATASETS[name]
    loaders = {"bundled": _load_digits, "idx": _load_idx, "cifar": _load_cifar}
    return loaders[known.kind](known, data_folder(data_dir))


def check_name(name: str, data_dir: Path | None = None) -> Path | None:
    """None for a known set, else where the user's own lies. Raises ConfigError where there is neither."""
    if name in DATASETS:
        return None
    given = Path(name).expanduser()
    for path in (given, data_folder(data_dir) / given):
        if name and path.exists():
            return path
    if given.suffix.lower() == ".npz" or len(given.parts) > 1:
        raise ConfigError(Problem("data", f"no file or folder '{name}' (here or in {data_folder(data_dir)})"))
    known = f"known: {', '.join(DATASETS)}; or the path of an .npz file or of a folder"
    raise ConfigError(Problem("data", f"no data set '{name}'{suggestion(name, DATASETS)}; {known}"))


def data_folder(data_dir: Path | None = None) -> Path:
    """Where data sets lie: `data_dir`, else $FAHW_DATA, else `fahw` in the user's cache folder."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if given := os.environ.get("FAHW_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fahw"


def _load_path(name: str, path: Path, image_size: tuple[int, int] | None) -> Dataset:
    """A user's own set, by what the path leads to."""
    if path.is_file():
        if path.suffix.lower() != ".npz":
            text = "expected an .npz file, or a folder with train/CLASS/*.png or with CIFAR-10's batches"
            raise ConfigError(Problem(str(path), text))
        found = read_npz(path)
        train, test = (found.train_images, found.train_labels), (found.test_images, found.test_labels)
        return Dataset(name, *train, *test, found.classes, found.maximum)
    if batches := find_batches(path):
        return _cifar(name, batches)
    train, test, classes = read_folder(path, image_size)
    return Dataset(name, *train, *test, classes, 255)


def _load_cifar(known: DatasetEntry, root: Path) -> Dataset:
    for folder in (root / known.name, root):
        if batches := find_batches(folder):
            return _cifar(known.name, batches)
    advice = f"run 'fahw data fetch {known.name}', or give the folder that holds the files (--data-dir or FAHW_DATA)"
    text = f"no {known.name} here or in '{known.name}/' (looked for data_batch_1.bin and data_batch_1); {advice}"
    raise ConfigError(Problem(str(root), text))


def _cifar(name: str, batches: list[Path]) -> Dataset:
    train, test = read_batches(batches)
    known = DATASETS["cifar10"]
    return Dataset(name, *train, *test, known.classes, known.maximum)


def _load_digits(known: DatasetEntry, root: Path) -> Dataset:
    """The bundled digits. Sorted by class, every fifth image is for testing: 360, each class in proportion."""
    packed = (resources.files("fahw") / "data" / "digits.csv.gz").read_bytes()
    _, _, body = gzip.decompress(packed).decode("ascii").partition("\n")
    table = np.array(body.replace("\n", ",").rstrip(",").split(","), np.uint8).reshape(-1, 65)
    labels, images = table[:, 0].astype(np.int64), table[:, 1:].reshape(-1, *known.shape)
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::_TEST_EVERY]] = True
    return Dataset(known.name, images[~test], labels[~test], images[test], labels[test], known.classes, known.maximum)


def _load_idx(known: DatasetEntry, root: Path) -> Dataset:
    advice = f"run 'fahw data fetch {known.name}', or give the folder that holds the files (--data-dir or FAHW_DATA)"
    paths = _find_all(known, root, advice)
    _refuse_other_set(known, paths[1], known.files[1])
    train = _read_part(known, paths[0], paths[1], advice)
    test = _read_part(known, paths[2], paths[3], advice)
    return Dataset(known.name, *train, *test, known.classes, known.maximum)


def _find_all(known: DatasetEntry, root: Path, advice: str) -> list[Path]:
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


def _refuse_other_set(known: DatasetEntry, path: Path, file: RemoteFile) -> None:
    """Fashion-MNIST's files are named as MNIST's are: a mix-up would go unnoticed, so the small file is recognised."""
    for other in DATASETS.values():
        for theirs in other.files:
            if other is not known and theirs.name == file.name and is_right(path, theirs):
                raise ConfigError(
                    Problem(str(path), f"this is {other.name}, not {known.name}; keep it in another folder")
                )


def _read_part(
    known: DatasetEntry, images: Path, labels: Path, advice: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
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
