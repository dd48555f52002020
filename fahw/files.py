"""Files that are whole or absent: written aside, flushed to disk and renamed into place."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_ASIDE = re.compile(r"\.(?:.+\.(?:json|csv|csv\.gz|html|svg|pt)\.|probe-)([0-9]{1,10})")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; a crash leaves the old file or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`; a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table; None becomes an empty cell, floats keep all their digits, other columns than `columns` are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # which leaves a cell empty for None
    writer.writerow(columns)
    writer.writerows([row.get(name) for name in columns] for row in rows)
    return text.getvalue()


def sweep_aside(folder: Path) -> None:
    """Remove from a run folder what killed runs left aside (`.summary.csv.4711`); a living process keeps its own."""
    for place in (folder, folder / "plots", folder / "ledgers", folder / "unfinished", *folder.glob("runs/*")):
        for path in place.glob(".*"):
            found = _ASIDE.fullmatch(path.name)
            if found and path.is_file() and not path.is_symlink() and not _lives(int(found[1])):
                path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether there is a process of this number; where that cannot be asked, it is taken to be there."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
