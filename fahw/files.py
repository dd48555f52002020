"""Files that are whole or absent: written aside, flushed to disk and renamed into place; and their text read back."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

from fahw.errors import ConfigError, Problem

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
_OPEN_FILES_STAY = os.name == "nt"
_PAUSES_S = (0.01, 0.1, 0.5, 1.0)
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
        _rename(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):  # what was raised before says more
            temporary.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path) -> None:
    """Put a file in the place of another. Windows refuses that while a program has the old one open, a virus scanner
    too, mostly for a moment: a few more tries are made."""
    for pause_s in _PAUSES_S if _OPEN_FILES_STAY else ():
        try:
            temporary.replace(path)
        except PermissionError:
            time.sleep(pause_s)
        else:
            return
    temporary.replace(path)


MOST_STORED_BYTES = 1 << 28
"""The most bytes of a stored file."""
MOST_STORED_VALUES = 10_000_000
"""The most values in a stored file of JSON, and the most cells of a table: each takes a hundred bytes of memory."""


def read_text(path: Path) -> str:
    """The text of a file that fahw wrote; line ends may be those of any system. Raises ConfigError where it is missing,
    no text, or beyond `MOST_STORED_BYTES` or `MOST_STORED_VALUES`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_STORED_BYTES + 1)
        if is_too_large(content):
            limits = f"{MOST_STORED_BYTES:,} bytes and {MOST_STORED_VALUES:,} values"
            raise ConfigError(Problem(str(path), f"is larger than anything that fahw stores: {limits}"))
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError(Problem(str(path), "no such file: is this a folder that fahw wrote?")) from None
    except UnicodeDecodeError as error:
        place = text_place(str(path), content[: error.start].decode("utf-8-sig", "replace"))
        raise ConfigError(Problem(place, f"is not UTF-8 text: {error.reason}")) from None
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {getattr(error, 'strerror', '') or error}")) from None


def expanded(name: str, path: Path) -> Path:
    """The path with the folder that a `~` at its start stands for; `name` says where it was given. Raises ConfigError
    where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(Problem(name, f"'{path}': no such user, or no home folder")) from None


def is_too_large(content: bytes) -> bool:
    """Whether a stored text has more bytes, or more values, than are read: brackets and commas are counted, with lines
    between which cells stand."""
    values = sum(map(content.count, (b",", b"[", b"{"))) + content.count(b"\n")
    return len(content) > MOST_STORED_BYTES or values > MOST_STORED_VALUES


def text_place(name: str, before: str) -> str:
    """`file:line:col` of what follows the text `before` in the file `name`."""
    return f"{name}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


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
