"""The SRAM estimate on rows of its table that it does not know."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fahw.technology import sram as module
from fahw.technology import sram_tables
from fahw.technology.sram import sram
from tests.support.strategies import ROOT
from tests.validation.page import table

TITLE = "SRAM table"
SLOW = True
TABLES = {name: ROOT / "fahw" / "data" / f"cacti7_{name}.csv" for name in ("sram", "mixed")}
QUANTITIES = {"read_pj": "read", "write_pj": "write", "leak_mw": "leakage", "area_mm2": "area"}
SEEDS = range(200)
Row = dict[str, str]


def contents(name: str = "sram") -> list[Row]:
    """Rows of a shipped table: of devices of one type (`sram`), or of mixtures (`mixed`)."""
    lines = TABLES[name].read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(x for x in lines if x[0] != "#"))


def all_rows() -> list[Row]:
    """The rows of both tables."""
    return [row for name in TABLES for row in contents(name)]


def key(row: Row) -> tuple[int, int, int, str, None, str]:
    """Arguments of `sram` for a row."""
    numbers = (int(row[name]) for name in ("size_bytes", "word_bits", "node_nm"))
    size_bytes, word_bits, node_nm = numbers
    return size_bytes, word_bits, node_nm, row["device"], None, row.get("cells", row["device"])


@contextmanager
def knowing(rows: Iterable[Row]) -> Iterator[None]:
    """As long as this lasts, `sram` knows only `rows` of the tables."""
    known = list(rows)
    original = sram_tables.tables.files
    with TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        for name, path in TABLES.items():
            of_table = [row for row in known if ("cells" in row) == (name == "mixed")]
            lines = [",".join(contents(name)[0]), *(",".join(row.values()) for row in of_table)]
            (Path(folder) / "data" / path.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        sram_tables.tables.files = lambda package: Path(folder)  # type: ignore[assignment,return-value]
        _forget()
        try:
            yield
        finally:
            sram_tables.tables.files = original
            _forget()


def _forget() -> None:
    kriging = (sram_tables._tables, sram_tables._leakage, sram_tables._energies_and_area)
    for cached in (*kriging, module.sram, module.sram_estimate):
        cached.cache_clear()


Errors = dict[str, list[float]]


def errors_of_parts(seed: int, parts: int, name: str) -> Iterator[tuple[list[Row], Errors]]:
    """Each part of a random split of a table's rows, with the relative errors per quantity when `sram` knows the
    others, and all of the other table."""
    rows, others = contents(name), [row for other in TABLES if other != name for row in contents(other)]
    part = np.random.default_rng(seed).permutation(len(rows)) % parts
    for left_out in range(parts):
        unknown = [row for row, number in zip(rows, part, strict=True) if number == left_out]
        with knowing([*(row for row, number in zip(rows, part, strict=True) if number != left_out), *others]):
            yield (
                unknown,
                {
                    quantity: [abs(getattr(sram(*key(row)), quantity) / float(row[quantity]) - 1) for row in unknown]
                    for quantity in QUANTITIES
                },
            )


def errors_of_thirds(seed: int) -> Iterator[tuple[list[Row], Errors]]:
    """Each third of a random split of the rows of devices of one type, and its errors."""
    yield from errors_of_parts(seed, 3, "sram")


def exact_rows() -> tuple[int, int]:
    """Rows that are given back to the last bit, and all rows."""
    rows = all_rows()
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
        one_in=len(contents()),
        thirds=len(thirds),
        table=table(_HEAD, rows),
        mixed=table(_HEAD, _mixed_rows()),
        border=_percent(sum(map(_at_border, contents())) / len(contents()), 0),
        worst=_percent(sum(at_border for _, at_border in largest) / len(largest), 0),
    )


def mixed_errors(seed: int, parts: int = 9) -> Errors:
    """The errors of all mixtures, each estimated without a random part of them that it is in."""
    found = [errors for _, errors in errors_of_parts(seed, parts, "mixed")]
    return {name: [error for errors in found for error in errors[name]] for name in QUANTITIES}


def _mixed_rows() -> list[list[str]]:
    splits = [mixed_errors(seed) for seed in range(3)]
    return [
        [title, *(_percent(max(float(np.percentile(errors[name], share)) for errors in splits)) for share in _SHARES)]
        for name, title in QUANTITIES.items()
    ]


def _percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f} %"


def _at_border(row: Row) -> bool:
    size, bits = key(row)[:2]
    return size in (1024, 8 << 20) or bits in (8, 256)


_SHARES = (50, 95, 100)
_HEAD = ("quantity", "median", "95th percentile", "maximum")
_TEXT = """\
{exact} of the {count} memories that CACTI 7 computed (`fahw/data/cacti7_sram.csv`, and cells of one type in a
periphery of another, `cacti7_mixed.csv`) are given back to the last bit. Between them the estimate is
interpolated. How well is shown by memories that it does not know: a random third of the rows of one type is left
out, and estimated from the rest. Of {thirds} such thirds, the worst figures of each kind:

{table}

Leakage of mixtures steps by two where CACTI divides a bank otherwise. A ninth of their rows left out, three splits:

{mixed}

Of the largest one in {one_in} errors {worst} are at the border of the table (smallest, largest, narrowest,
widest), where {border} of the rows are: what is left out there has known rows on one side only.
"""
