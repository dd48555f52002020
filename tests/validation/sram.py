"""The SRAM estimate on rows of its table that it does not know."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fahw.technology import sram as module
from fahw.technology.sram import sram
from tests.support.strategies import ROOT
from tests.validation.page import table

TITLE = "SRAM table"
SLOW = True
TABLE = ROOT / "fahw" / "data" / "cacti7_sram.csv"
QUANTITIES = {"read_pj": "read", "write_pj": "write", "leak_mw": "leakage", "area_mm2": "area"}
SEEDS = range(200)
Row = dict[str, str]


def contents() -> tuple[list[str], list[Row]]:
    """Comments and rows of the shipped table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")], list(csv.DictReader(x for x in lines if x[0] != "#"))


def key(row: Row) -> tuple[int, int, int, str]:
    """Arguments of `sram` for a row."""
    return int(row["size_bytes"]), int(row["word_bits"]), int(row["node_nm"]), row["device"]


@contextmanager
def knowing(rows: Iterable[Row]) -> Iterator[None]:
    """As long as this lasts, `sram` knows only `rows` of the table."""
    comments, all_rows = contents()
    original = module.tables.files
    with TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        lines = [*comments, ",".join(all_rows[0]), *(",".join(row.values()) for row in rows)]
        (Path(folder) / "data" / TABLE.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        module.tables.files = lambda package: Path(folder)  # type: ignore[assignment,return-value]
        _forget()
        try:
            yield
        finally:
            module.tables.files = original
            _forget()


def _forget() -> None:
    for cached in (module._tables, module._kriging, module.sram, module.sram_estimate):
        cached.cache_clear()


def errors_of_thirds(seed: int) -> Iterator[tuple[list[Row], dict[str, list[float]]]]:
    """Each third of a random split of the rows, with the relative errors per quantity when `sram` knows the others."""
    rows = contents()[1]
    part = np.random.default_rng(seed).permutation(len(rows)) % 3
    for left_out in range(3):
        unknown = [row for row, number in zip(rows, part, strict=True) if number == left_out]
        with knowing([row for row, number in zip(rows, part, strict=True) if number != left_out]):
            yield (
                unknown,
                {
                    name: [abs(getattr(sram(*key(row)), name) / float(row[name]) - 1) for row in unknown]
                    for name in QUANTITIES
                },
            )


def exact_rows() -> tuple[int, int]:
    """Rows that are given back to the last bit, and all rows."""
    rows = contents()[1]
    same = [all(getattr(sram(*key(row)), name) == float(row[name]) for name in QUANTITIES) for row in rows]
    return sum(same), len(rows)


def section() -> str:
    """The worst median, 95th percentile and maximum over all thirds."""
    thirds = [third for seed in SEEDS for third in errors_of_thirds(seed)]
    rows = [
        [
            title,
            *(_percent(max(float(np.percentile(errors[name], share)) for _, errors in thirds)) for share in _SHARES),
        ]
        for name, title in QUANTITIES.items()
    ]
    exact, count = exact_rows()
    largest = sorted(
        (
            (error, _at_border(row))
            for unknown, errors in thirds
            for name in QUANTITIES
            for row, error in zip(unknown, errors[name], strict=True)
        ),
        reverse=True,
    )[: 4 * len(thirds)]
    return _TEXT.format(
        exact=exact,
        count=count,
        thirds=len(thirds),
        table=table(_HEAD, rows),
        border=_percent(sum(map(_at_border, contents()[1])) / count, 0),
        worst=_percent(sum(at_border for _, at_border in largest) / len(largest), 0),
    )


def _percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f} %"


def _at_border(row: Row) -> bool:
    size, bits = key(row)[:2]
    return size in (1024, 8 << 20) or bits in (8, 256)


_SHARES = (50, 95, 100)
_HEAD = ("quantity", "median", "95th percentile", "maximum")
_TEXT = """\
{exact} of the {count} memories that CACTI 7 computed (`fahw/data/cacti7_sram.csv`) are given back to the last
bit. Between them the estimate is interpolated. How well is shown by memories that it does not know: a random
third of the rows is left out, and estimated from the rest. Of {thirds} such thirds, the worst figures of each
kind:

{table}

Of the largest one in {count} errors {worst} are at the border of the table (smallest, largest, narrowest,
widest), where {border} of the rows are: what is left out there has known rows on one side only.
"""
