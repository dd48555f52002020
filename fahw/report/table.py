"""Tables as values, ready for the template: columns with units, cells with the exact value behind the shown one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column. `key` names the quantity, `hint` explains it."""

    head: str
    unit: str = ""
    number: bool = False
    key: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """`value`: the exact value as the run folder has it; `best`: of its column; `span`: how many columns it fills."""

    text: str
    value: str = ""
    best: bool = False
    span: int = 1
    muted: bool = False


@dataclass(frozen=True)
class Row:
    """A row; `tag` is a word that marks it, such as `baseline`."""

    cells: tuple[Cell, ...]
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table. `heads`: how many leading columns name the row. `notes` stand below it."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    heads: int = 1
    notes: tuple[str, ...] = field(default=())


def text_row(*texts: str, tag: str = "") -> Row:
    """A row of plain cells."""
    return Row(tuple(Cell(text, muted=text == "–") for text in texts), tag)


def records_table(
    name: str, caption: str, records: Sequence[Any], columns: Sequence[tuple[Column, Callable[[Any], str]]]
) -> Table | None:
    """A row per record, a cell per column; None without records. Columns that are empty in every row are left out."""
    rows = [[show(record) for _, show in columns] for record in records]
    kept = [i for i, _ in enumerate(columns) if any(row[i] not in ("", "–") for row in rows)]
    if not rows:
        return None
    heads = tuple(columns[i][0] for i in kept)
    body = tuple(text_row(*(row[i] or "–" for i in kept)) for row in rows)
    return Table(name, caption, heads, body, 0 if heads[0].number else 1)


def merged_name(names: Sequence[str], every: Sequence[str]) -> str:
    """A short head for columns `rule form`: `bp, usf copy/write_through` where all of bp's columns are among them."""
    forms: dict[str, list[str]] = {}
    for name in names:
        rule, _, form = name.partition(" ")
        forms.setdefault(rule, []).append(form)
    whole = {rule for rule in forms if {n for n in every if n.partition(" ")[0] == rule} <= set(names)}
    parts = [rule if rule in whole and len(found) > 1 else f"{rule} {'/'.join(found)}" for rule, found in forms.items()]
    return ", ".join(part.strip() for part in parts)


def pivot(
    name: str,
    caption: str,
    heads: Sequence[str],
    columns: Sequence[tuple[str, Mapping[tuple[str, ...], str]]],
    rows: Sequence[tuple[str, ...]],
    notes: tuple[str, ...] = (),
) -> Table | None:
    """Rows by `heads`, a column per name; columns with the same cells are merged into one. None without rows."""
    if not rows or not columns:
        return None
    every = [label for label, _ in columns]
    merged: list[tuple[list[str], Mapping[tuple[str, ...], str]]] = []
    for label, cells in columns:
        twin = next((item for item in merged if item[1] == cells), None)
        if twin:
            twin[0].append(label)
        else:
            merged.append(([label], cells))
    head = tuple(Column(text) for text in heads) + tuple(
        Column(merged_name(names, every), number=True) for names, _ in merged
    )
    body = tuple(
        text_row(*row, *(cells.get(row, "–") for _, cells in merged), tag="total" if "total" in row else "")
        for row in rows
    )
    return Table(name, caption, head, body, len(heads), notes)
