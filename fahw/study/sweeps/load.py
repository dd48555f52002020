"""Sweeps from files or from the names of shipped files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fahw.config import yamltext
from fahw.config.files import find_file, load_file
from fahw.config.sweep import Sweep, sweep_problems
from fahw.config.validate import Place
from fahw.errors import Problem


def load_sweep(path: str | Path) -> Sweep:
    """The sweep that a YAML file describes. Raises ConfigError with every problem."""
    return load_file(find_file(path, "examples", "sweep"), Sweep, None, sweep_problems)


def load_placed_sweep(path: str | Path) -> tuple[Sweep, Place]:
    """The sweep of a file, and a function that says where its keys and values stand. What the schema cannot see is left
    to `fahw.study.sweeps.setups.checked_builder`, which says it together with what is wrong with the chips and
    models."""
    value = load_file(find_file(path, "examples", "sweep"), Sweep, None, _problems_unless_partial)
    document = yamltext.read(find_file(path, "examples", "sweep"))
    return value, lambda key: document.place(key, of_key=len(key) > 1 and key[0] == "set")


def _problems_unless_partial(sweep: Sweep, place: Place) -> Iterator[Problem]:
    """The problems of a sweep of which parts cannot be read; none for a whole one, whose problems are found later."""
    return iter(()) if type(sweep) is Sweep else sweep_problems(sweep, place)
