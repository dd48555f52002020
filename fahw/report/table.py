"""Tables as values, ready for the template: columns with units, cells with the exact value behind the shown one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of a table. `key` names the quantity, `hint` explains it."""

    head: str
    unit: str = ""
    number: bool = False
    key: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell. `value`: the exact value as the run folder has it; `best`: of its column; `span`: how many columns it
    fills."""

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
    """A table with its caption. `heads`: how many leading columns name the row. `notes` stand below it."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    heads: int = 1
    notes: tuple[str, ...] = field(default=())


def text_row(*texts: str, tag: str = "") -> Row:
    """A row of plain cells; a dash is muted."""
    return Row(tuple(Cell(text, muted=text == "–") for text in texts), tag)


def records_table(
    name: str, caption: str, records: Sequence[Any], columns: Sequence[tuple[Column, Callable[[Any], str]]]
) -> Table | None:
    """A table with a row per record and a cell per column; None without records. Columns that are empty in every row
    are left out."""
    rows = [[show(record) for _, show in columns] for record in records]
    filled = [index for index, _ in enumerate(columns) if any(row[index] not in ("", "–") for row in rows)]
    if not rows:
        return None
    heads = tuple(columns[index][0] for index in filled)
    body = tuple(text_row(*(row[index] or "–" for index in filled)) for row in rows)
    return Table(name, caption, heads, body, 0 if heads[0].number else 1)


def merged_name(names: Sequence[str], every: Sequence[str]) -> str:
    """A short head for columns `rule form`: `bp, usf copy/write_through` where all of bp's columns are among them."""
    forms: dict[str, list[str]] = {}
    for name in names:
        rule, _, form = name.partition(" ")
        forms.setdefault(rule, []).append(form)
    complete = {rule for rule in forms if {label for label in every if label.partition(" ")[0] == rule} <= set(names)}
    parts = [
        rule if rule in complete and len(forms_of_rule) > 1 else f"{rule} {'/'.join(forms_of_rule)}"
        for rule, forms_of_rule in forms.items()
    ]
    return ", ".join(part.strip() for part in parts)


def pivot(
    name: str,
    caption: str,
    heads: Sequence[str],
    columns: Sequence[tuple[str, Mapping[tuple[str, ...], str]]],
    rows: Sequence[tuple[str, ...]],
    notes: tuple[str, ...] = (),
) -> Table | None:
    """A table with rows by `heads` and a column per name; columns with the same cells are merged. None without rows."""
    if not rows or not columns:
        return None
    labels = [label for label, _ in columns]
    merged: list[tuple[list[str], Mapping[tuple[str, ...], str]]] = []
    for label, cells in columns:
        same_cells = next((item for item in merged if item[1] == cells), None)
        if same_cells:
            same_cells[0].append(label)
        else:
            merged.append(([label], cells))
    head = tuple(Column(text) for text in heads) + tuple(
        Column(merged_name(names, labels), number=True) for names, _ in merged
    )
    body = tuple(
        text_row(*row, *(cells.get(row, "–") for _, cells in merged), tag="total" if "total" in row else "")
        for row in rows
    )
    return Table(name, caption, head, body, len(heads), notes)
