"""Data sets as arrays: the bundled digits, known sets from files on disk, and the user's own.

    data = load_dataset("digits")
    data.train_images / data.maximum    # (1437, 1, 8, 8), in [0, 1]
    load_dataset("cifar10", Path("data"));  load_dataset("my_set.npz");  load_dataset("my_images/")

Nothing is downloaded here; `fetch` does that, and only when asked.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import suppress
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
from fahw.errors import ConfigError, Problem, check_path, suggestion
from fahw.files import expanded

_TEST_EVERY = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: images and labels. `image / maximum` lies in [0, 1].

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
        """The shape of one image: (channels, height, width) or (features,)."""
        return self.train_images.shape[1:]

    @cached_property
    def content_hash(self) -> str:
        """The SHA-256 of the shapes and values, in hexadecimal; it does not depend on where they came from."""
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
    entry = DATASETS[name]
    loaders = {"bundled": _load_digits, "idx": _load_idx, "cifar": _load_cifar}
    return loaders[entry.kind](entry, data_folder(data_dir))


def check_name(name: str, data_dir: Path | None = None) -> Path | None:
    """The path of the user's own set, or None for a known set. Raises ConfigError where `name` is neither."""
    if name in DATASETS:
        return None
    check_path("data", name, "the name of a data set, or a path")
    user_path = expanded("data", Path(name))
    with suppress(OSError, ValueError):  # too long for a path
        for path in (user_path, data_folder(data_dir) / user_path):
            if name and path.exists():
                return path
    if user_path.suffix.lower() == ".npz" or len(user_path.parts) > 1:
        raise ConfigError(Problem("data", f"no file or folder '{name}' (here or in {data_folder(data_dir)})"))
    choices = f"known: {', '.join(DATASETS)}; or the path of an .npz file or of a folder"
    raise ConfigError(Problem("data", f"no data set '{name}'{suggestion(name, DATASETS)}; {choices}"))


def data_folder(data_dir: Path | None = None) -> Path:
    """The folder of the data sets: `data_dir`, else $FAHW_DATA, else `fahw` in the user's cache folder."""
    if data_dir is not None:
        check_path("data_dir", data_dir)
        return expanded("data_dir", Path(data_dir))
    if from_environment := os.environ.get("FAHW_DATA"):
        return expanded("FAHW_DATA", Path(from_environment))
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fahw"


def _load_path(name: str, path: Path, image_size: tuple[int, int] | None) -> Dataset:
    """The user's own set at `path`: an .npz file, CIFAR-10's batches or a folder of images."""
    if path.is_file():
        if path.suffix.lower() != ".npz":
            text = "expected an .npz file, or a folder with train/CLASS/*.png or with CIFAR-10's batches"
            raise ConfigError(Problem(str(path), text))
        arrays = read_npz(path)
        train, test = (arrays.train_images, arrays.train_labels), (arrays.test_images, arrays.test_labels)
        return Dataset(name, *train, *test, arrays.classes, arrays.maximum)
    if batches := find_batches(path):
        return _cifar(name, batches)
    train, test, classes = read_folder(path, image_size)
    return Dataset(name, *train, *test, classes, 255)


def _load_cifar(entry: DatasetEntry, root: Path) -> Dataset:
    """CIFAR-10 from the folder `root` or its subfolder of that name."""
    for folder in (root / entry.name, root):
        if batches := find_batches(folder):
            return _cifar(entry.name, batches)
    advice = f"run 'fahw data fetch {entry.name}', or give the folder that holds the files (--data-dir or FAHW_DATA)"
    text = f"no {entry.name} here or in '{entry.name}/' (looked for data_batch_1.bin); {advice}"
    raise ConfigError(Problem(str(root), text))


def _cifar(name: str, batches: list[Path]) -> Dataset:
    """The data set of CIFAR-10's six batches, under the name `name`."""
    train, test = read_batches(batches)
    entry = DATASETS["cifar10"]
    return Dataset(name, *train, *test, entry.classes, entry.maximum)


