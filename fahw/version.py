"""Which code this is: its version, and digests of its sources, which stored results name."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from hashlib import sha256
from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).resolve().parent


def code_files(without: Collection[str], but: Collection[str] = ()) -> list[Path]:
    """The sources of the package and its tables, save for the folders `without` at its top; there, those named in `but`
    count all the same. A folder that is not named is in."""
    files = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("data/*.csv")])
    inside = {path: path.relative_to(PACKAGE) for path in files}
    return [path for path, name in inside.items() if name.parts[0] not in without or name.as_posix() in but]


@cache
def code_digest(without: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
    """A digest of `code_files`: a change of any of them changes it."""
    digest = sha256(__version__.encode())
    for path in code_files(without, but):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()[:20]
