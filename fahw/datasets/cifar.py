"""Reader of CIFAR-10's batches, binary or pickled; pickles are read by a loader that can build only plain values.

Binary: per image one label byte, then 3 x 32 x 32 bytes, channels first. Pickled: a dictionary with `data`, an array of
`(n, 3072)` bytes, and `labels`, a list. Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fahw.datasets.images import Images, Joined, Pixels
from fahw.errors import ConfigError, Problem

SHAPE, CLASSES = (3, 32, 32), 10
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", ".")
_VALUES = 3072

Part = tuple[Pixels | Images, NDArray[np.int64]]


def find_batches(folder: Path) -> list[Path]:
    """The paths of the six batches, in `folder` or in the folder that the published archive makes there; empty where
    there are none.

    Raises ConfigError where only some are there.
    """
    for below in _FOLDERS:
        for ending in (".bin", ""):
            paths = [folder / below / f"{name}{ending}" for name in BATCHES]
            missing = [path.name for path in paths if not path.is_file()]
            if not missing:
                return paths
            if len(missing) < len(BATCHES):
                raise ConfigError(Problem(str(folder / below), f"{', '.join(missing)} missing"))
    return []


def read_batches(paths: list[Path]) -> tuple[Part, Part]:
    """The training and the test part of the six batches. Raises ConfigError for a damaged file or a wrong label."""
    parts = [_read_binary(path) if path.suffix == ".bin" else _read_pickled(path) for path in paths]
    images, labels = [part[0] for part in parts[:5]], [part[1] for part in parts[:5]]
    return (Joined(images), np.concatenate(labels)), parts[5]


def _read_binary(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """The images and labels of one binary batch; the images stay on disk, mapped into memory."""
    try:
        size = path.stat().st_size
        if size == 0 or size % (_VALUES + 1):
            raise ConfigError(Problem(str(path), f"{size:,} bytes are not whole records of {_VALUES + 1:,} bytes"))
        records = np.memmap(path, np.uint8, "r").reshape(-1, _VALUES + 1)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    return records[:, 1:].reshape(-1, *SHAPE), _checked(path, records[:, 0].astype(np.int64))


def _read_pickled(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """The images and labels of one pickled batch."""
    try:
        with path.open("rb") as stream:
            value = load_plain(stream)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    except ValueError as error:
        raise ConfigError(Problem(str(path), str(error))) from error
    batch = {_text(key): item for key, item in value.items()} if isinstance(value, dict) else {}
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _VALUES:
        raise ConfigError(Problem(str(path), f"no array 'data' of n x {_VALUES} bytes in it"))
    if not isinstance(labels, list) or not all(type(label) is int for label in labels) or len(labels) != len(data):
        raise ConfigError(Problem(str(path), f"no list 'labels' of {len(data)} whole numbers in it"))
    return data.reshape(-1, *SHAPE), _checked(path, np.array(labels, dtype=object))


def _checked(path: Path, labels: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as int64. Raises ConfigError for one that is no class."""
    bad = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(bad):
        raise ConfigError(Problem(str(path), f"label {bad[0]} is {labels[bad[0]]}, expected 0 to {CLASSES - 1}"))
    return labels.astype(np.int64)


def _text(key: object) -> object:
    """The key as text where it is bytes, as Python 2 wrote its keys."""
    return key.decode("latin1") if isinstance(key, bytes) else key


# Pickles: the stand-ins below take the place of NumPy's own classes, so that no foreign code runs.


class _Dtype:
    """The stand-in for numpy.dtype while a pickle is read; it keeps the type code, nothing else."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = _text(code)

    def __setstate__(self, state: object) -> None: ...


class _Array:
    """The stand-in for numpy.ndarray; it keeps the state that numpy's own pickles give an array."""

    state: object = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state

    def value(self) -> NDArray[Any]:
        """The array. Raises ValueError where the state is not that of whole numbers."""
        match self.state:
            case (_, tuple() as shape, _Dtype() as dtype, fortran, raw):
                pass
            case _:
                raise ValueError("an array of unknown form")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if dtype.code not in ("u1", "|u1", "b1", "i8", "u8", "i4") or not isinstance(raw, bytes):
            raise ValueError(f"an array of type {dtype.code!r}; only whole numbers are read")
        return np.frombuffer(raw, np.dtype(str(dtype.code))).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    """The stand-in for numpy's `_reconstruct`, whose result gets its state afterwards."""
    return _Array()


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    """The stand-in for numpy's `_frombuffer`, which newer pickles call with an array's whole state."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(raw) if isinstance(raw, bytes | bytearray) else raw)
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """The stand-in for `_codecs.encode`, with which protocol 2 writes bytes. Raises ValueError but for latin1 text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError(f"text in encoding {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that builds arrays of whole numbers, bytes, text, numbers, lists and dictionaries only."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the pickle. Raises UnpicklingError for one that has none."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data; it is not read")
        return _STAND_INS[module, name]


def load_plain(stream: BinaryIO) -> object:
    """The value of a pickle of plain values and arrays of whole numbers.

    No code of the pickle's choosing runs: every name in it is looked up in a table of a few stand-ins. Raises
    ValueError where it holds anything else or is damaged.
    """
    try:
        return _plain(_PlainUnpickler(stream, encoding="bytes").load())
    except (
        pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError,
        OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise ValueError(f"not a pickle of plain values: {error}") from error


def _plain(value: object) -> object:
    """The value with its stand-ins for arrays turned into arrays."""
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
