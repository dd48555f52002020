"""What all tests share: one torch thread, and examples that do not depend on the machine's speed."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import settings

from fahw.cli.main import main
from fahw.work.plan.search import known_plans

torch.set_num_threads(1)
settings.register_profile("fahw", deadline=None, derandomize=True)
settings.load_profile("fahw")


@pytest.fixture(autouse=True)
def no_plans_of_other_tests():
    """Every test searches by itself: another one may have changed how."""
    known_plans.cache_clear()


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fahw", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run
