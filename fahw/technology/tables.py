"""The CSV tables that fahw ships: comment lines start with `#`."""

from __future__ import annotations

import csv
from importlib.resources import files


def rows(name: str) -> list[dict[str, str]]:
    """The rows of `fahw/data/<name>.csv`, each a mapping from column to text."""
    text = files("fahw").joinpath(f"data/{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