def _load_digits(entry: DatasetEntry, root: Path) -> Dataset:
    """The bundled digits: sorted by class, every fifth is for testing, 360 with all classes in proportion."""
    packed = (resources.files("fahw") / "data" / "digits.csv.gz").read_bytes()
    _, _, body = gzip.decompress(packed).decode("ascii").partition("\n")
    table = np.array(body.replace("\n", ",").rstrip(",").split(","), np.uint8).reshape(-1, 65)
    labels, images = table[:, 0].astype(np.int64), table[:, 1:].reshape(-1, *entry.shape)
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::_TEST_EVERY]] = True
    return Dataset(entry.name, images[~test], labels[~test], images[test], labels[test], entry.classes, entry.maximum)


def _load_idx(entry: DatasetEntry, root: Path) -> Dataset:
    """A set of the MNIST family from the folder `root` or its subfolder of that name."""
    advice = f"run 'fahw data fetch {entry.name}', or give the folder that holds the files (--data-dir or FAHW_DATA)"
    paths = _find_all(entry, root, advice)
    _refuse_other_set(entry, paths[1], entry.files[1])
    train = _read_part(entry, paths[0], paths[1], advice)
    test = _read_part(entry, paths[2], paths[3], advice)
    return Dataset(entry.name, *train, *test, entry.classes, entry.maximum)


def _find_all(entry: DatasetEntry, root: Path, advice: str) -> list[Path]:
    """The paths of the set's files, all in one folder: the sets of the MNIST family use the same file names."""
    searched = [root / entry.name, root]
    for folder in searched:
        paths = [_find(folder, file) for file in entry.files]
        if all(paths):
            return [path for path in paths if path]
        if any(paths):
            missing = [file.name for file, path in zip(entry.files, paths, strict=True) if not path]
            raise ConfigError(Problem(str(folder), f"{', '.join(missing)} missing (packed or not); {advice}"))
    names = ", ".join(file.name for file in entry.files)
    raise ConfigError(Problem(str(root), f"no {entry.name} here or in '{entry.name}/' (looked for {names}); {advice}"))


def _find(folder: Path, file: RemoteFile) -> Path | None:
    """The path of a published file in `folder`, packed or not; None where it is missing."""
    bare = file.name.removesuffix(".gz")
    dotted = bare.replace("-idx", ".idx")  # as some mirrors name the unpacked files
    return next((folder / name for name in (file.name, bare, dotted) if (folder / name).is_file()), None)


def _refuse_other_set(entry: DatasetEntry, path: Path, file: RemoteFile) -> None:
    """Raise ConfigError where `path` holds another set: the MNIST family shares file names, so only checksums tell."""
    for other in DATASETS.values():
        for other_file in other.files:
            if other is not entry and other_file.name == file.name and is_right(path, other_file):
                raise ConfigError(
                    Problem(str(path), f"this is {other.name}, not {entry.name}; keep it in another folder")
                )


def _read_part(
    entry: DatasetEntry, images: Path, labels: Path, advice: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images `(n, *entry.shape)` and labels `(n,)` of two IDX files. Raises ConfigError where they do not fit."""
    pixels = read_idx(images, entry.shape[1:], advice)
    classes = read_idx(labels, (), advice)
    if len(pixels) != len(classes):
        message = f"{len(classes)} labels, but {images.name} holds {len(pixels)} images; {advice}"
        raise ConfigError(Problem(str(labels), message))
    if int(classes.max()) >= entry.classes:
        index = int(np.argmax(classes >= entry.classes))
        message = f"label {index} is {classes[index]}, expected 0 to {entry.classes - 1}; {advice}"
        raise ConfigError(Problem(str(labels), message))
    return pixels.reshape(-1, *entry.shape), classes.astype(np.int64)
