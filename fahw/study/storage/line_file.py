"""Append-only files of results, a line each, that a torn or damaged line cannot spoil.

A line is `{"crc":"1a2b3c4d","key":"...","value":...}`: JSON, with a checksum of what follows it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from fahw.files import MOST_STORED_BYTES, is_too_large, process_mark
from fahw.stored_json import StoredJsonError, json_value

_HEAD = '{"crc":"'
_KEY = '"key":"'
_VALUE = '","value":'
_START = len(_HEAD) + 8 + 2


class LineFile:
    """A new file in a folder that only this process appends to; it is made when the first lines come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: FileIO | None = None

    def append(self, lines: Sequence[tuple[str, str]]) -> None:
        """Add (key, value as JSON text) pairs, on disk when this returns. Raises OSError where the disk is full."""
        if not lines:
            return
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = _new_file(self._folder)
        data = "".join(_line(key, value) for key, value in lines).encode()
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            name = str(self._file.name)
            self.close()  # the next lines go to a new file: nothing is written behind a torn line
            raise OSError(error.errno, error.strerror, name) from None

    def close(self) -> None:
        """Close the file; lines that come later go to a new one."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what was written is on disk
                file.close()


def _new_file(folder: Path) -> FileIO:
    """A file in the folder that nobody else has. No clock is asked for its name: it may stand, or be set back."""
    for number in count():
        with suppress(FileExistsError):
            name = f"{process_mark().replace('.', '-')}-{number}.jsonl"
            return (folder / name).open("xb", buffering=0)  # bytes: line ends are the same on any system
    raise AssertionError


def _line(key: str, value: str) -> str:
    """A line of the file, its checksum included."""
    body = f"{_KEY}{key}{_VALUE}{value}}}"
    return f'{_HEAD}{crc32(body.encode()):08x}",{body}\n'


def read_lines(folder: Path, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of every whole line whose key is `wanted`; a line that is torn or damaged is passed over. A key can
    come more than once, with equal values."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            while content := file.readline(MOST_STORED_BYTES):
                line = content.decode(errors="replace").removesuffix("\n").removesuffix("\r")
                key, _, value = line[_START + len(_KEY) :].partition(_VALUE)
                if key in wanted and content.endswith(b"\n") and not is_too_large(content) and _is_whole(line):
                    with suppress(StoredJsonError):
                        yield key, json_value(value[:-1])


def _is_whole(line: str) -> bool:
    """Whether a line agrees with its checksum."""
    body = line[_START:]
    return line[:_START] == f'{_HEAD}{crc32(body.encode()):08x}",'
