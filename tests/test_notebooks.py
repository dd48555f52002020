"""The notebooks run, and the pages of docs/studies are made from them."""

import json
import os
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
PAGES = ROOT / "docs" / "studies"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def name_of(path):
    return path.stem


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["how_few_bits", "many_cores", "saves_energy", "what_decides"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_kept_without_outputs(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_page_has_the_text_and_code_of_its_notebook(notebook):
    """In order; otherwise `make studies` has not been run."""
    page, at = (PAGES / f"{notebook.stem}.md").read_text(), 0
    for cell in json.loads(notebook.read_text())["cells"]:
        source = "".join(cell["source"])
        found = page.find(source, at)
        assert found >= 0, f"not in the page: {source[:80]}"
        at = found + len(source)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_page_has_its_figures_and_no_others(notebook):
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (PAGES / f"{notebook.stem}.md").read_text())
    assert shown
    assert sorted(shown) == sorted(path.name for path in PAGES.glob(f"{notebook.stem}_*.svg"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(notebook, tmp_path):
    """From start to end, into a page that says what the one that is kept says."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    words = [sys.executable, str(notebook.parent / "render.py"), notebook.stem, "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("*.svg"))) == len(list(PAGES.glob(f"{notebook.stem}_*.svg")))
    made, kept = ((folder / f"{notebook.stem}.md").read_text() for folder in (tmp_path, PAGES))
    assert far_apart(made, kept) == [], "run `make studies`"


def far_apart(made, kept):
    """Lines of two pages that differ in words, or in a number by more than two percent and more than a rounding."""
    pairs = zip_longest(made.splitlines(), kept.splitlines(), fillvalue="")
    return [pair for pair in pairs if NUMBER.sub("#", pair[0]) != NUMBER.sub("#", pair[1]) or not near(*pair)]


def near(made, kept):
    pairs = zip(
        *([float(found.replace(",", "")) for found in NUMBER.findall(line)] for line in (made, kept)), strict=True
    )
    return all(abs(a - b) <= max(0.11, 0.02 * max(abs(a), abs(b))) for a, b in pairs)


def test_pages_with_other_numbers_are_told_apart():
    """A control of the comparison: a rounding passes, three percent or another word does not."""
    assert far_apart("| 4 | 2,800,640 | 1.06 |", "| 4 | 2,801,000 | 1.07 |") == []
    assert far_apart("| 4 | 2,800,640 |", "| 4 | 2,900,000 |") != []
    assert far_apart("The best: dfa.", "The best: bp.") != []
