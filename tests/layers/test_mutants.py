"""That the tests of costs notice every changed count: mutants of layers, optimizers and phases, made one at a time."""

import subprocess
import sys

import pytest

from tests.support.mutants import mutants
from tests.support.strategies import ROOT


def survivors(*arguments):
    """The lines of the mutants that no test noticed, and the last line, of a run in a process of its own."""
    command = [sys.executable, "-m", "tests.support.mutants", *arguments]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if line.startswith("SURVIVED")], lines[-1]


def test_a_few_mutants_are_noticed():
    """Four, drawn with a fixed seed from more than a hundred; their names are unique."""
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names) > 100
    assert survivors("--sample", "4") == ([], "4 mutants, 4 noticed, 0 survived")


@pytest.mark.long
def test_all_mutants_are_noticed():
    """Every count, by one factor: about ten minutes."""
    lines, summary = survivors()
    assert lines == []
    assert summary.endswith("0 survived")
