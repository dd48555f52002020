"""Chips from files or from the names of shipped files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fahw.config import yamltext
from fahw.config.files import find_file, load_file
from fahw.config.validate import Overrides
from fahw.errors import ConfigError, Problem
from fahw.hardware.chip import Chip
from fahw.hardware.energy_table import with_energy_table
from fahw.hardware.pinned_mapping import PINNED_LISTS, note_places, pinned_twice, read_pinned
from fahw.hardware.wiring import chip_problems, strict_problems


def load_chip(name: str | Path, overrides: Overrides | None = None) -> Chip:
    """The chip that a YAML file describes, `overrides` applied first.

    They are values, or YAML text, by dotted key: `{"precision.weight": 4}`.
    Raises ConfigError with every problem as file:line:col.
    """
    path = find_file(name, "hwconfigs", "chip")
    chip = load_file(path, Chip, overrides, chip_problems)
    return _completed(chip, path, Path() if "pinned_mappings" in (overrides or ()) else path.parent)


def check_chip(name: str | Path) -> Chip:
    """The chip that a YAML file describes, refused also where a form of transport that it lists cannot work.

    Raises ConfigError with every problem as file:line:col.
    """
    path = find_file(name, "hwconfigs", "chip")
    return _completed(load_file(path, Chip, None, strict_problems), path, path.parent)


def _completed(chip: Chip, path: Path, folder: Path) -> Chip:
    """The chip with what the files that it names hold. `folder`: where that of its pinned mappings lies. Raises
    ConfigError with every problem of them."""
    problems = list[Problem]()
    for complete in (with_energy_table, partial(_with_pinned, folder=folder)):
        try:
            chip = complete(chip, path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return chip


def _with_pinned(chip: Chip, path: Path, folder: Path) -> Chip:
    """The chip with the decisions of its file `pinned_mappings` after its own, each with its place."""
    if chip.pins_anything:
        note_places(yamltext.read(path), chip)
    if chip.pinned_mappings is None:
        return chip
    pinned = read_pinned(folder, chip.pinned_mappings)
    chip = chip.model_copy(update={name: (*getattr(chip, name), *getattr(pinned, name)) for name in PINNED_LISTS})
    if twice := [getattr(chip, str(key[0]))[key[1]].problem(message) for key, message in pinned_twice(chip)]:
        raise ConfigError(twice)
    return chip
