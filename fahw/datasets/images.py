"""Images that are not held in memory: read, joined or converted when a batch asks for them.

Numpy arrays and `Images` are used alike: `len(x)`, `x.shape`, `x.dtype` and `x[indices]`, which yields an array.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
MOST_SAMPLES = 20_000_000
"""The most images of a data set: what fahw holds for each in memory then stays below a gigabyte or two."""
MOST_UNPACKED_BYTES = 1 << 30
"""The most bytes that a packed file may unpack to: what is packed is held in memory, and 1 MB can stand for 1 GB."""
BLOCK_BYTES = 1 << 24
"""Size of the blocks in which large arrays are read."""


class Images(ABC):
    """Images that are read where they are indexed: `shape` is `(n, *one image's)`, `dtype` that of the pixels."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Pixels:
        """The chosen images, `(chosen, *one image's)`, in the order asked for."""
        rows = np.arange(len(self), dtype=np.int64)[index]
        return self._take(rows)

    @abstractmethod
    def _take(self, rows: NDArray[np.int64]) -> Pixels:
        """The images numbered `rows`, `(len(rows), *one image's)`."""

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Feed the checksum `digest` with everything that the pixels depend on."""
        for _, block in blocks(self):
            digest.update(np.ascontiguousarray(block).data)


class Joined(Images):
    """Several arrays joined into one, such as files on disk that are mapped into memory."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        super().__init__((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def _take(self, rows: NDArray[np.int64]) -> Pixels:
        out: Pixels = np.empty((len(rows), *self.shape[1:]), self.dtype)
        part_numbers = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(self._parts):
            in_part = part_numbers == number
            if in_part.any():
                out[in_part] = part[rows[in_part] - (self._ends[number] - len(part))]
        return out


class Converted(Images):
    """An array whose values become pixels block by block; `convert` keeps the shape."""

    def __init__(
        self,
        array: NDArray[Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        convert: Callable[[NDArray[Any]], Pixels],
    ) -> None:
        super().__init__((len(array), *shape), dtype)
        self._array, self._convert = array, convert

    def _take(self, rows: NDArray[np.int64]) -> Pixels:
        return self._convert(np.asarray(self._array[rows])).reshape(len(rows), *self.shape[1:])


def blocks(array: NDArray[Any] | Images) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the array in blocks of a few MiB, as (index of the first row, rows)."""
    row_bytes = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize)
    size = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), size):
        yield start, array[start : start + size]
