"""Files that are whole or absent: written aside, flushed to disk and renamed into place."""

from __future__ import annotations

import csv
import io
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
_ASIDE = re.compile(r"\.(?:.+\.(?:json|csv|csv\.gz|html|svg|pt)|probe)")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; a crash leaves the old file or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`; a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{process_suffix()}")
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
    """Remove from a run folder what killed runs left aside (`.summary.csv.HOST.4711`); the living keep their own."""
    for place in (folder, folder / "plots", folder / "ledgers", folder / "unfinished", *folder.glob("runs/*")):
        for path in place.glob(".*"):
            ours = path.is_file() and not path.is_symlink() and _ASIDE.fullmatch(path.name.rsplit(".", 2)[0])
            if ours and is_of_dead_process(path.name):
                path.unlink(missing_ok=True)


def process_suffix() -> str:
    """The end of the names of what this process writes aside: machine and process. Other machines may share the
    folder."""
    return f"{_HOST}.{os.getpid()}"


def is_of_dead_process(name: str) -> bool:
    """Whether `name` ends in the suffix of a process of this machine that is gone."""
    _, host, process = f"..{name}".rsplit(".", 2)
    return host == _HOST and process.isdecimal() and not _lives(int(process))


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
