"""Which files of a run folder have changed since fahw wrote them: its manifest holds their checksums, and its own."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from fahw.errors import printable, shortened
from fahw.stored_json import read_json

_TABLES = (
    "details.json", "epochs.csv", "equal_accuracy.csv", "equal_area.csv", "front.csv", "ledger.csv", "roofline.csv",
    "rounding.csv", "sensitivity.csv", "summary.csv", "uncertainty.csv",
)  # fmt: skip
"""The tables of run folders; beside them the packed ledgers of large sweeps."""
_MOST_NAMED = 12


def with_checksums(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the SHA-256 of every table that is in the folder, and one of all that itself says."""
    summed = manifest | {"files": {name: _checksum(folder / name) for name in _names(folder)}}
    return summed | {"sha256": _own_checksum(summed)}


def change_sentence(folder: Path) -> str:
    """The sentence that says which files of a run folder are not as fahw wrote them; empty where all are. Raises
    ConfigError where its manifest is missing or broken."""
    manifest = read_json(folder / "manifest.json")
    checksums = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(checksums, dict):
        return "Its manifest holds no checksums, so whether the tables of this folder were changed cannot be told."
    own = {name: value for name, value in manifest.items() if name != "sha256"}
    changed = [] if manifest.get("sha256") == _own_checksum(own) else ["manifest.json"]
    names = _names(folder)
    changed += [name for name in names if name in checksums and checksums[name] != _checksum(folder / name)]
    parts = {"": changed, "missing": sorted(set(checksums) - set(names)), "new": sorted(set(names) - set(checksums))}
    listed = "; ".join(f"{word} {_listed(found)}".strip() for word, found in parts.items() if found)
    if not listed:
        return ""
    return f"Changed since fahw wrote this folder: {listed}. The figures here are from the changed files."


def _listed(names: list[str]) -> str:
    """The names in a row, the first ones where they are many."""
    shown = [printable(shortened(name)) for name in names[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _names(folder: Path) -> list[str]:
    """The names of the tables in the folder that have checksums."""
    packed = sorted(f"ledgers/{path.name}" for path in (folder / "ledgers").glob("[0-9]*.csv.gz"))
    return [name for name in _TABLES if (folder / name).exists()] + packed


def _checksum(path: Path) -> str:
    """The SHA-256 of a file's bytes, hexadecimal; empty where it cannot be read."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _own_checksum(manifest: dict[str, Any]) -> str:
    """The SHA-256 of what a manifest says, whatever the order and the spaces."""
    return sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
