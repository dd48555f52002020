"""Chips, models and sweeps from files or from the names of shipped files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fahw.config import yamltext
from fahw.config.chip import Chip
from fahw.config.energy_table import with_energy_table
from fahw.config.model import Model
from fahw.config.sweep import Sweep, sweep_problems
from fahw.config.validate import Check, Overrides, Place, validate
from fahw.config.wiring import chip_problems, strict_problems
from fahw.errors import ConfigError, Problem, a_kind, suggestion

__all__ = [
    "Overrides", "Place", "check_chip", "chip_problems", "find", "kind_named", "kind_of", "load_chip",
    "load_model_file", "load_placed_sweep", "load_sweep", "shipped", "sweep_problems",
]  # fmt: skip

Schema = TypeVar("Schema", bound=BaseModel)
_FOLDERS = {"chip": "hwconfigs", "model": "models", "sweep": "examples"}
_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(folder: str) -> dict[str, Path]:
    """The shipped files of `folder` (`hwconfigs`, `models`, `examples`) by name: a wheel's, else the checkout's."""
    inside = _PACKAGE / "shipped" / folder
    root = inside if inside.is_dir() else _PACKAGE.parent / folder
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def find(name: str | Path, folder: str, what: str) -> Path:
    """A path as it is; else the shipped file of that name. Raises ConfigError with a suggestion."""
    a_kind(what, name, (str, Path), f"the name of a shipped {what} or the path of a file")
    path, files = Path(name), shipped(folder)
    try:
        if str(name) in files and not path.is_file():
            return files[str(name)]
        if (other := _shipped_as(str(name))) and not path.exists():
            raise ConfigError(Problem(str(name), f"is a {other}, not a {what}"))
        if path.suffix or len(path.parts) > 1 or path.exists():
            return path
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(name)[:60], f"cannot be a file: {error}")) from None
    known = ", ".join(files)
    raise ConfigError(Problem(str(name), f"no {what} of this name{suggestion(str(name), files)}; shipped: {known}"))


def _shipped_as(name: str) -> str:
    """What the shipped file of that name is; nothing where there is none."""
    return next((kind for kind, folder in _FOLDERS.items() if name in shipped(folder)), "")


def load_chip(name: str | Path, overrides: Overrides | None = None) -> Chip:
    """The chip that a YAML file describes, `overrides` applied first.

    They are values, or YAML text, by dotted key: `{"precision.weight": 4}`.
    Raises ConfigError with every problem as file:line:col.
    """
    path = find(name, "hwconfigs", "chip")
    return with_energy_table(_load(path, Chip, overrides, chip_problems), path)


def load_model_file(name: str | Path, overrides: Overrides | None, check: Check[Model]) -> Model:
    """The model that a YAML file describes, layers as written. Raises ConfigError with every problem, `check`'s too."""
    return _load(find(name, "models", "model"), Model, overrides, check)


def check_chip(name: str | Path) -> Chip:
    """As `load_chip`, and refused too where the forms of transport that it lists cannot work."""
    path = find(name, "hwconfigs", "chip")
    return with_energy_table(_load(path, Chip, None, strict_problems), path)


def load_sweep(path: str | Path) -> Sweep:
    """The sweep that a YAML file describes. Raises ConfigError with every problem."""
    return _load(find(path, "examples", "sweep"), Sweep, None, sweep_problems)


def load_placed_sweep(path: str | Path) -> tuple[Sweep, Place]:
    """The sweep of a file, and where its keys and values stand. What the schema cannot see is left to
    `fahw.study.grid.checked`, which says it together with what is wrong with the chips and models."""
    value = _load(find(path, "examples", "sweep"), Sweep, None, _of_damaged)
    document = yamltext.read(find(path, "examples", "sweep"))
    return value, lambda key: document.place(key, of_key=len(key) > 1 and key[0] == "set")


def _of_damaged(sweep: Sweep, place: Place) -> Iterator[Problem]:
    """The problems of a sweep with parts that cannot be read, which goes no further."""
    return iter(()) if type(sweep) is Sweep else sweep_problems(sweep, place)


def kind_of(path: Path) -> str:
    """`chip`, `model` or `sweep`, told by the keys at the top of the file."""
    shares = _shares(yamltext.read(path).value)
    best = max(shares, key=lambda kind: shares[kind])
    if not shares[best]:
        message = "neither a chip (arrays, memories), a model (layers, input) nor a sweep (grid, zip, random)"
        raise ConfigError(Problem(f"{path}:1:1", message))
    return best


def kind_named(name: str) -> str:
    """The kind of a file or of a shipped name; nothing where that cannot be told."""
    try:
        return kind_of(Path(name)) if Path(name).exists() else _shipped_as(name)
    except (ConfigError, OSError, ValueError):
        return ""


def _shares(value: Any) -> dict[str, float]:
    """By kind, how much of what only such a file has at its top is there."""
    keys = set(value) if isinstance(value, dict) else set()
    axes = ({"grid", "zip", "random", "search"} & keys) or {"grid"}
    own = {"chip": {"arrays", "memories", "clock_mhz"}, "model": {"layers", "input"}, "sweep": axes}
    return {kind: len(marks & keys) / len(marks) for kind, marks in own.items()}


def _load(path: Path, schema: type[Schema], overrides: Overrides | None, check: Check[Schema]) -> Schema:
    document, wanted = yamltext.read(path), schema.__name__.lower()
    shares = _shares(document.value)
    if not shares[wanted] and (others := [kind for kind in shares if shares[kind] > 0.5]):
        raise ConfigError(Problem(str(path), f"is a {others[0]}, not a {wanted}"))
    return validate(document, schema, overrides, wanted, check)
