"""Files that are whole or absent: written under a temporary name, flushed to disk and renamed into place."""

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
_TEMPORARY = re.compile(r"\.(?:.+\.(?:json|csv|csv\.gz|html|svg|state|pt)|probe)")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; a crash leaves the old file or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`; a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{process_mark()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV text: None is an empty cell, floats keep all digits, columns not in `columns` are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # which leaves a cell empty for None
    writer.writerow(columns)
    writer.writerows([row.get(name) for name in columns] for row in rows)
    return text.getvalue()


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed runs (`.summary.csv.HOST.4711`) from a run folder; living runs keep theirs."""
    for place in (folder, folder / "plots", folder / "ledgers", folder / "unfinished", *folder.glob("runs/*")):
        for path in place.glob(".*"):
            is_temporary = (
                path.is_file() and not path.is_symlink() and _TEMPORARY.fullmatch(path.name.rsplit(".", 2)[0])
            )
            if is_temporary and is_abandoned(path.name):
                path.unlink(missing_ok=True)


def process_mark() -> str:
    """The end of this process's temporary file names: machine and process, as machines may share a folder."""
    return f"{_HOST}.{os.getpid()}"


def is_abandoned(name: str) -> bool:
    """Whether `name` ends in the mark of a process of this machine that is gone."""
    _, host, process = f"..{name}".rsplit(".", 2)
    return host == _HOST and process.isdecimal() and not _is_running(int(process))


def _is_running(process: int) -> bool:
    """Whether a process has this number; True where the system cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
