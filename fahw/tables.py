"""Tables as CSV text: no spreadsheet takes a cell for a formula, and what is read back is what was written.

A text that a spreadsheet could take for a formula (it starts with `=`, `+`, `@`, or with `-` and is no number), one
that starts with `'`, and one with control characters gets a `'` in front; in it backslashes are doubled, and control
characters stand as in Python. All others, and numbers, stand as they are; numbers that are not finite are left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any
from unicodedata import category

from fahw.errors import ConfigError, Problem, shortened
from fahw.files import read_text, write_text

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_FORMULA = re.compile(rf"\s*[=+@＝＋＠]|\s*[-－](?!{_NUMBER}\Z|\Z)|'")
"""Starts that programs take for a formula, their full-width forms too; and the mark of an escaped text itself."""
_CUT_AT = re.compile(r";(?=\s*[=+@＝＋＠\-－])")
"""A semicolon before such a start: where it parts cells, as it does in many countries, the next one is a formula."""
_SEMICOLON = r"\x3b"
_INFINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?|[0-9.]*e\+?[0-9]+|[0-9.]{300,})", re.I)
"""What may be a number that is not finite."""
_NAMES = ("component", "layer", "name", "part", "port", "reason")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt\\]))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV text: None is an empty cell, floats keep all digits, columns not in `columns` are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # which leaves a cell empty for None
    writer.writerow(map(_written, columns))
    writer.writerows([_written(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table; None becomes an empty cell, floats keep all their digits."""
    write_text(path, csv_text(columns, rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that fahw wrote: every cell by its column, as text. Raises ConfigError, with the line, where
    the file is missing, is no CSV, or has a row that is longer or shorter than its head or holds a number that is not
    finite."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        columns = [_read(name) for name in next(reader, ())]
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise _wrong(path, reader.line_num, str(error)) from None
    if len(set(columns)) < len(columns):
        raise _wrong(path, 1, "a column stands twice")
    for line, cells in lines:
        if len(cells) != len(columns):
            raise _wrong(path, line, f"{len(cells)} cells under {len(columns)} columns")
        for name, cell in zip(columns, cells, strict=True):
            if _INFINITE.fullmatch(cell) and not isfinite(float(cell)) and not _holds_names(name):
                raise _wrong(path, line, f"{name} is {shortened(cell)}, not a number that fahw writes")
    return [dict(zip(columns, map(_read, cells), strict=True)) for _, cells in lines]


def _holds_names(column: str) -> bool:
    """Whether the cells of a column are names, which may look like anything."""
    return column in _NAMES or column.startswith("axis.")


def _wrong(path: Path, line: int, message: str) -> ConfigError:
    """The error of a file that is no table."""
    return ConfigError(Problem(f"{path}:{max(1, line)}:1", f"cannot be read as CSV: {message}"))


def _written(value: Any) -> Any:
    """The cell of a value."""
    if isinstance(value, str):
        return _marked(value)
    return None if isinstance(value, float) and not isfinite(value) else value


@lru_cache(maxsize=4096)
def _marked(text: str) -> str:
    """The cell of a text: the text itself, or behind a `'` in its escaped form."""
    harmless = text.isprintable() or all(char.isprintable() or category(char) == "Zs" for char in text)
    if harmless and not _FORMULA.match(text) and not _CUT_AT.search(text):
        return text
    pieces = ("".join(repr(char)[1:-1] for char in piece) for piece in _CUT_AT.split(text))
    return f"'{_SEMICOLON.join(pieces)}"


def _read(cell: str) -> str:
    """The text of a cell."""
    return _ESCAPE.sub(_character, cell[1:]) if cell.startswith("'") else cell


def _character(match: re.Match[str]) -> str:
    """The character that an escape stands for; the escape itself where there is none of its number."""
    digits = match[1] or match[2] or match[3]
    if not digits:
        return _NAMED[match[4]]
    return chr(int(digits, 16)) if int(digits, 16) <= 0x10FFFF else match[0]
