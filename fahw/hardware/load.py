"""Chips from files or from the names of shipped files."""

from __future__ import annotations

from pathlib import Path

from fahw.config.files import find_file, load_file
from fahw.config.validate import Overrides
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import with_energy_table
from fahw.hardware.wiring import chip_problems, strict_problems


def load_chip(name: str | Path, overrides: Overrides | None = None) -> Chip:
    """The chip that a YAML file describes, `overrides` applied first.

    They are values, or YAML text, by dotted key: `{"precision.weight": 4}`.
    Raises ConfigError with every problem as file:line:col.
    """
    path = find_file(name, "hwconfigs", "chip")
    return with_energy_table(load_file(path, Chip, overrides, chip_problems), path)


def check_chip(name: str | Path) -> Chip:
    """The chip that a YAML file describes, refused also where a form of transport that it lists cannot work.

    Raises ConfigError with every problem as file:line:col.
    """
    path = find_file(name, "hwconfigs", "chip")
    return with_energy_table(load_file(path, Chip, None, strict_problems), path)
