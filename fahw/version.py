"""The version of the code, and digests of its sources, which stored results name."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from hashlib import sha256
from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).resolve().parent


def code_files(without: Collection[str], but: Collection[str] = ()) -> list[Path]:
    """The package's sources and tables, except those in the top-level folders `without`; of these, the files named in
    `but` are included all the same."""
    files = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("data/*.csv")])
    relative_names = {path: path.relative_to(PACKAGE) for path in files}
    return [path for path, name in relative_names.items() if name.parts[0] not in without or name.as_posix() in but]


@cache
def code_digest(without: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
    """A digest of the bytes of `code_files`, 20 hexadecimal digits."""
    digest = sha256(__version__.encode())
    for path in code_files(without, but):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()[:20]
