"""Append-only files of results, a line each, that a torn or damaged line cannot spoil.

A line is `{"crc":"1a2b3c4d","key":"...","value":...}`: JSON, with a checksum of what follows it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from json import loads
from pathlib import Path
from typing import Any
from zlib import crc32

_HEAD = '{"crc":"'
_KEY = '"key":"'
_VALUE = '","value":'
_START = len(_HEAD) + 8 + 2


class LineFile:
    """A new file in a folder that only this process appends to; it is made when the first lines come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def append(self, lines: Sequence[tuple[str, str]]) -> None:
        """Add (key, value as JSON text) pairs, on disk when this returns. Raises OSError where the disk is full."""
        if not lines:
            return
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{socket.gethostname()[:40]}-{os.getpid()}-{time.time_ns():x}.jsonl"
            self._file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        data = "".join(_line(key, value) for key, value in lines).encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            self.close()  # the next lines go to a new file: nothing is written behind a torn line
            raise

    def close(self) -> None:
        """Close the file; lines that come later go to a new one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(key: str, value: str) -> str:
    """A line of the file, its checksum included."""
    body = f"{_KEY}{key}{_VALUE}{value}}}"
    return f'{_HEAD}{crc32(body.encode()):08x}",{body}\n'


def read_lines(folder: Path, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of every whole line whose key is `wanted`; a line that is torn or damaged is passed over. A key can
    come more than once, with equal values."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                key, _, value = line[_START + len(_KEY) :].partition(_VALUE)
                if key in wanted and line.endswith("}\n") and _is_whole(line[:-1]):
                    yield key, loads(value[:-2])


def _is_whole(line: str) -> bool:
    """Whether a line agrees with its checksum."""
    body = line[_START:]
    return line[:_START] == f'{_HEAD}{crc32(body.encode()):08x}",'
