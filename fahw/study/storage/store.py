"""A store: results by the content that they depend on, which any number of sweeps may share at the same time.

store.json          the layout's version
costs/*.jsonl       costs, append-only, a file per process
runs/KEY/           a training: result.json and manifest.json, written aside and renamed
damaged/            what was found damaged, set aside
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from fahw.errors import ConfigError, Problem
from fahw.files import is_abandoned, process_mark, read_text, write_text
from fahw.stored_json import StoredJsonError, json_value, read_json
from fahw.study.storage.line_file import LineFile, read_lines
from fahw.study.storage.result_files import canonical_json, compact_json, make_folder, write_json

LAYOUT = 2
_ASIDE_NUMBERS = count()


class Store:
    """The stored results in a folder. Raises ConfigError where another version of fahw laid it out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._costs = LineFile(folder / "costs")
        marker = folder / "store.json"
        if marker.exists():
            content = read_json(marker)
            layout = content.get("layout") if isinstance(content, dict) else None
            if layout != LAYOUT:
                message = f"a store of layout {layout}; this version of fahw reads and writes layout {LAYOUT}"
                raise ConfigError(Problem(str(marker), f"{message}: use another folder, or that version"))
        make_folder(folder)
        if not marker.exists():
            write_json(marker, {"layout": LAYOUT})
        self._remove_unfinished()

    def costs(self, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Keys and values of the stored costs among `wanted`."""
        return read_lines(self.folder / "costs", wanted)

    def add_costs(self, lines: Sequence[tuple[str, str]]) -> None:
        """Store costs as (key, JSON text). Raises OSError where they cannot be written."""
        self._costs.append(lines)

    def run_path(self, key: str) -> Path:
        """The folder of a training."""
        return self.folder / "runs" / key

    def run(self, key: str) -> Any:
        """The stored result of a training. Raises ConfigError where it is missing or damaged."""
        path = self.run_path(key)
        manifest, text = read_json(path / "manifest.json"), read_text(path / "result.json")
        digest = manifest.pop("sha256", None) if isinstance(manifest, dict) else None
        if digest != _sha256(canonical_json(manifest) + text):
            raise ConfigError(Problem(str(path), "the result is not the one that was stored: damaged"))
        try:
            return json_value(text)
        except StoredJsonError as error:
            raise ConfigError(Problem(str(path), f"the result cannot be read as JSON: {error}")) from None

    def add_run(self, key: str, result: Any, manifest: dict[str, Any]) -> None:
        """Store a training, whole or not at all; one that another process has stored meanwhile stays."""
        path = self.run_path(key)
        if path.exists():
            return
        aside = path.with_name(f".{key}.{next(_ASIDE_NUMBERS)}.{process_mark()}")
        try:
            text = compact_json(result)
            write_text(aside / "result.json", text)
            write_json(aside / "manifest.json", manifest | {"sha256": _sha256(canonical_json(manifest) + text)})
            aside.rename(path)
        except OSError:
            if not path.exists():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def set_aside(self, key: str) -> None:
        """Move a damaged training to `damaged/`."""
        target = self.folder / "damaged"
        target.mkdir(exist_ok=True)
        number = next(candidate for candidate in count(1) if not (target / f"{key}-{candidate}").exists())
        with suppress(FileNotFoundError):  # another process has moved it
            self.run_path(key).rename(target / f"{key}-{number}")

    def close(self) -> None:
        """Close the file that costs are appended to."""
        self._costs.close()

    def _remove_unfinished(self) -> None:
        """Remove what killed processes of this machine left half-written."""
        for path in (self.folder / "runs").glob(".*"):
            if is_abandoned(path.name):
                shutil.rmtree(path, ignore_errors=True)


def _sha256(text: str) -> str:
    """The SHA-256 of a text, as hexadecimal digits."""
    return sha256(text.encode()).hexdigest()
