"""The tables of a run folder, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fahw.errors import ConfigError, Problem, check_kind, suggestion
from fahw.tables import read_csv


def frame(folder: str | Path, table: str = "summary") -> Any:
    """A table that `compare`, `sweep` or `report` wrote into `folder`, such as `summary`, `front`, `maps`, `ledger`.

    A pandas DataFrame where pandas is installed, else a dict of columns, each a list. Columns in which every cell is a
    number hold numbers; empty cells are None (NaN in pandas). Raises ConfigError where there is no such table.
    """
    check_kind("folder", folder, (str, Path), "the path of a run folder")
    check_kind("table", table, str, "the name of a table")
    path = Path(folder)
    tables = sorted(file.stem for file in path.glob("*.csv"))
    if not tables:
        raise ConfigError(Problem(str(path), "holds no tables: is this a folder that fahw wrote?"))
    if table not in tables:
        raise ConfigError(Problem("table", f"no table '{table}'{suggestion(table, tables)}; here: {', '.join(tables)}"))
    rows = read_csv(path / f"{table}.csv")
    columns = {name: _converted([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    try:
        import pandas
    except ImportError:
        return columns
    return pandas.DataFrame(columns)


def _converted(cells: list[str]) -> list[Any]:
    """The cells as integers or else as numbers, if all are; None for an empty cell."""
    for kind in (int, float):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]
