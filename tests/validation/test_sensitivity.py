"""docs/sensitivity.md says what is computed now, of every chip, and names every constant."""

import itertools
import re

import pytest

from fahw.units import fixed
from tests.support.strategies import ROOT
from tests.validation import sensitivity_page
from tests.validation.page import table
from tests.validation.sensitivity import CASES, CHIPS, EXTRA_NAMES, EXTRAS, OWN, Case, found
from tests.validation.sensitivity_page import PAGE, SOURCES, row, rows_of

SAMPLE = (
    Case("edge_dual", "mlp_mnist", 32), Case("edge_dual", "lenet5", 32), Case("edge_shared", "lenet5", 32),
    Case("dram_bound", "mlp_mnist", 32), Case("koo_transposable", "crossbar_mlp", 1), Case("spoon", "spoon_cnn", 1),
)  # fmt: skip


@pytest.mark.parametrize("case", SAMPLE)
def test_the_page_has_the_verdicts_that_are_computed(case):
    """Of some cases, every line that is there and no other."""
    moved = [one for one in found(case) if one.moves and one.of.constant not in EXTRA_NAMES]
    expected = table(("",), map(row, moved)).splitlines()[2:]
    assert rows_of(PAGE.read_text(encoding="utf-8"), case) == expected


@pytest.mark.long
def test_the_whole_page_is_what_is_computed():
    """Every number of it, those from simulating again included."""
    assert PAGE.read_text(encoding="utf-8") == sensitivity_page.render()


@pytest.mark.parametrize("case", SAMPLE)
def test_every_constant_has_its_source_on_the_page(case):
    """No constant that enters a verdict is missing from the list."""
    assert {one.of.constant for one in found(case)} <= set(SOURCES) | set(EXTRA_NAMES)


def test_every_shipped_chip_is_there():
    """A new chip file must come onto the page."""
    assert {path.stem for path in (ROOT / "hwconfigs").glob("*.yaml")} == set(CHIPS)
    assert {case.chip for case in CASES} == set(CHIPS)
    assert {chip for chip, _, _ in OWN} <= set(CHIPS)


def test_model_md_lists_what_is_priced_here_as_never_priced():
    """Names and sizes of what is never priced are those of docs/model.md section 8."""
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    for words in ("0.25 pJ (32 bits", "10 to 50 mW"):
        assert words in re.sub(r"\s+", " ", text)
    assert [fixed(extra.high, 2) for extra in EXTRAS] == ["0.50", "50.00"]


def column(text, heading, name):
    """The cells of a column of the first table below a heading."""
    lines = [line.strip("| ").split(" | ") for line in text.partition(f"\n## {heading}\n")[2].splitlines()]
    start = next(number for number, cells in enumerate(lines) if name in cells)
    rows = itertools.takewhile(lambda cells: len(cells) > 1, lines[start + 2 :])
    return [cells[lines[start].index(name)] for cells in rows]


def test_what_model_md_says_of_the_page():
    """Nothing that is never priced moves a saving of 4 % or more; no constant moves more verdicts than leakage."""
    text = PAGE.read_text(encoding="utf-8")
    assert max(abs(float(cell)) for cell in column(text, "What is never priced", "without")) < 4
    moved = dict(
        zip(column(text, "The constants", "constant"), map(int, column(text, "The constants", "moved")), strict=True)
    )
    assert max(moved, key=lambda name: moved[name]) == "SRAM leakage"
