"""Reader of a user's own data: an NPZ file of x_train, y_train, x_test, y_test, all of whose values are checked first.

Nothing is unpickled. Arrays that were stored without compression (`numpy.savez`) are mapped into memory, not read.
Pixels are whole numbers from 0 to `maximum` (255 unless the file has a number of that name) or fractions in [0, 1],
which are kept to 16 bits.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fahw.datasets.images import MOST_SAMPLES, MOST_UNPACKED_BYTES, Converted, Images, Pixels, blocks
from fahw.errors import ConfigError, Problem, suggestion

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
FRACTION_LEVELS = 65535
"""Largest pixel value of images given as fractions: finer than any format of the arithmetic."""

MOST_NPZ_BYTES = 1 << 36
"""The most bytes of an array in a file; larger sets come as folders of images."""
MOST_DIRECTORY_BYTES = 1 << 20
"""The most bytes of a directory of members: one of millions takes minutes to list."""
_MAX_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Arrays:
    """The checked arrays of the file. Images `(n, *shape)` and labels `(n,)`, int64."""

    train_images: Pixels | Images
    train_labels: NDArray[np.int64]
    test_images: Pixels | Images
    test_labels: NDArray[np.int64]
    classes: int
    maximum: int


def read_npz(path: Path) -> Arrays:
    """The arrays of an NPZ file. Raises ConfigError with every mistake and its place: missing, NaN, out of range, or of
    another shape."""
    try:
        arrays = _members(path)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(Problem(str(path), f"cannot be read as an NPZ file of numbers: {reason}")) from error
    problems = list(_missing(path, arrays)) or list(_problems(path, arrays))
    if problems:
        raise ConfigError(problems)
    train, test = _labels(arrays["y_train"]), _labels(arrays["y_test"])
    images = [_pixels(arrays[name], _maximum(arrays)) for name in ("x_train", "x_test")]
    return Arrays(images[0], train, images[1], test, _classes(arrays), _levels(arrays))


def _missing(path: Path, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
    """Yield a problem for every required array that is missing."""
    for name in REQUIRED:
        if name not in arrays:
            others = [member for member in arrays if member not in REQUIRED]
            yield Problem(str(path), f"no array '{name}'{suggestion(name, others)}; needs {', '.join(REQUIRED)}")


def _problems(path: Path, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
    """Yield every mistake in the arrays; all required ones are there."""
    for name in ("maximum", "classes"):
        value = arrays.get(name)
        if value is not None and (value.size != 1 or value.dtype.kind not in "iu" or not 1 <= value.item() <= 65535):
            yield Problem(str(path), f"{name}: must be one whole number from 1 to 65535")
            return
    shapes = {name: _image_shape(arrays[name]) for name in ("x_train", "x_test")}
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        part_problems = list(_image_problems(path, f"x_{part}", images, _maximum(arrays)))
        part_problems += _label_problems(path, f"y_{part}", labels, arrays, part)
        yield from part_problems
        if not part_problems and len(images) != len(labels):
            yield Problem(str(path), f"y_{part} has {len(labels)} labels, x_{part} {len(images)} images")
    kinds = {name: arrays[name].dtype.kind == "f" for name in shapes}
    if shapes["x_train"] != shapes["x_test"]:
        text = f"images differ in size: x_train's are {shapes['x_train']}, x_test's {shapes['x_test']}"
        yield Problem(str(path), text)
    elif kinds["x_train"] != kinds["x_test"]:
        yield Problem(str(path), "x_train and x_test must both be whole numbers or both be fractions in [0, 1]")


def _image_problems(path: Path, name: str, array: NDArray[Any], maximum: int) -> Iterator[Problem]:
    """Yield the first mistake in an array of images: its shape, its type, or its values."""
    allowed = "(n, features), (n, height, width) or (n, channels, height, width)"
    if len(array) > MOST_SAMPLES:
        yield Problem(str(path), f"{name} holds {len(array):,} images; at most {MOST_SAMPLES:,} are read")
    elif array.ndim not in (2, 3, 4) or 0 in array.shape:
        yield Problem(str(path), f"{name} has shape {array.shape}; expected {allowed}, none of them 0")
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        yield Problem(str(path), f"{name} has shape {array.shape}: channels last; expected {allowed}")
    elif array.dtype.kind not in "biuf":
        yield Problem(str(path), f"{name} holds {array.dtype}; expected whole numbers, or fractions in [0, 1]")
    else:
        largest = 1 if array.dtype.kind in "fb" else maximum
        yield from _outside(path, name, array, largest)


def _outside(path: Path, name: str, array: NDArray[Any], largest: int) -> Iterator[Problem]:
    """Yield a problem that names the first value that is not a number from 0 to `largest`, and how many there are."""
    count, first = 0, ""
    for start, block in blocks(array):
        bad = ~((block >= 0) & (block <= largest))  # NaN compares false
        if bad.any():
            index = np.argwhere(bad)[0]
            value = block[tuple(index)]
            index[0] += start
            first = first or f"{name}[{', '.join(map(str, index))}] is {value}"
            count += int(bad.sum())
    if count:
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        scale = "; divide by the largest value" if array.dtype.kind == "f" and "nan" not in first else ""
        yield Problem(str(path), f"{first}, expected 0 to {largest}{more}{scale}")


def _label_problems(
    path: Path, name: str, array: NDArray[Any], arrays: dict[str, NDArray[Any]], part: str
) -> Iterator[Problem]:
    """Yield the first mistake in the labels of `part` (train or test): their shape, their type, or their values."""
    if array.ndim == 2 and array.shape[1] > 1:
        text = f"{name} has shape {array.shape}; expected class numbers (n,), as argmax makes of one-hot rows"
        yield Problem(str(path), text)
        return
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iu":
        text = f"{name} holds {array.dtype} of shape {array.shape}; expected whole numbers of shape (n,)"
        yield Problem(str(path), text)
        return
    if array.size > MOST_SAMPLES:
        yield Problem(str(path), f"{name} holds {array.size:,} labels; at most {MOST_SAMPLES:,} are read")
        return
    train_labels = arrays["y_train"]
    has_limit = "classes" in arrays or (part == "test" and train_labels.dtype.kind in "iu" and train_labels.size)
    largest = _classes(arrays) - 1 if has_limit else 65534
    labels = array.reshape(-1)
    bad = np.flatnonzero((labels < 0) | (labels > largest))
    if len(bad):
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        yield Problem(str(path), f"{name}[{bad[0]}] is {labels[bad[0]]}, expected 0 to {largest}{more}")


def _image_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """The shape of one image; one of height and width alone gets one channel."""
    return (1, *array.shape[1:]) if array.ndim == 3 else array.shape[1:]


def _maximum(arrays: dict[str, NDArray[Any]]) -> int:
    """The largest value that whole-number pixels of the file may have."""
    return int(arrays["maximum"].item()) if "maximum" in arrays else 255


def _levels(arrays: dict[str, NDArray[Any]]) -> int:
    """The value of the brightest pixel in the images as fahw holds them."""
    kind = arrays["x_train"].dtype.kind
    return FRACTION_LEVELS if kind == "f" else 1 if kind == "b" else _maximum(arrays)


def _classes(arrays: dict[str, NDArray[Any]]) -> int:
    """The number of classes: as the file says, else one more than the largest training label."""
    stored = arrays.get("classes")
    return int((stored if stored is not None else arrays["y_train"].max() + 1).item())


def _labels(array: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as int64 `(n,)`."""
    return np.ascontiguousarray(array.reshape(-1), dtype=np.int64)


