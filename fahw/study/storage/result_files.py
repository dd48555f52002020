"""Result folders: written aside and renamed, so that a crash leaves no half-written file, and the same inputs give
the same bytes (no times, no host names)."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fahw.errors import ConfigError, Problem, check_path
from fahw.files import process_mark, remove_abandoned, write_text
from fahw.version import __version__

SUMMARY_COLUMNS = (
    "rule", "transport", "accuracy_pct_mean", "accuracy_pct_std", "seeds", "cycles_per_step", "interval_cycles",
    "energy_pj_per_step", "energy_pj_per_sample", "steps_to_target", "energy_to_target_j", "area_mm2", "area_used_mm2",
    "feedback_bits", "transported_bits_per_step", "micro_batch",
)  # fmt: skip
"""Columns that the summaries of comparisons and sweeps have in common."""
_FILE_ENDINGS, _FOLDERS = (
    (".json", ".csv", ".gz", ".html"),
    ("costs", "damaged", "ledgers", "plots", "runs", "unfinished"),
)
"""How names of result files end, and the names of the folders beside them."""


def canonical_json(value: Any) -> str:
    """The value as JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def content_key(value: Any) -> str:
    """A short name for a content: the first 20 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:20]


def make_folder(path: Path) -> Path:
    """Create an output folder, or clear it of what killed runs left half-written.

    Raises ConfigError where it cannot be created or written.
    """
    check_path("--out", path)
    if path == Path():
        raise ConfigError(Problem("--out", "name a folder of its own for the results"))
    try:
        path.mkdir(parents=True, exist_ok=True)
        _check_kinds(path)
        probe = path / f".probe.{process_mark()}"
        probe.touch()
        probe.unlink()
        remove_abandoned(path)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot write to this folder: {error.strerror}")) from None
    return path


def _check_kinds(folder: Path) -> None:
    """Raise ConfigError where a folder lies where a file of results goes, or a file where a folder of them goes: else
    it would show when all is computed."""
    for path in folder.iterdir():
        if path.suffix in _FILE_ENDINGS and path.is_dir():
            raise ConfigError(Problem(str(path), "is a folder, where a file of results goes: move it"))
        if path.name in _FOLDERS and not path.is_dir():
            raise ConfigError(Problem(str(path), "is no folder, where one of results goes: move it"))


@cache
def versions() -> dict[str, str]:
    """The versions of fahw, Python and the packages on which results may depend beside their inputs."""
    return {"fahw": __version__, "python": platform.python_version()} | {
        name: version(name) for name in ("torch", "numpy")
    }


def write_json(path: Path, value: Any) -> None:
    """Write a value as canonical JSON."""
    write_text(path, canonical_json(value))


def compact_json(value: Any) -> str:
    """The value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
