"""Reader of image folders in ImageNet's layout: `train/CLASS/*.png` for training, `test/` or else `val/` for testing.

Classes are the names of the training folders, in the order of their names. Every file's header is read before anything
trains; the pixels of large sets are decoded batch by batch. PNG and PPM decode to the same bits everywhere, JPEG to
those of the installed decoder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fahw.datasets.images import MOST_SAMPLES, Images, Pixels
from fahw.errors import ConfigError, Problem, suggestion

ENDINGS = (".png", ".ppm", ".pgm", ".jpg", ".jpeg")
_EXACT_ENDINGS = (".png", ".ppm", ".pgm")
_READ_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_GREY_MODES = ("1", "L")
_IN_MEMORY_BYTES = 1 << 28
_MOST_SHOWN = 10
MOST_PIXELS = 1 << 26
"""The most pixels of an image, width times height: a file of a few bytes can say that it has billions."""
_FORMATS = ("PNG", "PPM", "JPEG")
"""What is opened, whatever the file is called: Pillow would run Ghostscript for an EPS file."""

Part = tuple[Pixels | Images, NDArray[np.int64]]


@dataclass(frozen=True)
class _PartFiles:
    """The image files of one part (training or test) with their labels, int64 `(n,)`."""

    paths: list[Path]
    labels: NDArray[np.int64]


class FolderImages(Images):
    """Images in files, each decoded when it is asked for; `resized`: scaled to cover `shape`, and cropped to it."""

    def __init__(self, root: Path, paths: list[Path], shape: tuple[int, int, int], resized: bool) -> None:
        super().__init__((len(paths), *shape), np.dtype(np.uint8))
        self._root, self._paths, self._resized = root, paths, resized

    def _take(self, rows: NDArray[np.int64]) -> Pixels:
        out: Pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for slot, row in enumerate(rows):
            out[slot] = self._decode(self._paths[row])
        return out

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """The pixels of one file, (channels, height, width). Raises ConfigError for a damaged file."""
        pillow = _pillow()
        channels, height, width = self.shape[1:]
        try:
            with pillow.open(path, formats=_FORMATS) as image:
                _check_pixels(image)
                image = image.convert("L" if channels == 1 else "RGB")
                if self._resized:
                    method = pillow.Resampling.BILINEAR
                    image = import_module("PIL.ImageOps").fit(image, (width, height), method=method)
                pixels = np.asarray(image, np.uint8)
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            raise ConfigError(Problem(str(path), f"cannot be decoded ({error})")) from error
        return pixels.reshape(height, width, channels).transpose(2, 0, 1)

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Feed the checksum with the files' bytes, as decoding a large set takes hours, and with the decoder's version
        where the pixels depend on it."""
        if self._resized or any(path.suffix.lower() not in _EXACT_ENDINGS for path in self._paths):
            digest.update(f"pillow {import_module('PIL').__version__}".encode())
        for path in self._paths:
            digest.update(f" {path.relative_to(self._root).as_posix()} {path.stat().st_size} ".encode())
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)


def read_folder(root: Path, image_size: tuple[int, int] | None) -> tuple[Part, Part, int]:
    """The training part, the test part and the number of classes.

    `image_size`: (height, width) that every image is scaled to cover and then cropped to; None where all are alike.
    Raises ConfigError with every unreadable file, unknown class and odd size.
    """
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise ConfigError(Problem(str(root), "not an image folder: needs train/CLASS/*.png and test/ (or val/) alike"))
    names = sorted(path.name for path in _folders(root / "train"))
    classes = {name: number for number, name in enumerate(names)}
    problems: list[Problem] = []
    listed = [_list(folder, classes, problems) for folder in (root / "train", tests[0])]
    if problems:
        raise ConfigError(problems)
    shape = _common_shape(listed[0].paths + listed[1].paths, image_size)
    train, test = ((FolderImages(root, part.paths, shape, image_size is not None), part.labels) for part in listed)
    return _decoded_if_small(train), _decoded_if_small(test), len(classes)


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder` whose names do not start with a dot."""
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _list(folder: Path, classes: dict[str, int], problems: list[Problem]) -> _PartFiles:
    """The image files in `folder`, by class and then by name; `classes` numbers these by name; mistakes are added
    to `problems`."""
    paths: list[Path] = []
    labels: list[int] = []
    for class_folder in sorted(_folders(folder), key=lambda path: path.name):
        if class_folder.name not in classes:
            text = f"no class of this name in train/{suggestion(class_folder.name, classes)}"
            problems.append(Problem(str(class_folder), text))
            continue
        images = sorted(path for path in class_folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
        if len(paths) + len(images) > MOST_SAMPLES:
            raise ConfigError(Problem(str(folder), f"more than {MOST_SAMPLES:,} images"))
        paths += images
        labels += [classes[class_folder.name]] * len(images)
        if not images and folder.name == "train":
            problems.append(Problem(str(class_folder), f"no images in it ({', '.join(ENDINGS)})"))
    if not paths and not problems:
        problems.append(Problem(str(folder), f"no images in folders of classes ({', '.join(ENDINGS)})"))
    return _PartFiles(paths, np.array(labels, np.int64))


def _common_shape(paths: list[Path], image_size: tuple[int, int] | None) -> tuple[int, int, int]:
    """The common (channels, height, width) of all images; one channel where every file is grey."""
    all_grey, first = True, None
    problems: list[Problem] = []
    for path in paths:
        try:
            width, height, mode = _header(path)
        except ConfigError as error:
            problems += error.problems
            continue
        all_grey = all_grey and mode in _GREY_MODES
        first = first or (height, width)
        if image_size is None and (height, width) != first:
            text = f"{height} x {width}, but {paths[0].name} is {first[0]} x {first[1]}: sizes differ"
            problems.append(Problem(str(path), f"{text}; recipe.image_size scales and crops all to one"))
    if len(problems) > _MOST_SHOWN:
        rest = Problem(str(paths[0].parents[2]), f"{len(problems) - _MOST_SHOWN:,} more files are wrong")
        problems = [*problems[:_MOST_SHOWN], rest]
    if problems:
        raise ConfigError(problems)
    assert first is not None
    return (1 if all_grey else 3, *(image_size or first))


def _header(path: Path) -> tuple[int, int, str]:
    """The (width, height, mode) that an image file's header names."""
    pillow = _pillow()
    try:
        with pillow.open(path, formats=_FORMATS) as image:
            _check_pixels(image)
            width, height = image.size
            mode = str(image.mode)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ConfigError(Problem(str(path), f"not an image that can be read ({error})")) from error
    if mode not in _READ_MODES:
        raise ConfigError(Problem(str(path), f"pixels of kind '{mode}'; expected 8 bits per channel"))
    return width, height, mode


def _check_pixels(image: Any) -> None:
    """Raise ValueError where an image that is not decoded yet says that it has more than `MOST_PIXELS`."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels; at most {MOST_PIXELS:,} are decoded")


def _decoded_if_small(part: tuple[FolderImages, NDArray[np.int64]]) -> Part:
    """The part, its images decoded at once where they are few: that finds every damaged file before training."""
    images, labels = part
    return (images[:] if prod(images.shape) <= _IN_MEMORY_BYTES else images), labels


def _pillow() -> Any:
    """The module PIL.Image. Raises ConfigError where Pillow is not installed."""
    try:
        return import_module("PIL.Image")
    except ImportError:
        raise ConfigError(Problem("data", "image folders need Pillow: pip install 'fahw[images]'")) from None