def _pixels(array: NDArray[Any], maximum: int) -> Pixels | Images:
    """The images as whole numbers; nothing is copied where they are bytes already."""
    shape = _image_shape(array)
    if array.dtype == np.uint8:
        return array.reshape(-1, *shape)
    if array.dtype.kind == "f":
        return Converted(array, shape, np.dtype(np.uint16), _fractions)
    kind = np.dtype(np.uint8 if maximum <= 255 or array.dtype.kind == "b" else np.uint16)
    return Converted(array, shape, kind, lambda block: block.astype(kind))


def _fractions(block: NDArray[Any]) -> Pixels:
    """Fractions in [0, 1] as whole numbers up to `FRACTION_LEVELS`."""
    return np.rint(block.astype(np.float64) * FRACTION_LEVELS).astype(np.uint16)


def _members(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that fahw reads, by name; where a required one is missing, also the names of others, all empty."""
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        file.most = sys.maxsize
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {*REQUIRED, "maximum", "classes"}
        _check_sizes([info for name, info in members.items() if name in wanted])
        arrays = {name: _member(path, archive, info) for name, info in members.items() if name in wanted}
        others = [name for name in members if name not in wanted][:_MAX_SHOWN]
    return arrays | ({} if set(REQUIRED) <= set(arrays) else {name: np.empty(0) for name in others})


class _Bounded(io.FileIO):
    """A file of which no more than `most` bytes are read at once: a zip file's directory is read in one piece."""

    most = MOST_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises ValueError where more are asked for than may be."""
        if size is not None and size > self.most:
            raise ValueError(f"its directory of members takes {size:,} bytes, at most {self.most:,} are read")
        return super().read(size) or b""


def _check_sizes(members: list[zipfile.ZipInfo]) -> None:
    """Raise ValueError where the packed members are larger than memory should hold."""
    size = sum(info.file_size for info in members if info.compress_type != zipfile.ZIP_STORED)
    if size > MOST_UNPACKED_BYTES:
        advice = "save larger ones with numpy.savez, which does not pack them"
        raise ValueError(f"its arrays unpack to {size:,} bytes, at most {MOST_UNPACKED_BYTES:,} are held; {advice}")


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of the archive, mapped into memory where it is not compressed. Raises ValueError for a wrong header."""
    name = info.filename.removesuffix(".npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that numpy does not use")
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is in version {version} of the format; save plain numbers")
        shape, fortran, dtype = _header(name, stream, version)
        start = stream.tell()
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are not unpickled; save numbers (dtype=...)")
        size = prod(shape) * dtype.itemsize
        if size > MOST_NPZ_BYTES or info.file_size != start + size:
            raise ValueError(f"{name}'s header says {size:,} bytes of values, {info.file_size - start:,} are there")
        order: Literal["C", "F"] = "F" if fortran else "C"
        if info.compress_type == zipfile.ZIP_STORED and size:
            while stream.read(1 << 20):  # to the end, where the checksum is compared
                pass
            offset = _data_offset(path, info) + start
            return np.memmap(path, dtype, "r", offset, shape, order)
        values = stream.read()
    return np.frombuffer(values, dtype).reshape(shape, order=order)


def _header(name: str, stream: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of a member, whether its first axis runs fastest, and its type. Raises ValueError for a header that is
    none: Python's own parser reads it, and has errors of its own."""
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = reader(stream)
    except (SyntaxError, TokenError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"{name}'s header is damaged: {error}") from None
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"{name}'s header says the shape {shape}, which no array has")
    return shape, fortran, dtype


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """The file offset of a member's bytes: behind its local header, whose two last fields are lengths."""
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise ValueError(f"no local header of {info.filename}")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)
