"""Reader of the IDX files of the MNIST family, packed or not.

Layout: two zero bytes, the type (8: unsigned byte), the number of axes, one big-endian 32-bit size per axis, the
values. Whatever is wrong with a file is a ConfigError that names it; an array is returned whole or not at all.
"""

from __future__ import annotations

import gzip
import zlib
from io import BufferedReader
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fahw.datasets.images import MOST_SAMPLES, MOST_UNPACKED_BYTES
from fahw.errors import ConfigError, Problem

GZIP_MAGIC = b"\x1f\x8b"
_BYTE_TYPE = 8
_CHUNK_BYTES = 1 << 20


def read_idx(path: Path, shape: tuple[int, ...], advice: str) -> NDArray[np.uint8]:
    """The values of an IDX file, shape `(n, *shape)`; `shape` is what every entry must have, `()` for labels.

    Raises ConfigError, with `advice` on what to do, where the file cannot be read or is not what its header says.
    """
    try:
        with open_packed(path) as stream:
            return _read(stream, shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(Problem(str(path), f"{_reason(error)}; {advice}")) from error


def open_packed(path: Path) -> gzip.GzipFile | BufferedReader:
    """The bytes of a file, unpacked where it starts as gzip does: browsers unpack and keep the name."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")


def _read(stream: gzip.GzipFile | BufferedReader, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The values `(n, *shape)` of an IDX stream. Raises ValueError where the header or the length is wrong."""
    axes = 1 + len(shape)
    header = _read_up_to(stream, 4 + 4 * axes)
    expected = bytes((0, 0, _BYTE_TYPE, axes))
    if header[:4] != expected:
        start = header[:4].hex()
        raise ValueError(f"not an IDX file of bytes with {axes} axes: it starts {start}, not {expected.hex()}")
    if len(header) < 4 + 4 * axes:
        raise ValueError(f"the header ends after {len(header)} of {4 + 4 * axes} bytes")
    header_shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    if header_shape[1:] != shape or header_shape[0] == 0:
        raise ValueError(f"the header says {_times(header_shape)} values, expected {_times(('n', *shape))} with n > 0")
    if header_shape[0] > MOST_SAMPLES or prod(header_shape) > MOST_UNPACKED_BYTES:
        limits = f"at most {MOST_SAMPLES:,} images and {MOST_UNPACKED_BYTES:,} bytes are read"
        raise ValueError(f"the header says {_times(header_shape)} bytes of values; {limits}")
    return _values(stream, header_shape)


def _values(stream: gzip.GzipFile | BufferedReader, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The values after the header; one byte more is asked for, which also makes gzip check its own checksum."""
    count = prod(shape)
    values = _read_up_to(stream, count + 1)
    if len(values) != count:
        actual = "more" if len(values) > count else f"{len(values)} bytes"
        raise ValueError(f"the header says {_times(shape)} = {count} bytes of values, the file holds {actual}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_up_to(stream: gzip.GzipFile | BufferedReader, limit: int) -> bytearray:
    """The next bytes, at most `limit`, read in chunks: a corrupt header may ask for more than any memory holds."""
    out = bytearray()
    while len(out) < limit and (chunk := stream.read(min(_CHUNK_BYTES, limit - len(out)))):
        out += chunk
    return out


def _times(sizes: tuple[object, ...]) -> str:
    """The sizes as text, `60000 x 28 x 28`."""
    return " x ".join(map(str, sizes))


def _reason(error: Exception) -> str:
    """The reason why a file cannot be read, in words."""
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return f"damaged or cut-off gzip file ({error})"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)
